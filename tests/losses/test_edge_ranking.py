"""Edge-guided normals: points across edges, known values, and the published values."""

import math

import pytest
import torch

from losses._normals import depth_to_normals, known_around
from losses.edge_ranking import Draws, EdgeRanking, _both_sides, _points
from structures import Batch, Prediction
from tests.scdepth_goldens import ScDepthGolden
from utils import InputError

SIZE = (40, 56)
K = torch.tensor([[[50.0, 0, 31], [0, 50.0, 23], [0, 0, 1]]])


def recorded(anchors, distances, masks):
    """Recorded draws, image by image, as `Draws`."""
    pixels, chosen = masks[0].numel(), []
    for number, (anchor, mask) in enumerate(zip(anchors, masks)):
        chosen.append(number * pixels + mask.flatten().nonzero()[:, 0][anchor.long()])
    anchor = torch.cat(chosen)
    distance = _both_sides(torch.cat([one.long() for one in distances], 1))
    return Draws(anchor, distance, torch.ones_like(anchor, dtype=torch.bool))


def test_published_edges_and_loss_are_met():
    golden = ScDepthGolden("scdepth_normal_ranking")
    golden.prefix = "B/scdepth_normal_ranking"
    image = (golden.image("picture", SIZE) - 0.45) / 0.225
    depth, pseudo = golden.map("depth", SIZE, 2, 4).requires_grad_(), golden.pseudo_depth(SIZE)
    normals, reference = (depth_to_normals(values, golden["K"]) for values in (depth, pseudo))
    term, known = EdgeRanking(published=True), known_around(pseudo)
    sets = term.edges(image, pseudo, reference, known)
    for edges, name in zip(sets, ("picture", "normal")):
        assert [int(mask.sum()) for mask in edges.mask] == [len(golden[f"{name}_anchor_{n}"]) for n in (0, 1)]
    draws = [
        recorded(
            [golden[f"{name}_anchor_{n}"] for n in (0, 1)],
            [golden[f"{name}_distance_{n}"] for n in (0, 1)],
            edges.mask,
        )
        for edges, name in zip(sets, ("picture", "normal"))
    ]
    loss = term.compare(normals, reference, known, sets, draws)
    golden.close("loss", loss)
    loss.backward()
    golden.close("grad_depth", depth.grad)


def roof():
    """A ridge along column 32: normals of (-0.6, 0, 0.8) on its left and (0.6, 0, 0.8) on its right."""
    x = (torch.arange(64.0) - 31) / 50
    left, right = 1 / (0.8 - 0.6 * x), 1 / (0.8 + 0.6 * x)
    depth = torch.where(torch.arange(64) < 32, left / left[31], right / right[32]) * 5
    return depth.expand(1, 1, 48, 64).clone()


def scene(pseudo):
    image = torch.zeros(1, 3, 48, 64)
    image[:, 2, :, 32:] = 1.0  # blue: the red channel has no edge
    return Batch({0: image}, K, torch.arange(1), maps={"pseudo_depth": pseudo})


def test_correct_prediction_costs_nothing_at_any_scale():
    assert EdgeRanking()(scene(roof()), Prediction({}, {0: 3 * roof()})) < 1e-5


def test_wall_instead_of_roof_costs_the_cosine_across_the_ridge():
    wall = torch.full((1, 1, 48, 64), 5.0)
    loss = EdgeRanking()(scene(roof()), Prediction({}, {0: wall}))
    across = 1 - abs(0.8**2 - 0.6**2)  # of pairs (2, 3); the others lie on one side, where it is 0
    assert 0.25 * across < loss < 0.4 * across


def test_points_lie_in_order_across_a_vertical_edge():
    term, batch = EdgeRanking(), scene(roof())
    pseudo = batch.maps["pseudo_depth"]
    sets = term.edges(batch.images[0], pseudo, depth_to_normals(pseudo, K), known_around(pseudo))
    edges = sets[0]
    assert edges.mask[0, 1:-1, 31:33].all() and not edges.mask[..., :30].any()
    draws = term.draw(edges.mask, torch.Generator().manual_seed(0))
    index, inside = _points(edges, draws, clamp=False)
    columns, rows = index % 64, index // 64
    assert inside.all() and (columns.diff(dim=0) >= 0).all() and (rows == rows[0]).all()
    assert (columns[1] < 32).all() and (columns[2] >= 32).all()


def test_a_falling_diagonal_edge_is_crossed_at_a_right_angle():
    x, y = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy")
    image = (x - y > 8).float().expand(1, 3, 48, 64)
    flat = torch.full((1, 1, 48, 64), 5.0)
    edges = EdgeRanking().edges(image, flat, depth_to_normals(flat, K), known_around(flat))[0]
    across = edges.across[0, :, edges.mask[0]]
    assert (across[0] * across[1] < 0).all()  # to the upper right; in the published code to the lower right


def test_steps_in_depth_have_no_anchors():
    pseudo = torch.full((1, 1, 48, 64), 5.0)
    pseudo[..., 32:] = 9.0
    batch = scene(pseudo)
    sets = EdgeRanking().edges(batch.images[0], pseudo, depth_to_normals(pseudo, K), known_around(pseudo))
    assert not any(edges.mask.any() for edges in sets)
    depth = roof().requires_grad_()
    loss = EdgeRanking()(batch, Prediction({}, {0: depth}))
    loss.backward()
    assert loss == 0 and not depth.grad.any()


def test_unknown_pseudo_depth_gives_finite_gradients():
    pseudo = roof()
    pseudo[..., :20, :] = 0
    pseudo[..., 30, 40] = math.nan
    depth = roof().requires_grad_()
    loss = EdgeRanking()(scene(pseudo), Prediction({}, {0: depth}))
    loss.backward()
    assert loss < 1e-5 and depth.grad.isfinite().all()


def test_the_same_draws_give_the_same_loss():
    batch, prediction = scene(roof()), Prediction({}, {0: 5 + torch.rand(1, 1, 48, 64)})
    assert EdgeRanking()(batch, prediction) == EdgeRanking()(batch, prediction)
    batch.extra = {"draws": torch.rand(1, 5)}
    first = EdgeRanking()(batch, prediction)
    batch.extra = {"draws": torch.rand(1, 5)}
    assert first != EdgeRanking()(batch, prediction)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"threshold is a share in \(0, 1\], got 0"):
        EdgeRanking(threshold=0)
