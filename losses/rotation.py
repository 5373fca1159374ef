"""Rotation supervision of the rectification network: consistency with a known rotation, and a triplet.

    consistency = mean |recovered - known|
    triplet     = mean max(0, |after| - |before| + margin)

`recovered` is the predicted rotation between a source and the same source turned by `known`. The triplet term
makes the remaining rotation after rectification smaller than the one before (Bian et al., Auto-Rectify
Network, PAMI 2021, section 4.2).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class Rotation(nn.Module):
    """Both parts over all sources; reads `prediction.extra["rectified"]`: frame → `Rectified` of networks/.

    Args:
        consistency_weight: weight of the consistency part.
        triplet_weight: weight of the triplet part.
        margin: radians.

    Raises:
        InputError: a weight or margin below 0.
    """

    predicts: ClassVar[tuple[str, ...]] = ("extra.rectified",)

    def __init__(
        self, consistency_weight: float = 1.0, triplet_weight: float = 1.0, margin: float = 0.05
    ) -> None:
        super().__init__()
        for name, value in (
            ("consistency_weight", consistency_weight),
            ("triplet_weight", triplet_weight),
            ("margin", margin),
        ):
            if value < 0:
                raise InputError(f"{name} must be at least 0, got {value}")
        self.consistency_weight, self.triplet_weight = consistency_weight, triplet_weight
        self.margin = margin

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Weighted sum of both parts. Returns a scalar."""
        consistency, triplet = self.parts(prediction)
        return self.consistency_weight * consistency + self.triplet_weight * triplet

    def parts(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Consistency and triplet, two unweighted scalars in radians."""
        rectified = prediction.extra["rectified"]
        consistency = [(one.recovered - one.known).abs() for one in rectified.values()]
        triplet = [
            (one.after.abs() - one.before.abs() + self.margin).clamp(min=0) for one in rectified.values()
        ]
        return torch.cat(consistency).mean(), torch.cat(triplet).mean()
