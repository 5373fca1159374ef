"""Matches: depth is compared at the pixel of each valid match, at every scale."""

import pytest
import torch

from losses.sfm_matches import SfmMatches
from methods import check_needs
from structures import Batch, Prediction
from utils import InputError

HEIGHT, WIDTH = 32, 64


def batch_of(*cameras, size=(HEIGHT, WIDTH)) -> Batch:
    """A batch of one frame set; each camera's rows (x, y, depth, angle, distance, distance), padded to 4."""
    matches = torch.zeros(len(cameras), 4, 6)
    for camera, rows in enumerate(cameras):
        for number, row in enumerate(rows):
            matches[camera, number] = torch.tensor(row)
    images = {0: torch.rand(len(cameras), 3, *size)}
    K = torch.eye(3).expand(len(cameras), 3, 3)
    return Batch(images, K, torch.arange(1), cameras=len(cameras), points={"matches": matches})


def sloped(count: int, scales=(0, 1, 2, 3)) -> Prediction:
    """Depth x + 100 y metres at pixel (x, y) of every camera, for each scale at the image's size."""
    y, x = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing="ij")
    depth = (x + 100 * y).expand(count, 1, HEIGHT, WIDTH)
    return Prediction({}, depths={scale: depth for scale in scales})


def good(x, y, depth):
    return (x, y, depth, 5.0, 0.2, 0.3)


def test_error_is_the_distance_in_metres():
    loss = SfmMatches(max_depth=10000.0)
    right = batch_of([good(10.25, 3.0, 310.25), good(63.0, 31.0, 3163.0)])
    assert loss(right, sloped(1)).item() == pytest.approx(0.0, abs=1e-2)
    wrong = batch_of([good(10.25, 3.0, 300.25)])
    assert loss(wrong, sloped(1)).item() == pytest.approx(10.0, rel=1e-3)


def test_depth_is_sampled_at_the_match_at_every_scale():
    batch = batch_of([good(10.0, 1.0, 110.0)])
    assert SfmMatches().per_scale(batch, sloped(1)).tolist() == pytest.approx([0, 0, 0, 0], abs=1e-2)
    published = SfmMatches(published=(HEIGHT, WIDTH)).per_scale(batch, sloped(1))
    # Half a pixel to the upper left, then the first pixel.
    assert published.tolist() == pytest.approx([50.5, 110, 110, 110], abs=1e-2)


def test_exchanged_axes_are_an_option_of_the_published_code():
    batch = batch_of([good(10.0, 1.0, 110.0)])
    exchanged = SfmMatches(published=(HEIGHT, WIDTH), exchanged=True).per_scale(batch, sloped(1, (0,)))
    assert exchanged.item() == pytest.approx(110 - 19.5, abs=1e-2)  # x doubled, y halved to row 0


def test_padding_and_empty_rows_are_invalid():
    nothing = [(0.5, 0.5, 1.0, 1.0, 1.0, 1.0)] * 2
    loss = SfmMatches(threshold=10.0)
    _, counts = loss.per_camera(batch_of(nothing, [good(10.0, 1.0, 110.0)]), sloped(2))
    assert counts.tolist() == [0, 1]
    published = SfmMatches(threshold=10.0, published=(HEIGHT, WIDTH))
    assert published.per_camera(batch_of(nothing), sloped(1))[1].tolist() == [2]


def test_camera_without_matches_is_left_out():
    batch = batch_of([], [good(10.0, 1.0, 100.0)])
    prediction = sloped(2)
    depth = prediction.depths[0].clone().requires_grad_()
    loss = SfmMatches()(batch, Prediction({}, depths={0: depth}))
    loss.backward()
    assert loss.item() == pytest.approx(10.0, abs=1e-2)  # the other camera's, undivided
    assert not depth.grad[0].any() and depth.grad[1].sum().item() == pytest.approx(1.0)
    assert SfmMatches()(batch_of([], []), sloped(2)).item() == 0.0


def test_match_at_nan_coordinates_is_invalid():
    nowhere = good(float("nan"), 1.0, 50.0), good(3.0, float("inf"), 50.0)
    depth = sloped(1).depths[0].clone().requires_grad_()
    loss = SfmMatches()(batch_of([*nowhere, good(10.0, 1.0, 100.0)]), Prediction({}, depths={0: depth}))
    loss.backward()
    assert loss.item() == pytest.approx(10.0, abs=1e-2)
    assert depth.grad.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "row",
    [
        (10, 1, 200.0, 5.0, 0.2, 0.3),  # too far
        (10, 1, 110.0, 0.01, 0.2, 0.3),  # rays too parallel
        (10, 1, 110.0, 5.0, 1.0, 0.3),  # off the epipolar line
        (10, 1, 110.0, 5.0, 0.2, 1.0),
        (10, 1, -3.0, 5.0, 0.2, 0.3),  # behind the camera
        (10, 1, float("nan"), 5.0, 0.2, 0.3),
        (float("nan"), 1, float("inf"), 5.0, 0.2, 0.3),
    ],
)
def test_match_beyond_a_bound_is_invalid(row):
    depth = torch.ones(1, 1, HEIGHT, WIDTH, requires_grad=True)
    losses, counts = SfmMatches().per_camera(batch_of([row]), Prediction({}, depths={0: depth}))
    losses.sum().backward()
    assert counts.item() == 0 and not losses.any() and not depth.grad.any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": -1.0}, "threshold must be at least 0, got -1.0"),
        ({"exchanged": True}, "give published"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        SfmMatches(**settings)


def test_missing_matches_name_the_setting():
    batch = batch_of([])
    batch.points.clear()
    needed = {entry: "losses.sfm_matches" for entry in SfmMatches.needs}
    with pytest.raises(InputError, match=r"needs points\.matches.*--dataset\.matches true .*sift_match"):
        check_needs(needed, batch)
    with pytest.raises(InputError, match="leave v1_multiscale off"):
        SfmMatches()(batch_of([]), Prediction({}, depths={1: torch.ones(1, 1, 16, 32)}))
