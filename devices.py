"""The device of a process, and the seeds of its random numbers."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils import InputError


def pick_device(name: str = "auto") -> torch.device:
    """The device called `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Under torchrun each process gets a GPU of its own.

    Raises:
        InputError: no such device here, or fewer GPUs than processes.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise InputError(f"device is auto, cpu, cuda or cuda:N, got '{name}'")
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not gpus:
        raise InputError(f"device {name} was asked for and there is no GPU here; try --device cpu")
    number = int(name.partition(":")[2] or os.environ.get("LOCAL_RANK", 0))
    if number >= gpus:
        raise InputError(
            f"there is no GPU number {number}, there are {gpus}; under torchrun, lower --nproc_per_node"
        )
    return torch.device("cuda", number)


def constants(values: Sequence[Any], like: Tensor) -> Tensor:
    """Numbers of the host as a tensor of the type and on the device of `like`, without waiting for a GPU.

    `like.new_tensor` waits until the GPU has done all earlier work.
    """
    tensor = torch.tensor(values, dtype=like.dtype)
    if like.is_cuda:
        tensor = tensor.pin_memory()  # which copies in the background
    return tensor.to(like.device, non_blocking=True)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
