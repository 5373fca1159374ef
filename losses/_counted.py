"""Means over a number of pixels that depends on the batch: pixels with a label, a measurement, a valid pair.

A process that divides by the count of its own share of the batch weights its pixels differently from the
others. DistributedDataParallel averages gradients, so with the mean count in every denominator several
processes learn what one process learns with the joined batch:

    mean_p ( total_p / mean_p(count_p) )  =  sum_p total_p / sum_p count_p
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class CountedMean(nn.Module):
    """Base of loss terms that divide by a count.

    Attributes:
        mean_over_processes: mean of a tensor over the processes of a training, set by
            `training.distributing.distribute`.
    """

    mean_over_processes: Callable[[Tensor], Tensor] | None = None

    def shared(self, count: Tensor) -> Tensor:
        """A count of any shape, in a training with several processes its mean over them; float32."""
        count = count.float()
        if self.training and self.mean_over_processes is not None:
            count = self.mean_over_processes(count)
        return count

    def masked_mean(self, values: Tensor, valid: Tensor, more_than: int = 0) -> Tensor:
        """Mean of `values` over valid pixels; 0 with a gradient of 0 if at most `more_than` are valid.

        Args:
            values: any shape.
            valid: bool of the same shape.
            more_than: count up to which a mean is unreliable.
        """
        total, count = torch.where(valid, values, 0.0).sum(), self.shared(valid.sum())
        return torch.where(count > more_than, total / count.clamp(min=1e-12), 0.0 * total)
