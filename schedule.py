"""Learning rate and last step of a run, as functions of its progress.

    warm-up    rate = base (step + 1) / warmup_steps
    step       rate = base gamma^(number of drops so far)
    cosine     rate = least + (base - least) (1 + cos(pi t)) / 2,   t the share of the steps after warm-up

Schedules follow `num_epochs`. `max_steps` only stops a run, so that a run with a larger one continues as if
it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: complete epochs.
        step: optimiser steps since the start of the run, of any batch size.
        position: steps done within the current epoch.
    """

    epoch: int = 0
    step: int = 0
    position: int = 0


@dataclass(frozen=True)
class Schedule:
    """The schedule of a run, from its options.

    Args:
        learning_rate: base rate.
        num_epochs: epochs of the run.
        steps_per_epoch: optimiser steps in one epoch.
        scheduler: `step`, `cosine` or `constant`.
        max_steps: stop after this step; None: after the last epoch.
        warmup_steps: steps of linear increase at the start.
        scheduler_step_size: epochs before each drop.
        decay_epochs: epochs of the drops, instead of `scheduler_step_size`.
        scheduler_gamma: factor of each drop.
        min_learning_rate: rate at the end of cosine.
    """

    learning_rate: float
    num_epochs: int
    steps_per_epoch: int
    scheduler: str = "step"
    max_steps: int | None = None
    warmup_steps: int = 0
    scheduler_step_size: int = 15
    decay_epochs: Sequence[int] | None = None
    scheduler_gamma: float = 0.1
    min_learning_rate: float = 0.0

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.num_epochs * self.steps_per_epoch

    def rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""
        base = self.learning_rate
        if progress.step < self.warmup_steps:
            return base * (progress.step + 1) / self.warmup_steps
        if self.scheduler == "step" and self.decay_epochs:
            return base * self.scheduler_gamma ** sum(progress.epoch >= epoch for epoch in self.decay_epochs)
        if self.scheduler == "step":
            return base * self.scheduler_gamma ** (progress.epoch // self.scheduler_step_size)
        if self.scheduler == "cosine":
            after = max(0, self.steps_of_epochs(progress) - self.warmup_steps)
            done = after / max(1, self.total_steps - self.warmup_steps)
            swing = base - self.min_learning_rate
            return self.min_learning_rate + swing * (1 + math.cos(math.pi * done)) / 2
        return base

    def steps_of_epochs(self, progress: Progress) -> int:
        """Steps so far, counted in epochs of today's size. Earlier steps may have used another batch size."""
        return progress.epoch * self.steps_per_epoch + progress.position

    def last_step(self, progress: Progress) -> int:
        """The step after which the run ends: the last one of the last epoch, or `max_steps`."""
        left = self.total_steps - self.steps_of_epochs(progress)
        return min(progress.step + left, self.max_steps or progress.step + left)

    def finished(self, progress: Progress) -> bool:
        """True after all epochs or `max_steps`. False while the last epoch has not been validated."""
        stopped_short = progress.step >= self.last_step(progress) and progress.position < self.steps_per_epoch
        return progress.epoch >= self.num_epochs or stopped_short
