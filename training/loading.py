"""The loader of training batches, and the shared memory that its processes need.

Batches travel through /dev/shm, which containers make small:

    bytes needed = (workers x prefetch + 2) x batch x processes on this machine

The two are the batch that is trained on and the one after it. With a full /dev/shm a loader process waits or
dies without a message, so the need is compared with the free space before the first step.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets.loading import EpochBatches, Guarded, collate, outlive_sigterm
from structures import Batch
from training.stopping import of_loader
from utils import InputError

SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 4  # batches that each loader process has ready, if they fit
LEAST = 2  # the same for the loaders of a validation
IN_USE = 2  # batches


def build_loader(
    dataset: Any, batches: EpochBatches, sample: Batch, workers: int, pinned: bool, skip: bool = False
) -> DataLoader:
    """The loader of a run. An unreadable sample comes as an `InputError` in place of its batch.

    Args:
        dataset: the training part.
        batches: which samples form which batch.
        sample: one sample of the dataset, for its size.
        workers: loader processes; 0 loads in this process.
        pinned: page-locked memory, for a GPU.
        skip: replace a sample that cannot be read by the next one that can.

    Raises:
        InputError: shared memory is too small.
    """
    return DataLoader(
        Guarded(dataset, skip=skip),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pinned,
        persistent_workers=workers > 0,
        prefetch_factor=choose_prefetch(sample, batches.batch_size, workers),
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


def choose_prefetch(sample: Batch, batch_size: int, workers: int, folder: Path = SHARED_MEMORY) -> int | None:
    """The number of batches that each loader process may have ready.

    Args:
        sample: one sample of the dataset.
        batch_size: samples per batch.
        workers: loader processes of this process.
        folder: where shared memory lies.

    Returns:
        PREFETCH or less, at least LEAST; None without loader processes.

    Raises:
        InputError: not even LEAST batches fit; names the number of loader processes that do.
    """
    if not workers:
        return None
    if not folder.is_dir():
        return PREFETCH
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    batch = batch_size * _bytes(sample)
    for prefetch in range(PREFETCH, LEAST - 1, -1):
        if (workers * prefetch + IN_USE) * batch <= free:
            return prefetch
    fitting = max(0, (free // batch - IN_USE) // LEAST)
    needed = (workers * LEAST + IN_USE) * batch
    raise InputError(
        f"{folder} has {_megabytes(free)} free for this process, and --num_workers {workers} with batches of "
        f"{_megabytes(batch)} need {_megabytes(needed)}; give --num_workers {fitting}, or more shared memory "
        "(docker run --shm-size 2g)"
    )


def _bytes(sample: Batch) -> int:
    sizes = []

    def add(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    sample.map(add)
    return sum(sizes)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"
