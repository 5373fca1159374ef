"""Depth smoothness: zero on a wall, a known value on a ramp, and the published value."""

import pytest
import torch

from losses.depth_smoothness import DepthSmoothness
from structures import Batch, Prediction
from tests.scdepth_goldens import ScDepthGolden
from utils import InputError


def scene(image):
    return Batch({0: image}, torch.eye(3).expand(len(image), 3, 3), torch.arange(len(image)))


def test_published_loss_and_gradient_are_met():
    golden = ScDepthGolden("scdepth_smooth")
    golden.prefix = "B/scdepth_smooth"
    depth = golden.map("depth", (48, 64), 1.5, 7.5).requires_grad_()
    loss = DepthSmoothness()(scene(golden.image("picture", (48, 64))), Prediction({}, {0: depth}))
    golden.close("loss", loss)
    loss.backward()
    golden.close("grad_depth", depth.grad)


def test_a_wall_is_smooth_and_a_ramp_has_its_slope():
    image = torch.full((1, 3, 8, 10), 0.5)
    assert DepthSmoothness()(scene(image), Prediction({}, {0: torch.full((1, 1, 8, 10), 7.0)})) == 0
    ramp = torch.arange(1.0, 11).expand(1, 1, 8, 10)
    assert DepthSmoothness()(scene(image), Prediction({}, {0: ramp})).item() == pytest.approx(1 / 5.5)


def test_depth_of_another_size_is_refused():
    with pytest.raises(InputError, match="needs depth of the image's size; set --scales 0"):
        DepthSmoothness()(scene(torch.zeros(1, 3, 8, 10)), Prediction({}, {0: torch.ones(1, 1, 4, 5)}))
