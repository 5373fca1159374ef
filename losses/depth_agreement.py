"""Depth agreement: what an image's views say of its depth is what the image says, up to half of a factor.

    sum over views of  mean(delta^2) - 0.5 mean(delta)^2,   delta = log depth in the view - log depth

The mean of each image counts half as much as the spread about it (scale-invariant log error: Eigen et al.,
NeurIPS 2014). Neither side is held fixed (Liu et al., RA-L 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from layers import scale_invariant_log_error
from losses import LOSSES
from structures import Batch, Prediction


@LOSSES.register
class DepthAgreement(nn.Module):
    """Agreement of the views in `prediction.extra["agreement"]` with the plain image; 0 without views."""

    compares_views = True  # seen once, with all views beside each other, and not once for each

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Sum over views of the mean over scales. Returns a scalar."""
        total = batch.images[0].new_zeros(())
        for scales in prediction.extra.get("agreement", {}).values():
            total = total + torch.stack([scale_invariant_log_error(*pair) for pair in scales.values()]).mean()
        return total
