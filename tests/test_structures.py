"""Batch and Prediction: collation, moves between devices, the camera axis."""

import pytest
import torch

from structures import Batch, Prediction


def sample(index, cameras=1, size=(4, 6), **extra):
    value = torch.full((cameras, 3, *size), index, dtype=torch.uint8)
    eye = torch.eye(3).repeat(cameras, 1, 1)
    poses = {"s": torch.eye(4).repeat(cameras, 1, 1)}
    return Batch({0: value, "s": value}, eye, torch.tensor([index]), poses, cameras=cameras, extra=extra)


def test_samples_are_joined_with_the_camera_varying_fastest():
    samples = [sample(index, 2, speed=torch.tensor([index, index + 0.5])) for index in (3, 5)]
    batch = Batch.cat(samples)
    assert len(batch) == 2 and batch.index.tolist() == [3, 5] and batch.cameras == 2
    assert batch.images["s"][:, 0, 0, 0].tolist() == [3, 3, 5, 5]
    assert batch.intrinsics.shape == (4, 3, 3) and batch.T_source_from_target["s"].shape == (4, 4, 4)
    assert batch.extra["speed"].tolist() == [3, 3.5, 5, 5.5]
    opened = batch.per_camera(batch.extra["speed"])
    assert opened.tolist() == [[3, 3.5], [5, 5.5]]


def test_samples_of_two_sizes_are_refused_with_both():
    with pytest.raises(ValueError, match=r"one size, got \(4, 6\) and \(8, 6\)"):
        Batch.cat([sample(0), sample(1, size=(8, 6))])


def test_to_makes_images_float_and_keeps_the_original_batch():
    batch = sample(51)
    batch.detailed, batch.companion = sample(51, size=(8, 12)), sample(102)
    moved = batch.to("cpu")
    assert moved.images[0].dtype == moved.detailed.images[0].dtype == torch.float32
    assert torch.allclose(moved.companion.images["s"], torch.tensor(0.4))
    assert torch.allclose(moved.images[0], torch.tensor(0.2))
    assert moved.index.dtype == torch.int64 and torch.equal(moved.intrinsics, batch.intrinsics)
    assert batch.images[0].dtype == torch.uint8
    assert torch.equal(moved.to("cpu").images[0], moved.images[0]), "moving twice divides once"


def test_map_reaches_every_tensor_of_nested_records():
    batch = Batch.cat([sample(1, inner=sample(2))])
    doubled = batch.map(lambda tensor: tensor * 2)
    assert doubled.images[0].unique().item() == 2 and doubled.extra["inner"].images[0].unique().item() == 4
    assert doubled.augmented is None and batch.images[0].unique().item() == 1


def test_network_images_are_the_jittered_ones_if_given():
    batch = sample(1)
    assert batch.network_images is batch.images
    batch.augmented = {0: batch.images[0] + 1}
    assert batch.network_images is batch.augmented


def test_sources_are_all_frames_except_the_target():
    batch = sample(1)
    assert batch.sources == ["s"]
    assert Prediction({}).warped == {}


@pytest.mark.gpu
def test_pinned_memory_holds_the_same():
    assert sample(3).pin_memory().images[0].is_pinned()


def test_an_entry_of_only_some_samples_is_refused_by_name():
    with_depth, without = sample(0), sample(1)
    with_depth.maps["depth"] = torch.ones(1, 1, 4, 6)
    for samples in ([with_depth, without], [without, with_depth]):
        with pytest.raises(ValueError, match=r"only some samples of the batch have maps\.depth"):
            Batch.cat(samples)
    with_depth.maps.clear()
    with_depth.rig_from_camera = torch.eye(4)[None]
    for samples in ([with_depth, without], [without, with_depth]):
        with pytest.raises(ValueError, match="only some samples of the batch have rig_from_camera"):
            Batch.cat(samples)
