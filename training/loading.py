"""The loader of training batches: what cannot be loaded becomes a sentence between two steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from datasets.loading import EpochBatches, Guarded, collate, outlive_sigterm
from datasets.shared_memory import fit_loader, local_world
from structures import Batch
from training.stopping import of_loader
from utils import InputError


def build_loader(
    dataset: Any, batches: EpochBatches, sample: Batch, workers: int, pinned: bool, skip: bool = False
) -> DataLoader:
    """The loader of a run. An unreadable sample comes as an `InputError` in place of its batch.

    Args:
        dataset: the training part.
        batches: the samples of each batch.
        sample: one sample of the dataset, for its size.
        workers: loader processes; 0 loads in this process.
        pinned: page-locked memory, for a GPU.
        skip: replace a sample that cannot be read by the next one that can.

    Raises:
        InputError: shared memory is too small.
    """
    prefetch = fit_loader(sample, batches.batch_size, workers, copies=local_world())
    return DataLoader(
        Guarded(dataset, skip=skip),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pinned,
        persistent_workers=workers > 0,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=outlive_sigterm,
        generator=torch.Generator(),  # its own, so that opening a loader draws nothing from the run's
    )


def iterate(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches. A loader process that was killed is an error of the next batch.

    torch would raise it from a signal handler, in the middle of a step, where the state cannot be saved.
    """
    batches = iter(loader)
    if loader.num_workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the loader looks after its processes itself
    return batches


def load(batches: Iterator[Batch | InputError], count: int) -> tuple[list[Batch], InputError | None]:
    """The next `count` batches, and the error that keeps one of them from being loaded."""
    try:
        found = [next(batches) for _ in range(count)]
    except RuntimeError as error:
        if sentence := of_loader(error):
            return [], sentence
        raise
    errors = [item for item in found if isinstance(item, InputError)]
    return [item for item in found if isinstance(item, Batch)], errors[0] if errors else None
