"""A step whose loss or gradient is not finite is left out: its batch is kept, and the model stays as it was.

After MAX_NOT_FINITE such steps in a row the run stops, since the next ones would fail as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from files import writing
from processes import Processes
from structures import Batch
from utils import InputError

MAX_NOT_FINITE = 3  # steps in a row before a run gives up


class FiniteSteps:
    """Decides about each step, after its backward pass.

    Args:
        module: whose running statistics a left-out step must not change.
        processes: all leave out a step together.
        folder: for the batches that are kept.
    """

    def __init__(self, module: nn.Module, processes: Processes, folder: Path) -> None:
        self.processes, self.folder = processes, folder
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]
        self._statistics = [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._statistics]
        self._in_a_row = 0

    def begin(self) -> None:
        """Remember the running statistics, which the forward pass changes."""
        _copy(self._statistics, self._before)

    def check(self, step: int, numbers: Mapping[str, float], batches: list[Batch]) -> str:
        """The sentence about a step that must be left out; the empty string if the step can be used.

        Args:
            step: counted from 1.
            numbers: loss, terms and gradient norm by name.
            batches: batches of this process.

        Raises:
            InputError: that was the last of several in a row.
        """
        if not self.processes.any(not all(map(math.isfinite, numbers.values()))):
            self._in_a_row = 0
            return ""
        _copy(self._before, self._statistics)
        self._in_a_row += 1
        path = self.folder / f"not_finite_step_{step}_rank_{self.processes.rank}.pt"
        batch = Batch.cat(batches) if len(batches) > 1 else batches[0]
        with writing(path) as temporary:
            torch.save(dataclasses.asdict(batch.to("cpu")), temporary)
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        bad = list(dict.fromkeys(name for names in self.processes.gather(bad) for name in names))
        terms = [name for name in bad if name not in ("loss", "grad_norm")] or bad
        verb = "is" if len(terms) == 1 else "are"
        sentence = f"step {step}: {', '.join(terms)} {verb} not finite; the batch is kept in {path}"
        if self._in_a_row >= MAX_NOT_FINITE:
            raise InputError(f"{sentence}; that was {self._in_a_row} in a row, so the run stops")
        return f"{sentence}; the step is left out"


def _copy(values: list[torch.Tensor], into: list[torch.Tensor]) -> None:
    """Copy tensors at once; there may be none."""
    if values:
        torch._foreach_copy_(into, values)
