"""The processes of a run: joined by torchrun, one for each GPU, or a single one.

`Processes` is what the trainer and evaluation know of the others: their number, a gathered value, a flag that
any of them raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from devices import pick_device
from utils import InputError

Result = TypeVar("Result")


def start_processes(device: str) -> torch.device:
    """Pick the device and, under torchrun, join the other processes (NCCL on GPUs, gloo on CPUs).

    Raises:
        InputError: a GPU is requested and there is none.
    """
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        # Flags and objects of the host go over gloo, so that they never wait for a GPU.
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return chosen


class Processes:
    """This process among those of the run.

    Args:
        device: device of this process.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        joined = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)

    @property
    def first(self) -> bool:
        """True for the process that writes and prints for all."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of their ranks."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def any(self, value: bool) -> bool:
        """True if the value is true in any process."""
        if self.world == 1:
            return value
        flag = torch.tensor(int(value))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def any_on_device(self, flag: Tensor) -> Tensor:
        """True if the flag, a bool on this device, is true in any process; without waiting for a GPU."""
        if self.world == 1:
            return flag
        number = flag.int()
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return number > 0

    def mean_on_device(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes; without waiting for a GPU."""
        if self.world == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def first_error(self, error: InputError | None) -> InputError | None:
        """The error of the first process that has one, for all of them to stop with the same sentence."""
        found = [sentence for sentence in self.gather(str(error) if error else None) if sentence]
        return InputError(found[0]) if found else None

    def together(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, such as a share of a validation, before the processes exchange theirs.

        Raises:
            InputError: `work` raised it in any process; all stop with that sentence, since none may wait for
                a process that has ended.
        """
        if self.world == 1:
            return work()
        result: list[Result] = []
        error = None
        try:
            result.append(work())
        except InputError as caught:
            error = caught
        if error := self.first_error(error):
            raise error
        return result[0]

    def wait(self) -> None:
        """Wait for every process."""
        if dist.is_initialized():
            dist.barrier()


def end_processes() -> None:
    """Leave the process group that `start_processes` joined, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
