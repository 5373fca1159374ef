"""Loading for the trainer: the samples of each batch, and errors that stay sentences.

The order of an epoch is a function of (seed, epoch), so a run resumes within an epoch to the same bits. Each
index carries its epoch to the dataset, also into a worker process that outlives the epoch.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from structures import Batch
from utils import InputError, refusal

WORKER_GRACE = 30  # seconds
SKIPPED_IN_A_ROW = 20  # samples


class EpochIndex(int):
    """Index of a sample that also knows the epoch it is read for. A dataset may ignore the epoch.

    Attributes:
        epoch: counted from 0.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> EpochIndex:
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple:
        return EpochIndex, (int(self), self.epoch)


def epoch_of(index: int) -> int:
    """The epoch that an index is read for; 0 for a plain int, as in evaluation."""
    return getattr(index, "epoch", 0)


class EpochBatches(Sampler[list[int]]):
    """Batches of one epoch as lists of `EpochIndex`; a last incomplete batch is dropped.

    Each global batch is a contiguous part of one shuffled order, divided among the processes: two processes
    with batch size 6 see what one sees with 12. `go_to` starts within an epoch, for resuming.

    Args:
        count: samples in the dataset.
        batch_size: samples per process.
        seed, rank, world: seed of the run, number of this process, number of processes.
        steps_per_epoch: batches of an epoch; if not given, one pass over the samples. Beyond one pass, the
            samples are shuffled again.
        replacement: draw each sample independently, so that an epoch may repeat some and leave out others.

    Raises:
        InputError: a batch is larger than the dataset, or `steps_per_epoch` is below 1.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        steps_per_epoch: int | None = None,
        replacement: bool = False,
    ) -> None:
        if count < batch_size * world:
            processes = f" x {world} processes" if world > 1 else ""
            raise InputError(
                f"--batch_size {batch_size}{processes} is more than the {count} training samples; lower it"
            )
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise InputError(f"--steps_per_epoch must be at least 1, got {steps_per_epoch}")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world = rank, world
        self.steps = steps_per_epoch or count // (batch_size * world)
        self.replacement = replacement
        self.epoch = self.start = 0

    def go_to(self, epoch: int, start: int = 0) -> None:
        """Iterate `epoch` next, from its batch `start` on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        order, epoch = self._order(), self.epoch
        for batch in range(self.start, len(self)):
            first = (batch * self.world + self.rank) * self.batch_size
            yield [EpochIndex(index, epoch) for index in order[first : first + self.batch_size]]

    def _order(self) -> list[int]:
        """The samples of the epoch, of all processes, in order."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        total = self.steps * self.batch_size * self.world
        if self.replacement:
            return torch.randint(self.count, (total,), generator=generator).tolist()
        passes = -(-total // self.count)
        return torch.cat([torch.randperm(self.count, generator=generator) for _ in range(passes)]).tolist()


class Guarded(Dataset):
    """A dataset that returns an `InputError` as an item, since a worker process would print a traceback.

    Args:
        dataset: raises the errors.
        skip: replace a sample that cannot be read by the next one that can, as `--skip_missing` asks, and
            say so on standard error; a long row of broken samples stays an error.
    """

    def __init__(self, dataset: Any, skip: bool = False) -> None:
        self.dataset, self.skip = dataset, skip
        self._skipped: set[int] = set()  # by this process

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch | InputError:
        try:
            return self.dataset[index]
        except (InputError, OSError) as caught:
            error = caught if isinstance(caught, InputError) else InputError(refusal(caught))
            return self._next(index, error) if self.skip else error

    def _next(self, index: int, error: InputError) -> Batch | InputError:
        for ahead in range(1, min(SKIPPED_IN_A_ROW, len(self)) + 1):
            other = (index + ahead) % len(self)
            with contextlib.suppress(InputError, OSError):
                sample = self.dataset[EpochIndex(other, epoch_of(index))]
                if index not in self._skipped:
                    self._skipped.add(int(index))
                    print(f"{error}; sample {other} takes its place", file=sys.stderr)
                return sample
        return error


def collate(samples: list[Batch | InputError]) -> Batch | InputError:
    """A Batch, or the first error among its samples, for the main process to raise."""
    errors = [sample for sample in samples if isinstance(sample, InputError)]
    return errors[0] if errors else Batch.cat(samples)


def outlive_sigterm(_: int) -> None:
    """Let a loader's worker outlive SIGTERM for a while and ignore Ctrl-C: both often reach the whole process
    group, and the step under way still needs the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_GRACE))
