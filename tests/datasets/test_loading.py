"""Which samples form which batch, on how many processes, and errors that stay sentences."""

import pytest
import torch

from datasets._loading import EpochBatches, Guarded, collate
from structures import Batch
from utils import InputError


def epoch_of(batches, epoch=0, start=0):
    batches.go_to(epoch, start)
    return list(batches)


def test_an_epoch_holds_every_sample_at_most_once_in_an_order_of_its_own():
    batches = EpochBatches(23, 4, seed=3)
    first, second = epoch_of(batches, 0), epoch_of(batches, 1)
    assert len(batches) == len(first) == 5 and all(len(batch) == 4 for batch in first)
    assert len({index for batch in first for index in batch}) == 20
    assert first != second and first == epoch_of(batches, 0)
    assert first != epoch_of(EpochBatches(23, 4, seed=4), 0)


def test_two_processes_see_together_what_one_sees_with_the_doubled_batch():
    one = epoch_of(EpochBatches(23, 4), 5)
    halves = [epoch_of(EpochBatches(23, 2, rank=rank, world=2), 5) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves)] == one


def test_an_epoch_can_be_entered_in_its_middle():
    batches = EpochBatches(23, 4)
    assert epoch_of(batches, 2, start=3) == epoch_of(batches, 2)[3:]
    assert epoch_of(batches, 2, start=5) == []


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
def test_an_error_in_a_loader_process_arrives_as_itself(workers):
    loader = torch.utils.data.DataLoader(Guarded(Broken()), 2, collate_fn=collate, num_workers=workers)
    (item,) = loader
    assert isinstance(item, InputError) and str(item) == "image 1 is truncated"
    assert len(collate([Guarded(Broken())[0]])) == 1
