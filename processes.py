"""The processes of one command: their start under torchrun, what each does, and what they exchange.

torchrun starts every process with RANK and WORLD_SIZE in its environment. A command that was started
without it is one process, and each function here then answers for that one.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from shards import torchrun_shard
from utils import pick_device


def start_processes(device: str) -> torch.device:
    """Pick the device and, under torchrun, join the other processes (NCCL on GPUs, gloo on CPUs).

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        InputError: there is no such device here.
    """
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def end_processes() -> None:
    """Leave the process group that `start_processes` joined, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """True in the one process that prints and writes files for all."""
    return torchrun_shard()[0] == 1


def gather(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks; every process gets the list."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def any_rank(value: bool, device: torch.device) -> bool:
    """True in every process if `value` is true in one of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    flag = torch.tensor(int(value), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())
