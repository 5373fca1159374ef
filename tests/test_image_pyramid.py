"""Images at coarser scales: the published 8-bit Lanczos pyramid and the terms that read it."""

import numpy as np
import pytest
import torch
from PIL import Image

from image_pyramid import shrink
from layers import edge_aware_gradient
from losses.photometric import Photometric
from losses.smoothness import Smoothness
from methods.monodepth2 import Monodepth2
from structures import Batch, Prediction
from utils import InputError

HEIGHT, WIDTH = 32, 64


@pytest.fixture(scope="module")
def pixels():
    """(32, 64, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def as_tensor(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def levels(pixels):
    """The published pyramid: each scale by Pillow from the next finer one, scale → (1, 3, h, w)."""
    image, found = Image.fromarray(pixels), {}
    for scale in range(4):
        if scale:
            image = image.resize((WIDTH >> scale, HEIGHT >> scale), Image.Resampling.LANCZOS)
        found[scale] = as_tensor(image)
    return found


@pytest.fixture
def batch(pixels):
    image = as_tensor(pixels)
    intrinsics = torch.tensor([[[40.0, 0, 31.5], [0, 40.0, 15.5], [0, 0, 1]]])
    return Batch({0: image, -1: image, 1: image}, intrinsics, torch.zeros(1, dtype=torch.long))


def test_lanczos_levels_are_those_of_pillow(pixels, levels):
    for scale in (1, 2, 3):
        difference = 255 * (
            shrink(as_tensor(pixels), (HEIGHT >> scale, WIDTH >> scale), "lanczos") - levels[scale]
        )
        assert difference.abs().max() < 1.01  # a tie of Pillow's fixed-point weights
        assert (difference.abs() > 0.01).float().mean() < 0.002


def test_area_averages_and_full_size_is_untouched(pixels, levels):
    image = as_tensor(pixels)
    assert shrink(image, (HEIGHT, WIDTH), "lanczos") is image
    mean = image.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    assert torch.allclose(shrink(image, (HEIGHT // 2, WIDTH // 2)), mean, atol=1e-6)
    assert (mean - levels[1]).abs().mean() > 0.01  # the two pyramids are not the same


def test_published_levels_have_no_photometric_error(batch, levels):
    """Warped sources that equal the published target of their scale cost nothing with its filter only."""
    warped = {scale: level[None].repeat(2, 1, 1, 1, 1) for scale, level in levels.items()}
    prediction = Prediction({}, warped=warped)
    assert Photometric(automask=False, image_resize="lanczos").per_scale(batch, prediction).max() < 1e-3
    assert Photometric(automask=False).per_scale(batch, prediction)[1:].min() > 0.02


def test_smoothness_weighs_by_the_published_image(batch, levels):
    disparity = torch.rand(1, 1, HEIGHT // 4, WIDTH // 4)
    found = Smoothness(image_resize="lanczos")(batch, Prediction({2: disparity}))
    expected = edge_aware_gradient(disparity / (disparity.mean() + 1e-7), levels[2]) / 4
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)


def test_v1_multiscale_warps_the_published_levels(batch, levels):
    """A camera at rest: each warped source is the level itself, in the method and in its loss terms."""
    method = Monodepth2(
        v1_multiscale=True, image_resize="lanczos", weights_init="scratch", disable_automasking=True
    )
    sizes = {scale: level.shape[-2:] for scale, level in levels.items()}
    prediction = Prediction({scale: torch.full((1, 1, *size), 0.5) for scale, size in sizes.items()})
    batch.T_source_from_target = {-1: torch.eye(4)[None], 1: torch.eye(4)[None]}
    method.add_geometry(batch, prediction)
    for scale, level in levels.items():
        assert (prediction.warped[scale] - level).abs().mean() < 1e-4
    assert method.losses(batch, prediction)["photometric"] < 1e-3
    assert method.loss_terms["smoothness"].image_resize == "lanczos"


def test_another_filter_is_refused():
    with pytest.raises(
        InputError, match="method: image_resize is one of area, bilinear, lanczos, got 'cubic'"
    ):
        Monodepth2(image_resize="cubic", weights_init="scratch")
