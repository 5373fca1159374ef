"""Batches of an epoch for one or more processes, and errors of workers that stay one sentence."""

import pickle

import pytest
import torch

from datasets.loading import EpochBatches, Guarded, collate, epoch_of
from structures import Batch
from utils import InputError


def every_batch(batches, epoch=0, start=0):
    batches.go_to(epoch, start)
    return list(batches)


def test_epoch_has_each_sample_at_most_once_in_its_own_order():
    batches = EpochBatches(23, 4, seed=3)
    first, second = every_batch(batches, 0), every_batch(batches, 1)
    assert len(batches) == len(first) == 5 and all(len(batch) == 4 for batch in first)
    assert len({index for batch in first for index in batch}) == 20
    assert first != second and first == every_batch(batches, 0)
    assert first != every_batch(EpochBatches(23, 4, seed=4), 0)


def test_two_processes_read_the_samples_of_one_with_double_batch():
    one = every_batch(EpochBatches(23, 4), 5)
    halves = [every_batch(EpochBatches(23, 2, rank=rank, world=2), 5) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves)] == one


def test_epoch_can_start_in_its_middle():
    batches = EpochBatches(23, 4)
    assert every_batch(batches, 2, start=3) == every_batch(batches, 2)[3:]
    assert every_batch(batches, 2, start=5) == []


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(InputError, match="batch_size 4 is more than the 3 training samples; lower it"):
        EpochBatches(3, 4)
    with pytest.raises(InputError, match="batch_size 2 x 2 processes is more than the 3 training samples"):
        EpochBatches(3, 2, world=2)


class Broken:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            raise InputError("image 1 is truncated")
        return Batch({0: torch.zeros(1, 3, 4, 4)}, torch.eye(3)[None], torch.tensor([index]))


@pytest.mark.parametrize("workers", [0, 1])
def test_error_in_a_worker_keeps_its_type(workers):
    loader = torch.utils.data.DataLoader(Guarded(Broken()), 2, collate_fn=collate, num_workers=workers)
    (item,) = loader
    assert isinstance(item, InputError) and str(item) == "image 1 is truncated"
    assert len(collate([Guarded(Broken())[0]])) == 1


def joined(batches):
    return [index for batch in batches for index in batch]


def test_an_index_carries_its_epoch_into_a_worker():
    batches = EpochBatches(6, 2)
    batches.go_to(3)
    index = pickle.loads(pickle.dumps(next(iter(batches))))[0]
    assert epoch_of(index) == 3 and epoch_of(7) == 0
    assert [10, 11, 12, 13, 14, 15][index] == 10 + index


def test_steps_per_epoch_shorten_or_repeat_the_pass():
    whole = every_batch(EpochBatches(6, 2, seed=5), 1)
    assert every_batch(EpochBatches(6, 2, seed=5, steps_per_epoch=2), 1) == whole[:2]
    longer = every_batch(EpochBatches(6, 2, seed=5, steps_per_epoch=6), 1)
    assert longer[:3] == whole and sorted(joined(longer[3:])) == [0, 1, 2, 3, 4, 5]
    assert every_batch(EpochBatches(6, 2, seed=5, steps_per_epoch=6), 1, start=4) == longer[4:]


def test_sampling_with_replacement_repeats_samples():
    settings = {"seed": 2, "steps_per_epoch": 30, "replacement": True}
    drawn = joined(every_batch(EpochBatches(10, 2, **settings)))
    assert set(drawn) <= set(range(10)) and len(set(drawn[:10])) < 10
    assert drawn == joined(every_batch(EpochBatches(10, 2, **settings)))
    assert drawn != joined(every_batch(EpochBatches(10, 2, **settings), 1))


def test_steps_of_two_processes_are_those_of_one():
    one = every_batch(EpochBatches(7, 4, steps_per_epoch=5))
    halves = [every_batch(EpochBatches(7, 2, rank=rank, world=2, steps_per_epoch=5)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves)] == one


def test_an_epoch_without_steps_is_refused():
    with pytest.raises(InputError, match="--steps_per_epoch must be at least 1, got 0"):
        EpochBatches(6, 2, steps_per_epoch=0)
