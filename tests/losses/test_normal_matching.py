"""Normal matching: known normals of planes, invariance to scale, and the published values."""

import math

import pytest
import torch

from layers import pixel_grid
from losses._normals import depth_to_normals
from losses.normal_matching import NormalMatching
from structures import Batch, Prediction
from tests.scdepth_goldens import ScDepthGolden

K = torch.tensor([[[50.0, 0, 31], [0, 50.0, 23], [0, 0, 1]]])
SIZE = (40, 56)


def batch_of(pseudo, intrinsics=K):
    images = {0: torch.zeros(len(pseudo), 3, *pseudo.shape[-2:])}
    return Batch(images, intrinsics, torch.arange(len(pseudo)), maps={"pseudo_depth": pseudo})


def plane(normal, distance=5.0):
    """(1, 1, 48, 64) depth of the plane n · P = distance."""
    rays = torch.linalg.inv(K) @ pixel_grid(48, 64)
    return (distance / (torch.tensor([normal]) @ rays)).view(1, 1, 48, 64)


def test_published_normals_and_loss_are_met():
    golden = ScDepthGolden("scdepth_normals")
    golden.prefix = "B/scdepth_normals"
    depth, pseudo = (golden.map(name, SIZE, 2, 4) for name in ("depth", "pseudo"))
    golden.close("normals", depth_to_normals(depth, golden["K"]))
    golden.close("normals_pseudo", depth_to_normals(pseudo, golden["K"]), stride=2)
    depth.requires_grad_()
    loss = NormalMatching()(batch_of(pseudo, golden["K"]), Prediction({}, {0: depth}))
    golden.close("normal_loss", loss)
    loss.backward()
    golden.close("grad_depth", depth.grad)


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (0.0, -0.6, 0.8)])
def test_a_plane_has_its_normal_everywhere(normal):
    found = depth_to_normals(plane(normal), K)[0, :, 2:-2, 2:-2]
    assert torch.allclose(found, torch.tensor(normal)[:, None, None].expand_as(found), atol=1e-3)


def test_depth_of_another_scale_costs_nothing():
    depth = plane((0.6, 0.0, 0.8))
    assert NormalMatching()(batch_of(depth), Prediction({}, {0: 7 * depth})) < 1e-5


def test_a_wall_and_a_slope_differ_by_a_known_amount():
    loss = NormalMatching()(batch_of(plane((0.6, 0.0, 0.8))), Prediction({}, {0: plane((0.0, 0.0, 1.0))}))
    assert loss.item() == pytest.approx((0.6 + 0.2) / 3, abs=2e-3)


def test_unknown_pseudo_depth_is_ignored():
    depth, pseudo = plane((0.0, 0.0, 1.0)), plane((0.0, 0.0, 1.0))
    pseudo[..., 20:, :] = 0
    pseudo[..., 5, 5] = math.nan
    assert NormalMatching()(batch_of(pseudo), Prediction({}, {0: depth})) < 1e-6
    nothing = NormalMatching()(batch_of(torch.zeros_like(pseudo)), Prediction({}, {0: depth}))
    assert nothing == 0
