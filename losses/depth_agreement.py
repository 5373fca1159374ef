"""Depth agreement: depth from augmented views matches depth from the image; a common scale error counts half.

    sum over views of  mean(delta^2) - 0.5 mean(delta)^2,   delta = log depth in the view - log depth

This is the scale-invariant log error (Eigen et al., NeurIPS 2014), in which the square of an image's mean
difference counts half. The gradient reaches both sides (Liu et al., RA-L 2024).
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

    compares_views = True  # computed once for all views together, not once per view

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Sum over views of the mean over scales. Returns a scalar."""
        total = batch.images[0].new_zeros(())
        for scales in prediction.extra.get("agreement", {}).values():
            total = total + torch.stack([scale_invariant_log_error(*pair) for pair in scales.values()]).mean()
        return total
