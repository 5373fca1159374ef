"""Feature-metric loss: warped features of a source equal the target's (FeatDepth, Shu et al., ECCV 2020).

    mean over pixels of  min_s  mean_c sqrt( (F_t - F_s < proj(D_t, T_s←t, K) >)^2 + 1e-6 )

F is the first feature of an image auto-encoder. Where the image has little texture, features that are trained
to vary everywhere (losses/feature_gradients.py) still have a gradient, and the photometric error has none.
The features are warped at their own size with the finest depth. Where the batch's map `ego_mask` says that a
camera sees its own vehicle, the error is 0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import sample
from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError

EPSILON = 1e-6


@LOSSES.register
class FeatureMetric(nn.Module):
    """Mean over the pixels of the target's features.

    Args:
        align_corners: pixel convention of the resampling. False is what the published code does since
            torch 1.3.
        reduction: over sources, `min` as published, or `mean`.

    Raises:
        InputError: an unknown reduction.
    """

    predicts: ClassVar[tuple[str, ...]] = ("extra.features",)

    def __init__(self, align_corners: bool = True, reduction: str = "min") -> None:
        super().__init__()
        if reduction not in ("min", "mean"):
            raise InputError(f"feature_metric: reduction is 'min' or 'mean', got '{reduction}'")
        self.align_corners, self.reduction = align_corners, reduction

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Returns a scalar."""
        features = prediction.extra["features"]
        error = self.errors(features.target, self.warped(prediction))
        error = error.amin(0) if self.reduction == "min" else error.mean(0)
        ego_mask = batch.maps.get("ego_mask")
        if ego_mask is not None:
            error = error * (F.interpolate(ego_mask.float(), error.shape[-2:], mode="area") == 0)
        return error.mean()

    def warped(self, prediction: Prediction) -> Tensor:
        """(S, B·N, C, h, w), the sources' features resampled into the target view."""
        features = prediction.extra["features"]
        flat = sample(features.sources.flatten(0, 1), features.grid.flatten(0, 1), self.align_corners)
        return flat.unflatten(0, features.sources.shape[:2])

    @staticmethod
    def errors(target: Tensor, warped: Tensor) -> Tensor:
        """(S, B·N, 1, h, w), the robust difference to the target (B·N, C, h, w), averaged over channels."""
        return torch.sqrt((warped - target) ** 2 + EPSILON).mean(2, keepdim=True)
