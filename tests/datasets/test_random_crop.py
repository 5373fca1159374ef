"""Random rescale and crop: image, labels and geometry stay together; draws repeat; refusals."""

import pytest
import torch

from datasets._random_crop import RandomCrop, Window, crop
from layers import project
from structures import Batch
from utils import InputError


def scene(count=1, height=64, width=128, kind=torch.float32):
    """A ramp from left to right, labels of the quarters, and a point at every hundredth column."""
    x = torch.arange(width).float().expand(count, 3, height, width) / (width - 1)
    image = x.clone() if kind == torch.float32 else (255 * x).round().to(kind)
    labels = (torch.arange(width) // (width // 4)).to(torch.uint8).expand(count, 1, height, width).clone()
    K = torch.tensor([[100.0, 0, 70], [0, 90, 30], [0, 0, 1]]).repeat(count, 1, 1)
    points = torch.tensor([[[20.0, 10, 5], [120, 60, 7]]]).repeat(count, 1, 1)
    return Batch({0: image}, K, torch.arange(count), maps={"labels": labels}, points={"matches": points})


def test_shapes_follow_the_window_and_types_stay():
    batch = RandomCrop(32, 64)(scene(3, kind=torch.uint8), epoch=0)
    assert batch.images[0].shape == (3, 3, 32, 64) and batch.images[0].dtype == torch.uint8
    assert batch.maps["labels"].shape == (3, 1, 32, 64) and batch.maps["labels"].dtype == torch.uint8


def test_a_window_without_rescaling_is_a_slice():
    whole = scene()
    part = crop(whole, [Window(64, 128, top=5, left=40)], 32, 64)
    assert torch.allclose(part.images[0], whole.images[0][..., 5:37, 40:104], atol=1e-6)
    assert torch.equal(part.maps["labels"], whole.maps["labels"][..., 5:37, 40:104])
    assert part.intrinsics[0].tolist() == [[100, 0, 30], [0, 90, 25], [0, 0, 1]]


def test_half_size_keeps_the_labels_of_the_pixels():
    whole = scene()
    part = crop(whole, [Window(32, 64, top=0, left=0)], 32, 64)
    assert torch.equal(part.maps["labels"][0, 0, 0].unique_consecutive(), torch.arange(4).byte())
    assert torch.allclose(part.images[0][..., 1:-1], (2 * torch.arange(1, 63) + 0.5) / 127, atol=1e-3)


def test_geometry_follows_the_image():
    whole, window = scene(), Window(48, 90, top=7, left=11)
    part = crop(whole, [window], 32, 64)
    points = torch.tensor([[[0.5], [-0.1], [4.0]]])
    before, _ = project(points, whole.intrinsics)
    after, _ = project(points, part.intrinsics)
    scale = torch.tensor([90 / 128, 48 / 64])
    expected = (before[0, :, 0] + 0.5) * scale - 0.5 - torch.tensor([11.0, 7.0])
    assert torch.allclose(after[0, :, 0], expected, atol=1e-4)


def test_points_move_along_and_those_outside_lose_their_depth():
    part = crop(scene(), [Window(64, 128, top=0, left=0)], 32, 64)
    assert part.points["matches"][0].tolist() == [[20, 10, 5], [120, 60, 0]]


def test_draws_depend_only_on_epoch_and_sample():
    crops = RandomCrop(32, 64, seed=3)
    batch = scene(4)
    first, again = crops(batch, epoch=1), crops(batch, epoch=1)
    assert torch.equal(first.intrinsics, again.intrinsics)
    assert not torch.equal(first.intrinsics, crops(batch, epoch=2).intrinsics)
    assert len({tuple(K.flatten().tolist()) for K in first.intrinsics}) == 4
    alone = crops(Batch({0: batch.images[0][2:3]}, batch.intrinsics[2:3], batch.index[2:3]), epoch=1)
    assert torch.equal(alone.intrinsics[0], first.intrinsics[2])


def test_the_published_sizes_range_from_341_to_512_rows():
    crops = RandomCrop(192, 640, shrink=1.5)
    windows = [crops.window((512, 1024), (r, p, p)) for r in (0.0, 0.5, 0.9999999) for p in (0.0, 0.9999999)]
    assert {w.height for w in windows} == {512, 409, 341}
    assert all(w.top + 192 <= w.height and w.left + 640 <= w.width for w in windows)
    assert windows[1].top == 512 - 192 and windows[1].left == 1024 - 640


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"height": 0, "width": 64}, "a height and a width, got 0 and 64"),
        ({"height": 32, "width": 64, "shrink": 0.5}, "shrink is at least 1, got 0.5"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        RandomCrop(**settings)


def test_images_that_may_become_too_small_are_refused():
    with pytest.raises(InputError, match="128x64 does not fit images of 128x64 made 1"):
        RandomCrop(64, 128)(scene(), epoch=0)
