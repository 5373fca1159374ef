"""Mirroring keeps geometry correct; jitter is torchvision's, per sample and independent of the batch."""

import dataclasses

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tvf

from cameras import BrownConrady
from datasets.augmentation import Augment, mirror
from layers import backproject, project
from structures import Batch
from utils import InputError


def batch_of(indices, cameras=1, height=8, width=12):
    """Each sample's images are a function of its index."""
    images = {frame: [] for frame in (0, -1, "s")}
    for index in indices:
        generator = torch.Generator().manual_seed(index)
        for stack in images.values():
            stack.append(torch.rand(cameras, 3, height, width, generator=generator))
    K = torch.tensor([[9.0, 0, 4.2], [0, 8.0, 3.1], [0, 0, 1]]).repeat(len(indices) * cameras, 1, 1)
    T = torch.eye(4).repeat(len(indices) * cameras, 1, 1)
    T[:, :3, 3] = torch.tensor([0.3, -0.1, 0.2])
    T[:, :3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, -0.3], [-0.2, 0.3, 0.0]]))
    stacked = {frame: torch.cat(stack) for frame, stack in images.items()}
    return Batch(stacked, K, torch.tensor(indices), {"s": T}, cameras=cameras)


def test_a_mirrored_point_lands_on_the_mirrored_pixel():
    batch = batch_of([0])
    mirrored = mirror(batch, torch.tensor([True]))
    depth = 2 + 3 * torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(1))
    T = batch.T_source_from_target["s"]
    pixels = project(backproject(depth, batch.intrinsics), batch.intrinsics, T)[0].unflatten(-1, (8, 12))
    points = backproject(depth.flip(-1), mirrored.intrinsics)
    seen = project(points, mirrored.intrinsics, mirrored.T_source_from_target["s"])[0].unflatten(-1, (8, 12))
    assert torch.allclose(seen[:, 0], 11 - pixels[:, 0].flip(-1), atol=1e-4)
    assert torch.allclose(seen[:, 1], pixels[:, 1].flip(-1), atol=1e-4)


def test_a_lens_is_mirrored_with_its_image():
    batch = batch_of([0, 1])
    batch.camera = BrownConrady(batch.intrinsics, torch.tensor([[-0.2, 0.05, 0.01, 0.02]]).repeat(2, 1))
    mirrored = mirror(batch, torch.tensor([True, False])).camera
    points = batch.camera.rays(8, 12)
    assert torch.equal(mirrored.rays(8, 12)[1], points[1])
    pixels = mirrored.project(points * torch.tensor([[-1.0], [1], [1]]))[0]
    assert torch.allclose(11 - pixels[0, 0], batch.camera.project(points)[0][0, 0], atol=1e-4)


def test_mirroring_selected_samples_twice_restores_them():
    batch = batch_of([0, 1])
    flip = torch.tensor([False, True])
    once = mirror(batch, flip)
    assert torch.equal(once.images["s"][0], batch.images["s"][0])
    assert torch.equal(once.images["s"][1], batch.images["s"][1].flip(-1))
    twice = mirror(once, flip)
    assert torch.equal(twice.images[0], batch.images[0])
    assert torch.allclose(twice.intrinsics, batch.intrinsics)
    assert torch.equal(twice.T_source_from_target["s"], batch.T_source_from_target["s"])


def test_jitter_is_torchvisions_for_the_same_draw():
    adjust = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    augment, batch = Augment(flip=0, jitter=1), batch_of([5, 6, 7, 8])
    result = augment(batch, epoch=2)
    orders = set()
    for n, index in enumerate(batch.index.tolist()):
        draw = augment._draw(2, index)
        orders.add(tuple(draw.order))
        for frame, images in batch.images.items():
            expected = images[n]
            for operation in draw.order:
                expected = adjust[operation](expected, draw.amounts[operation])
            # torchvision's grey weights red by 0.2989, ours by 0.299
            assert torch.allclose(result.augmented[frame][n], expected, atol=3e-4)
    assert len(orders) > 1


def test_losses_read_images_without_jitter():
    batch = batch_of([0, 1])
    before = {frame: image.clone() for frame, image in batch.images.items()}
    result = Augment(flip=0, jitter=1)(batch, 0)
    for frame, image in before.items():
        assert torch.equal(result.images[frame], image) and torch.equal(batch.images[frame], image)
        assert not torch.allclose(result.network_images[frame], image)


def test_the_frames_and_cameras_of_a_sample_share_its_draw():
    batch = batch_of([3], cameras=2)
    batch.images = {frame: batch.images[0][:1].repeat(2, 1, 1, 1) for frame in batch.images}
    result = Augment(flip=1, jitter=1)(batch, 0)
    first = result.augmented[0][0]
    assert all(torch.allclose(image, first) for images in result.augmented.values() for image in images)


def test_draws_depend_only_on_seed_epoch_and_sample():
    together = Augment()(batch_of([1, 2, 3, 4]), 7).network_images[0]
    torch.manual_seed(123)
    np.random.seed(123)
    for n, index in enumerate([1, 2, 3, 4]):
        alone = Augment()(batch_of([index]), 7).network_images[0][0]
        assert torch.allclose(alone, together[n], atol=1e-6)
    assert not torch.equal(Augment()(batch_of([1, 2, 3, 4]), 8).network_images[0], together)
    assert not torch.equal(Augment(seed=1)(batch_of([1, 2, 3, 4]), 7).network_images[0], together)


def test_draws_have_the_stated_probability_and_range():
    draws = [Augment()._draw(0, index) for index in range(2000)]
    assert abs(sum(draw.flip for draw in draws) / 2000 - 0.5) < 0.05
    assert abs(sum(draw.order is not None for draw in draws) / 2000 - 0.5) < 0.05
    amounts = np.array([draw.amounts for draw in draws])
    assert np.allclose(amounts.min(0), [0.8, 0.8, 0.8, -0.1], atol=0.01)
    assert np.allclose(amounts.max(0), [1.2, 1.2, 1.2, 0.1], atol=0.01)


def test_networks_read_the_images_themselves_without_jitter():
    result = Augment(flip=0, jitter=0)(batch_of([0, 1]), 0)
    assert result.augmented is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"flip": 1.5}, "flip is a probability"), ({"hue": 0.7}, r"hue must be in \[0, 0.5\], got 0.7")],
)
def test_invalid_ranges_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Augment(**settings)


def with_companion(count=8):
    def record(height, width):
        images = {0: torch.rand(count, 3, height, width)}
        labels = torch.zeros(count, 1, height, width, dtype=torch.uint8)
        K = torch.eye(3).repeat(count, 1, 1)
        return Batch(images, K, torch.arange(count), maps={"labels": labels})

    return dataclasses.replace(record(32, 64), companion=record(48, 96))


def test_a_companion_has_an_augmentation_of_its_own():
    own = {"jitter": 1.0, "flip": 0.0, "crop": {"height": 32, "width": 64}}
    result = Augment(flip=0.0, jitter=0.0, companion=own)(with_companion(), epoch=0)
    assert result.augmented is None and result.companion.augmented is not None
    assert result.companion.images[0].shape[-2:] == result.images[0].shape[-2:] == (32, 64)
    assert result.companion.maps["labels"].shape[-2:] == (32, 64)
    changed = (result.companion.augmented[0] != result.companion.images[0]).flatten(1).any(1)
    assert changed.all()  # every image, since its jitter is 1


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"companion": {"jiter": 1.0}}, "augment.companion has no setting 'jiter'; did you mean 'jitter'"),
        ({"crop": {"height": 32}}, "augment.crop needs a width"),
        ({"crop": {"height": 32, "width": 64, "zoom": 2}}, "augment.crop has no setting 'zoom'"),
    ],
)
def test_settings_of_crop_and_companion_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        Augment(**settings)
