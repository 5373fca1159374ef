"""Supervised depth: zero on the ground truth, known values otherwise, PackNet's values as an option."""

import math

import numpy as np
import pytest
import torch

from losses.supervised_depth import ERRORS, SupervisedDepth
from structures import Batch, Prediction
from tests.goldens import Golden, image, tensor, uniform
from utils import InputError

CASE = "packnet_supervised"


def scene(known, *depths):
    """A batch with ground truth (h, w) and predictions of scales 0, 1, ..."""
    known = torch.as_tensor(known, dtype=torch.float32)[None, None]
    batch = Batch({}, torch.eye(3)[None], torch.zeros(1), maps={"depth": known})
    maps = [torch.as_tensor(depth, dtype=torch.float32)[None, None] for depth in depths]
    return batch, Prediction({}, depths=dict(enumerate(maps)))


KNOWN = [[2.0, 4.0, 0.0], [5.0, 0.0, 10.0]]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("of", ["inverse_depth", "depth"])
@pytest.mark.parametrize("published", [False, True])
def test_the_ground_truth_costs_nothing(error, of, published):
    batch, prediction = scene(KNOWN, np.maximum(KNOWN, 3.0 * (np.array(KNOWN) == 0)))
    depth = prediction.depths[0].requires_grad_()
    loss = SupervisedDepth(error, of, published=published)(batch, prediction)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(depth.grad).all()


@pytest.mark.parametrize(
    ("error", "of", "expected"),
    [
        ("l1", "depth", 4 * 5.25 / 4),
        ("l1", "inverse_depth", (0.25 + 0.125 + 0.1 + 0.05) / 4),
        ("mse", "depth", (4 + 16 + 25 + 100) / 4),
        ("abs_rel", "depth", 1.0),
        ("abs_rel", "inverse_depth", 1.0),  # relative to ground truth in metres, both
        ("silog", "depth", 10 * math.sqrt(0.15) * math.log(2)),
        ("silog", "inverse_depth", 10 * math.sqrt(0.15) * math.log(2)),
        ("berhu", "depth", (2 + (16 + 4) / 4 + (25 + 4) / 4 + (100 + 4) / 4) / 4),  # c = 2
    ],
)
def test_twice_the_depth_costs(error, of, expected):
    batch, prediction = scene(KNOWN, 2 * np.array(KNOWN) + (np.array(KNOWN) == 0))
    assert SupervisedDepth(error, of)(batch, prediction).item() == pytest.approx(expected, rel=1e-4)


def test_unknown_pixels_are_ignored():
    losses = []
    for elsewhere in (1.0, 80.0):
        depth = np.where(np.array(KNOWN) == 0, elsewhere, 3.0)
        losses.append(SupervisedDepth()(*scene(KNOWN, depth)).item())
    assert losses[0] == losses[1] > 0


def test_no_known_pixel_costs_nothing():
    for error in ERRORS:
        batch, prediction = scene(np.zeros((2, 3)), np.ones((2, 3)))
        depth = prediction.depths[0].requires_grad_()
        loss = SupervisedDepth(error)(batch, prediction)
        loss.backward()
        assert loss == 0 and torch.isfinite(depth.grad).all()


def test_silog_is_taken_over_each_image():
    known = torch.full((2, 1, 2, 3), 4.0)
    batch = Batch({}, torch.eye(3)[None], torch.zeros(2), maps={"depth": known})
    depth = known * torch.tensor([1.1, 1 / 1.1])[:, None, None, None]
    prediction = Prediction({}, depths={0: depth})
    each = 10 * math.sqrt(0.15) * math.log(1.1)
    assert SupervisedDepth("silog")(batch, prediction).item() == pytest.approx(each, rel=1e-3)
    joint = 10 * math.log(1.1)  # the mean over the batch is 0
    assert SupervisedDepth("silog", published=True)(batch, prediction).item() == pytest.approx(
        joint, rel=1e-3
    )


def test_a_coarse_scale_is_enlarged_and_no_point_is_lost():
    known = np.zeros((4, 6))
    known[1, 1] = 5.0  # which the nearest pixel of a map half the size does not see
    batch, prediction = scene(known, np.full((2, 3), 4.0))
    assert SupervisedDepth(of="depth")(batch, prediction).item() == pytest.approx(1.0)
    assert SupervisedDepth(of="depth", published=True)(batch, prediction) == 0


def test_scales_are_chosen_and_weighted():
    maps = [np.full((1, 1), depth) for depth in (6.0, 7.0, 9.0)]
    batch, prediction = scene([[5.0]], *maps)  # errors 1, 2, 4
    assert SupervisedDepth(of="depth")(batch, prediction).item() == pytest.approx(7 / 3)
    assert SupervisedDepth(of="depth", num_scales=2)(batch, prediction).item() == pytest.approx(1.5)
    weighted = SupervisedDepth(of="depth", scale_weights=(1, 0.5, 0.25))(batch, prediction)
    assert weighted.item() == pytest.approx(3 / 1.75)


def test_progressive_scaling_drops_the_coarsest_scales_in_turn():
    term = SupervisedDepth(progressive_scaling=0.2)
    counts = []
    for epoch in range(10):
        term.on_epoch_start(epoch, 10)
        counts.append(term.scales_in_use(4))
    assert counts == [4, 4, 4, 3, 3, 2, 2, 1, 1, 1]  # thresholds 0.2, 0.4 and 0.6, each passed strictly


# PackNet's numbers.


def inputs(dense):
    known = 0.03 + 0.67 * image(f"B/{CASE}/gt_inv_depth", 2, 48, 64, 1)
    if not dense:
        known = np.where(uniform(f"B/{CASE}/hole", (2, 1, 48, 64), 0, 1) > 0.7, known, 0)
    inverse = [
        tensor(0.05 + 0.55 * image(f"B/{CASE}/inv_depth_{n}", 2, 48 >> n, 64 >> n, 1)).requires_grad_()
        for n in range(4)
    ]
    metres = np.where(known > 0, 1 / np.maximum(known, 1e-6), 0)
    batch = Batch({}, torch.eye(3)[None], torch.zeros(2), maps={"depth": tensor(metres)})
    return batch, inverse, Prediction({}, depths={n: 1 / values for n, values in enumerate(inverse)})


@pytest.mark.parametrize(
    "name",
    [
        f"{kind}_{error}"
        for kind in ("dense", "sparse")
        for error in ERRORS
        if (kind, error) != ("dense", "berhu") and error != "scale_invariant"  # ours
    ],
)
def test_losses_and_gradients_are_packnets(name):
    golden, (kind, error) = Golden(CASE), name.split("_", 1)
    batch, inverse, prediction = inputs(kind == "dense")
    only_known = kind == "sparse" or error == "silog"  # dense ground truth has no hole
    loss = SupervisedDepth(error, only_known=only_known, published=True)(batch, prediction)
    loss.backward()
    golden.close(f"{name}_loss", loss[None])
    full = inverse[0].grad
    golden.close(f"{name}_grad_0", full[:, :, ::2, ::2], relative=2e-5)
    golden.close(f"{name}_grad_0_meanstd", torch.stack([full.mean(), full.std(correction=0)]), relative=2e-5)
    golden.close(f"{name}_grad_2", inverse[2].grad, relative=2e-5)


def test_one_scale_is_packnet_sans():
    batch, _, prediction = inputs(dense=False)
    loss = SupervisedDepth("silog", num_scales=1, published=True)(batch, prediction)
    Golden(CASE).close("sparse_silog_1scale", loss[None])


def test_dense_berhu_is_computed():
    """Its formula on maps: the mean over all |e| and, once more, over e^2 where |e| > 0.2 max(e)."""
    batch, inverse, prediction = inputs(dense=True)
    known = 1 / batch.maps["depth"]
    expected = []
    for values in inverse:
        target = torch.nn.functional.interpolate(known, values.shape[-2:])
        e = (values - target).detach().flatten()
        beyond = e[e.abs() > 0.2 * e.max()] ** 2
        expected.append(torch.cat([e.abs(), beyond]).mean().item())
    loss = SupervisedDepth("berhu", only_known=False, published=True)(batch, prediction)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_only_known_false_makes_holes_infinitely_far():
    batch, prediction = scene([[0.0, 4.0]], [[2.0, 4.0]])
    assert SupervisedDepth(only_known=False)(batch, prediction).item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"error": "bertu"}, "did you mean 'berhu'"),
        ({"of": "inverse"}, "did you mean 'inverse_depth'"),
        ({"num_scales": 0}, "num_scales must be at least 1"),
        ({"progressive_scaling": 1.0}, "progressive_scaling is in"),
        ({"error": "silog", "only_known": False}, "not for silog"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        SupervisedDepth(**settings)


def test_missing_weights_and_ground_truth_are_refused():
    batch, prediction = scene([[5.0]], [[6.0]], [[7.0]])
    with pytest.raises(InputError, match="1 scale_weights for 2 scales"):
        SupervisedDepth(scale_weights=[1])(batch, prediction)
    batch.maps = {}
    with pytest.raises(InputError, match="needs measured depth"):
        SupervisedDepth()(batch, prediction)


def test_scale_invariant_error_ignores_a_factor():
    batch, prediction = scene(KNOWN, 3 * np.array(KNOWN) + (np.array(KNOWN) == 0))
    term = SupervisedDepth("scale_invariant")
    assert term(batch, prediction).item() == pytest.approx(0, abs=1e-4) and not term.gives_metric_scale
    batch, prediction = scene([[2.0, 2.0]], [[2.0, 2.0 * math.e]])
    assert term(batch, prediction).item() == pytest.approx(5.0)  # deviations of 1/2 around the mean
    assert SupervisedDepth("silog").gives_metric_scale


def test_scale_invariant_error_wants_the_sky_to_be_farthest():
    term = SupervisedDepth("scale_invariant", only_known=False)
    beyond = scene([[2.0, 4.0, 0.0]], [[6.0, 12.0, 50.0]])  # three times the depth; 12 is the farthest
    assert term(*beyond).item() == pytest.approx(0, abs=1e-4)
    nearer = scene([[2.0, 4.0, 0.0]], [[6.0, 12.0, 12.0 / math.e]])
    assert term(*nearer).item() == pytest.approx(10 * math.sqrt(1 / 3), rel=1e-4)
