"""Exponential moving average (EMA) of the weights, which often predicts better than the weights themselves.

    average = decay average + (1 - decay) weights   each step,  decay = min(--ema, (1 + t) / (10 + t))

The shorter decay of the first steps t keeps the random start out of the average (as in TensorFlow's
ExponentialMovingAverage). Buffers, such as running statistics, are averaged like weights. A step that is left
out because it is not finite counts with the weights before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from utils import InputError


class WeightAverage:
    """The average of a module's floating-point parameters and buffers.

    Args:
        module: averaged over the steps of its training.
        decay: in (0, 1), such as 0.999.

    Raises:
        InputError: the decay is not in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"--ema must lie between 0 and 1, got {decay}; try --ema 0.999")
        self.module, self.decay = module, decay
        self._average = [value.detach().clone() for value in self._values()]

    def update(self, step: int) -> None:
        """Take in the weights after `step` steps, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, [value.detach() for value in self._values()], 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The module's state with averages in place of its values."""
        state = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
        return state | dict(zip(self._names(), self._average))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the averages of `state_dict`."""
        for name, average in zip(self._names(), self._average):
            average.copy_(state[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """A block in which the module has the averages."""
        values = self._values()
        kept = [value.detach().clone() for value in values]
        with torch.no_grad():
            torch._foreach_copy_(values, self._average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(values, kept)

    def _names(self) -> list[str]:
        state = self.module.state_dict(keep_vars=True)
        return [name for name, value in state.items() if value.is_floating_point()]

    def _values(self) -> list[Tensor]:
        state = self.module.state_dict(keep_vars=True)
        return [value for value in state.values() if value.is_floating_point()]
