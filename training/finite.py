"""A step whose loss or gradient is not finite is left out: its batch is kept, and the model stays as it was.

The device decides. On a GPU, the fused optimiser skips the update by a flag, and the host reads the numbers
of a step while the next one runs, so that no step waits for the GPU. On a CPU, the host reads them at once.
After MAX_NOT_FINITE such steps in a row the run stops, since the next ones would fail as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from files import writing
from processes import Processes
from structures import Batch
from utils import InputError

MAX_NOT_FINITE = 3  # steps in a row before a run gives up


@dataclasses.dataclass
class StepNumbers:
    """The numbers of one step, on their way to the host.

    Attributes:
        step: counted from 1.
        names: names of the values: loss, terms and gradient norm.
        values: (number of names,) on the host; valid after `ready`.
        ready: event that the copy to the host ends with; None on a CPU.
        batches: batches of this process.
        learning_rate: base rate of the step.
    """

    step: int
    names: list[str]
    values: Tensor
    ready: torch.cuda.Event | None
    batches: list[Batch]
    learning_rate: float

    def wait(self) -> None:
        """Wait until the device has ended this step; it may be working on later ones."""
        if self.ready is not None:
            self.ready.synchronize()


class FiniteSteps:
    """Updates the model by steps that are finite.

    Args:
        module: whose running statistics a left-out step must not change.
        optimizer: takes the steps.
        processes: all leave out a step together.
        folder: for the batches that are kept.
        deferred: leave the decision to the device; needs a fused optimiser. If not given: on a GPU.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        folder: Path,
        deferred: bool | None = None,
    ) -> None:
        self.optimizer, self.processes, self.folder = optimizer, processes, folder
        self.deferred = processes.device.type == "cuda" if deferred is None else deferred
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]
        self._statistics = [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._statistics]
        self._unread: deque[StepNumbers] = deque()
        self._in_a_row = 0

    def begin(self) -> None:
        """Remember the running statistics, which the forward pass changes."""
        _copy(self._statistics, self._before)

    @torch.no_grad()
    def finish(
        self, step: int, names: Sequence[str], values: Tensor, batches: list[Batch], learning_rate: float
    ) -> None:
        """Update the model if all values are finite in all processes, else restore its statistics.

        Args:
            step: counted from 1.
            names: names of the values: loss, terms and gradient norm.
            values: (number of names,) on the device.
            batches: batches of this process.
            learning_rate: base rate of the step.
        """
        bad = self.processes.any_on_device(~values.isfinite().all())
        if self.deferred:
            self.optimizer.found_inf = bad.float()  # the flag by which fused optimisers skip an update
            self.optimizer.step()
            for now, before in zip(self._statistics, self._before):
                torch.where(bad, before, now, out=now)
        elif bad.item():
            _copy(self._before, self._statistics)
        else:
            self.optimizer.step()
        ready = None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        if self._unread:
            self._unread[-1].wait()  # the host is one step ahead at most
        self._unread.append(StepNumbers(step, list(names), values, ready, batches, learning_rate))

    def read(self, all: bool = False) -> Iterator[tuple[StepNumbers, dict[str, float], str]]:
        """The steps that have not been read: numbers, values by name, and a sentence if it was left out.

        Args:
            all: read the last step too, which a GPU may not have begun; else one is left to it.

        Raises:
            InputError: the last of several steps in a row was not finite.
        """
        while len(self._unread) > (self.deferred and not all):
            numbers = self._unread.popleft()
            numbers.wait()
            values = dict(zip(numbers.names, numbers.values.tolist()))
            yield numbers, values, self._sentence(numbers, values)

    def _sentence(self, numbers: StepNumbers, values: dict[str, float]) -> str:
        """The sentence about a step that was left out, whose batch is kept now; else the empty string."""
        if not self.processes.any(not all(map(math.isfinite, values.values()))):
            self._in_a_row = 0
            return ""
        self._in_a_row += 1
        path = self.folder / f"not_finite_step_{numbers.step}_rank_{self.processes.rank}.pt"
        batch = Batch.cat(numbers.batches) if len(numbers.batches) > 1 else numbers.batches[0]
        with writing(path) as temporary:
            torch.save(dataclasses.asdict(batch.to("cpu")), temporary)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        bad = list(dict.fromkeys(name for names in self.processes.gather(bad) for name in names))
        terms = [name for name in bad if name not in ("loss", "grad_norm")] or bad
        verb = "is" if len(terms) == 1 else "are"
        sentence = f"step {numbers.step}: {', '.join(terms)} {verb} not finite; the batch is kept in {path}"
        if self._in_a_row >= MAX_NOT_FINITE:
            raise InputError(f"{sentence}; that was {self._in_a_row} in a row, so the run stops")
        return f"{sentence}; the step is left out"


def _copy(values: list[Tensor], into: list[Tensor]) -> None:
    """Copy tensors at once; there may be none."""
    if values:
        torch._foreach_copy_(into, values)
