"""Shared memory that is too small is said before a loader waits for ever."""

import pytest
import torch

from datasets import shared_memory
from datasets.shared_memory import bytes_of, fit_loader
from structures import Batch
from tests import runs
from utils import InputError

SAMPLE = Batch(
    {f: torch.zeros(1, 3, 10, 100, dtype=torch.uint8) for f in (0, 1)}, torch.eye(3)[None], torch.tensor([0])
)
BYTES = 2 * 3000 + 9 * 4 + 8


@pytest.fixture
def free(monkeypatch):
    """Sets the free shared memory, in batches of 4 samples."""

    def set_free(batches: float) -> None:
        size = int(batches * 4 * BYTES * shared_memory.SPARE) + 1
        monkeypatch.setattr(shared_memory, "free_bytes", lambda: size)

    return set_free


def test_bytes_of_a_batch_are_those_of_its_tensors():
    assert bytes_of(SAMPLE) == BYTES


@pytest.mark.parametrize("batches, prefetch", [(9, 4), (100, 4), (7, 3), (3, 1)])
def test_workers_prefetch_as_many_batches_as_fit(free, batches, prefetch):
    free(batches)
    assert fit_loader(SAMPLE, batch_size=4, workers=2) == prefetch


def test_too_little_memory_is_refused_with_what_fits(free):
    free(2.5)
    sentence = r"has 0 MB free and 4 loader processes need 0 MB; .*--shm-size 2g.*--num_workers 1"
    with pytest.raises(InputError, match=sentence):
        fit_loader(SAMPLE, batch_size=4, workers=4)


def test_processes_of_one_machine_share_the_memory(free):
    free(9)
    assert fit_loader(SAMPLE, batch_size=4, workers=2, copies=2) == 1


def test_loader_without_workers_needs_no_shared_memory(free):
    free(0)
    assert fit_loader(SAMPLE, batch_size=4, workers=0) == 4


def test_training_with_too_little_memory_ends_at_once(tiny_kitti, tmp_path, free):
    free(0.01)
    with pytest.raises(InputError, match=r"--shm-size 2g.*or give --num_workers 0"):
        runs.build(runs.arguments(tiny_kitti, tmp_path, num_workers=2))
