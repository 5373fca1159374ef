"""Between dataset and trainer: which samples form which batch, and errors that stay sentences."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from structures import Batch
from utils import InputError

WORKER_GRACE = 30  # seconds


class EpochBatches(Sampler[list[int]]):
    """Batches of one epoch, a function of (seed, epoch) alone; the last incomplete one is dropped.

    A batch over all processes is a run of one shuffled order, and each process takes its part of it: two
    processes with batch size 6 see what one sees with 12. `go_to` starts within an epoch, for resuming.

    Args:
        count: samples in the dataset.
        batch_size: samples per process.
        seed, rank, world: of the run.

    Raises:
        InputError: there are fewer samples than one batch takes.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        if count < batch_size * world:
            processes = f" x {world} processes" if world > 1 else ""
            raise InputError(
                f"batch_size {batch_size}{processes} is more than the {count} training samples; lower it"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = self.start = 0

    def go_to(self, epoch: int, start: int = 0) -> None:
        """Iterate `epoch` next, from its batch `start` on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.count // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.count, generator=generator).tolist()
        for batch in range(self.start, len(self)):
            first = (batch * self.world + self.rank) * self.batch_size
            yield order[first : first + self.batch_size]


class Guarded(Dataset):
    """A dataset whose `InputError` is an item, since a worker process would turn it into a traceback."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch | InputError:
        try:
            return self.dataset[index]
        except InputError as error:
            return error


def collate(samples: list[Batch | InputError]) -> Batch | InputError:
    """A Batch, or the first error among its samples, for the main process to raise."""
    errors = [sample for sample in samples if isinstance(sample, InputError)]
    return errors[0] if errors else Batch.cat(samples)


def outlive_sigterm(_: int) -> None:
    """SIGTERM often goes to a whole process group: a loader's worker gives the step under way time to end."""
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_GRACE))
