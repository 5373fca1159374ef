"""Shared memory of loader processes: a loader that would not fit is refused before it starts.

A loader's workers hand over batches through files in /dev/shm. If it is full, a worker fails inside torch's
queue and the main process waits for ever. Docker gives a container 64 MB unless told otherwise, and a batch
of twelve samples of three 640 x 192 images has 13 MB: two workers with four batches each need 106 MB.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from utils import InputError

PLACE = Path("/dev/shm")
SPARE = 1.1  # allocation in whole pages, and the batch in the main process's hands


def fit_loader(sample: Any, batch_size: int, workers: int, prefetch: int = 4, copies: int = 1) -> int:
    """The number of batches that each worker may prefetch, at most `prefetch`.

    Args:
        sample: one item of the dataset: a Batch, or anything made of tensors.
        batch_size: samples per batch.
        workers: loader processes; 0 needs no shared memory.
        prefetch: wanted number of batches per worker.
        copies: processes on this machine with a loader of their own, as under torchrun.

    Raises:
        InputError: shared memory does not even hold one batch per worker and the one in use.
    """
    free = free_bytes()
    if workers == 0 or free is None:
        return prefetch
    batch = SPARE * batch_size * bytes_of(sample)
    fitting = int((free / copies / batch - 1) / workers) if batch else prefetch
    if fitting >= 1:
        return min(prefetch, fitting)
    needed = copies * batch * (workers + 1)
    fewer = max(0, int(free / copies / batch) - 1) if batch else 0
    raise InputError(
        f"{PLACE} has {free / 1e6:.0f} MB free and {copies * workers} loader processes need "
        f"{needed / 1e6:.0f} MB; start the container with more (docker run --shm-size 2g), or give "
        f"--num_workers {fewer}"
    )


def local_world() -> int:
    """Number of processes that torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def free_bytes() -> int | None:
    """Free bytes of shared memory; None on a system without /dev/shm."""
    try:
        info = os.statvfs(PLACE)
    except (OSError, AttributeError):
        return None
    return info.f_bavail * info.f_frsize


def bytes_of(item: Any) -> int:
    """Bytes of all tensors in an item: a tensor, a dataclass, or containers of them."""
    if isinstance(item, Tensor):
        return item.numel() * item.element_size()
    if dataclasses.is_dataclass(item):
        return sum(bytes_of(getattr(item, field.name)) for field in dataclasses.fields(item))
    if isinstance(item, Mapping):
        return sum(map(bytes_of, item.values()))
    if isinstance(item, (list, tuple)):
        return sum(map(bytes_of, item))
    return 0
