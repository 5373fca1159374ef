"""Companion data: the pairing with samples of another dataset, and their way through a batch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.augmentation import Augment
from datasets.companion import WithCompanion, with_companion
from datasets.loading import EpochBatches, EpochIndex, Guarded, collate
from structures import Batch
from utils import InputError


class Numbered(Dataset):
    """Images of one colour, their index; `labels` in the upper half."""

    def __init__(self, count, size=(8, 12)):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.full((1, 3, *self.size), index, dtype=torch.uint8)
        labels = torch.full((1, 1, *self.size), 255, dtype=torch.uint8)
        labels[..., : self.size[1] // 2] = index
        return Batch({0: image}, torch.eye(3)[None], torch.tensor([index]), maps={"labels": labels})


def companions(dataset, epoch=0):
    return [dataset[EpochIndex(n, epoch)].companion.index.item() for n in range(len(dataset))]


def test_companions_repeat_only_after_all_came():
    dataset = WithCompanion(Numbered(9), Numbered(4), seed=3)
    dealt = companions(dataset)
    assert sorted(dealt[:4]) == sorted(dealt[4:8]) == [0, 1, 2, 3]
    assert dealt == companions(WithCompanion(Numbered(9), Numbered(4), seed=3))
    assert len({tuple(companions(WithCompanion(Numbered(9), Numbered(4), seed=n))) for n in range(5)}) > 1


def test_every_companion_is_seen_over_the_epochs():
    dataset = WithCompanion(Numbered(4), Numbered(9))
    seen = [companions(dataset, epoch) for epoch in range(20)]
    assert {index for epoch in seen for index in epoch} == set(range(9))
    counts = np.bincount(np.ravel(seen))
    assert counts.max() - counts.min() <= 1


def test_companions_of_a_sample_differ_between_epochs():
    dataset = WithCompanion(Numbered(9), Numbered(9))
    pairs = np.array([companions(dataset, epoch) for epoch in range(6)])
    assert all(len(set(column)) > 1 for column in pairs.T)


@pytest.mark.parametrize("workers", [0, 2])
def test_persistent_workers_get_the_epoch_with_the_index(workers):
    dataset = WithCompanion(Numbered(4), Numbered(9), seed=1)
    batches = EpochBatches(4, 2, seed=1)
    loader = DataLoader(
        Guarded(dataset),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    for epoch in range(3):
        batches.go_to(epoch)
        pairs = {
            (main, other)
            for batch in loader
            for main, other in zip(batch.index.tolist(), batch.companion.index.tolist())
        }
        assert pairs == set(enumerate(companions(dataset, epoch)))


def test_companion_of_another_size_is_collated_and_moved():
    dataset = Guarded(WithCompanion(Numbered(5), Numbered(2, size=(4, 4))))
    batch = collate([dataset[0], dataset[1], dataset[2]])
    assert len(batch.companion) == 3 and batch.companion.images[0].shape == (3, 3, 4, 4)
    moved = batch.to("cpu")
    assert moved.companion.images[0].dtype == torch.float32 and moved.images[0].dtype == torch.float32
    assert moved.companion.maps["labels"].dtype == torch.uint8
    assert batch.companion.images[0].dtype == torch.uint8


def test_companion_has_own_draws_for_image_and_labels():
    dataset = WithCompanion(Numbered(64), Numbered(64))
    dataset.companion_of = int  # equal indices: equal draws would show
    batch = Batch.cat([dataset[index] for index in range(64)]).to("cpu")
    for record in (batch, batch.companion):
        record.images[0][..., 0] = 1.0  # the left column shows the mirrored samples
    result = Augment(flip=0.5, jitter=0)(batch, epoch=0)
    mirrored = result.images[0][:, 0, 0, -1] == 1
    companions = result.companion.images[0][:, 0, 0, -1] == 1
    assert mirrored.any() and companions.any() and not torch.equal(mirrored, companions)
    assert torch.equal(result.companion.maps["labels"][:, 0, 0, 0] == 255, companions)


@pytest.fixture
def city(worlds):
    return worlds.get("cityscapes")


def test_the_options_name_a_companion_that_takes_the_runs_size(city):
    section = {"name": "cityscapes", "data_path": str(city), "split": "fine", "labels": True}
    options = {
        "height": 32,
        "width": 64,
        "data_path": "elsewhere",
        "split": "eigen_zhou",
        "companion": section,
    }
    sample = with_companion(Numbered(3), options, "train")[0]
    assert sample.companion.images[0].shape == (1, 3, 32, 64)
    own = {**section, "height": 64, "width": 128, "augment": {"jitter": 1.0}}
    larger = with_companion(Numbered(3), {**options, "companion": own}, "train")[0]
    assert larger.companion.images[0].shape == (1, 3, 64, 128)
    assert sample.companion.maps["labels"].shape == (1, 1, 32, 64)
    main = Numbered(3)
    assert with_companion(main, {"companion": {}}, "train") is main


@pytest.mark.parametrize(
    "section, words",
    [
        ({"name": "cityscapes"}, "folder of its own: --companion.data_path"),
        ({"split": "fine"}, "the section 'companion' has no name"),
        ({"name": "cityscape", "data_path": "x"}, "did you mean 'cityscapes'"),
        (
            {"name": "cityscapes", "data_path": "x", "lables": True},
            "companion cityscapes has no setting 'lables'",
        ),
    ],
)
def test_a_section_that_cannot_be_built_is_refused_in_words(section, words):
    with pytest.raises(InputError, match=words):
        with_companion(Numbered(3), {"height": 32, "width": 64, "companion": section}, "train")
