"""Mask ranking: known values, no overflow, pairs over the whole image, and the published values."""

import math

import pytest
import torch

from losses._draws import generator_for
from losses.mask_ranking import Draws, MaskRanking, raster_pairs
from structures import Batch, Prediction
from tests.scdepth_goldens import ScDepthGolden, predicted_pair, tensor, uniform
from utils import InputError

SIZE = (40, 56)


def pairs(first, second, count=1):
    """No pair of moving pixels, and the given ones."""
    return Draws(torch.zeros(count, 0, dtype=torch.int64), torch.tensor([first]), torch.tensor([second]))


def test_published_loss_is_met_with_the_published_pairs():
    golden = ScDepthGolden("scdepth_mask_ranking")
    golden.prefix = "B/scdepth_mask_ranking"
    depth = golden.map("pred", SIZE, 1, 7).requires_grad_()
    weight = tensor(uniform("B/scdepth_mask_ranking/mask", (2, 1, *SIZE), 0.2, 1))
    chosen = golden["global_uniform"].flatten() >= 0.9
    first, second = raster_pairs(chosen, golden["global_permutation"].long())
    partner = torch.stack([golden["partner_0"], golden["partner_1"]]).long()
    term = MaskRanking(published_difference=True)
    loss = term.rank(depth, golden.map("pseudo", SIZE, 1, 7), weight, Draws(partner, first, second))
    golden.close("loss", loss)
    loss.backward()
    golden.close("grad_pred", depth.grad)


def test_one_pair_has_its_closed_form():
    depth, pseudo = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[4.0, 2.0]]]])
    for term, difference in (
        (MaskRanking(published_difference=True), 2.0),
        (MaskRanking(), math.log(3) / math.log(1.15)),
    ):
        loss = term.rank(depth, pseudo, torch.ones(1, 1, 1, 2), pairs([0], [1]))
        assert loss.item() == pytest.approx(math.log(1 + math.exp(-difference)))
        wrong = term.rank(depth, pseudo.flip(-1), torch.ones(1, 1, 1, 2), pairs([0], [1]))
        assert wrong.item() == pytest.approx(math.log(1 + math.exp(difference)))


def test_the_unit_of_depth_changes_only_the_published_loss():
    torch.manual_seed(0)
    depth, pseudo = torch.rand(1, 1, 1, 40) + 0.1, torch.rand(1, 1, 1, 40) + 0.1
    some = pairs(list(range(20)), list(range(20, 40)))
    for published, same in ((False, True), (True, False)):
        term = MaskRanking(published_difference=published)
        losses = [term.rank(scale * depth, pseudo, torch.ones(1, 1, 1, 40), some) for scale in (1, 10)]
        assert torch.allclose(*losses) == same


def test_a_depth_of_100_does_not_overflow():
    depth = torch.tensor([[[[1e4, 0.1]]]], requires_grad=True)
    pseudo = torch.tensor([[[[1.0, 2.0]]]])
    term = MaskRanking(published_difference=True)
    loss = term.rank(depth, pseudo, torch.ones(1, 1, 1, 2), pairs([0], [1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4, rel=1e-3) and depth.grad.isfinite().all()


@pytest.mark.parametrize("pseudo", [[1.0, 1.1], [0.0, 2.0], [float("nan"), 2.0], [float("inf"), 2.0]])
def test_similar_or_unknown_pairs_are_left_out(pseudo):
    depth = torch.tensor([[[[3.0, 1.0]]]], requires_grad=True)
    loss = MaskRanking().rank(depth, torch.tensor([[[pseudo]]]), torch.ones(1, 1, 1, 2), pairs([0], [1]))
    loss.backward()
    assert loss == 0 and not depth.grad.any()


def test_each_moving_pixel_is_paired_with_a_static_one():
    weight = torch.ones(1, 1, 10, 10)
    weight[..., :2, :] = 0.1  # the least consistent fifth
    depth = torch.ones(1, 1, 10, 10, requires_grad=True)
    pseudo = torch.ones(1, 1, 10, 10)
    pseudo[..., :2, :] = 2.0  # known to be farther
    term = MaskRanking()
    draws = term.draw(depth, torch.Generator().manual_seed(0))
    draws.first = draws.second = torch.zeros(1, 1, dtype=torch.int64)
    term.rank(depth, pseudo, weight, draws).backward()
    assert (depth.grad[..., :2, :] < 0).all() and (depth.grad[..., 2:, :] >= 0).all()


def test_pixels_of_equal_weight_are_chosen_at_random():
    depth, pseudo = torch.ones(1, 1, 40, 10, requires_grad=True), torch.ones(1, 1, 40, 10)
    pseudo[..., 5:] = 2.0
    term = MaskRanking()
    draws = term.draw(depth, torch.Generator().manual_seed(0))
    draws.first = draws.second = torch.zeros(1, 1, dtype=torch.int64)
    draws.partner = torch.zeros_like(draws.partner)  # one partner: all other gradients are of moving pixels
    term.rank(depth, pseudo, torch.ones(1, 1, 40, 10), draws).backward()
    rows = depth.grad.abs().sum((0, 1, 3)) > 0
    assert rows[:20].sum() > 5 and rows[20:].sum() > 5


@pytest.mark.parametrize(("published", "far"), [(False, True), (True, False)])
def test_random_partners_are_far_apart_unless_published(published, far):
    draws = MaskRanking(published_pairs=published).draw(
        torch.ones(1, 1, 64, 96), torch.Generator().manual_seed(0)
    )
    rows = (draws.first // 96 - draws.second // 96).abs().float().mean()
    assert (rows > 15) if far else (rows < 6)


@pytest.fixture
def scene(drawn_batch):
    poses = {pair: torch.eye(4).repeat(2, 1, 1) for pair in ((-1, 0), (1, 0), (0, -1), (0, 1))}
    depths = {frame: torch.full((2, 1, 64, 96), 5.0, requires_grad=True) for frame in (0, -1, 1)}
    maps = {"pseudo_depth": torch.linspace(1, 9, 96).expand(2, 1, 64, 96)}
    return Batch(drawn_batch.images, drawn_batch.intrinsics, drawn_batch.index, maps=maps), depths, poses


def test_the_same_draws_give_the_same_pairs(scene):
    batch, depths, poses = scene
    numbers = torch.rand(2, 5, dtype=torch.float64)
    values = []
    for draws in (numbers, numbers.clone(), numbers + 0.1):
        batch.extra = {"draws": draws}
        torch.rand(7)  # other users of the global generator change nothing
        values.append(MaskRanking().draw(depths[0], generator_for(batch, "mask_ranking")).first)
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert MaskRanking()(batch, predicted_pair(depths, poses)).item() == pytest.approx(math.log(2))


def test_depth_of_another_size_is_refused(scene):
    batch, _, _ = scene
    with pytest.raises(InputError, match="pseudo-depth's size, 64 x 96, got 32 x 48; set --scales 0"):
        MaskRanking()(batch, Prediction({}, {0: torch.ones(2, 1, 32, 48)}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"unreliable": 1.0}, r"unreliable is a share in \(0, 1\), got 1.0"),
        ({"pairs": 0.0}, r"pairs is a share in \(0, 1\), got 0.0"),
        ({"ratio": 1.0}, "ratio must be above 1, got 1.0; 1.15 is published"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        MaskRanking(**settings)
