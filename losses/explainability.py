"""Explainability: penalty for predicted source weights that are below one.

    mean of  -log(mask)

The weights multiply the photometric error, which would be lowest with all weights at zero (Zhou et al. 2017,
eq. 5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import LOSSES
from structures import Batch, Prediction


@LOSSES.register
class Explainability(nn.Module):
    """Binary cross entropy of the predicted masks against one."""

    predicts = ("masks",)

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale, (number of scales,)."""
        masks = prediction.masks.values()
        return torch.stack([F.binary_cross_entropy(mask, torch.ones_like(mask)) for mask in masks])
