"""Normal matching: the surface normals of predicted depth equal those of pseudo-depth.

    mean over pixels and components of  |n - n*|            (Sun, Bian et al., SC-DepthV3, PAMI 2023, eq. 8)

Pseudo-depth comes from a network trained on other data. Its normals are smooth inside objects, where
photometric error is uninformative, and do not depend on its unknown scale.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from losses._normals import depth_to_normals, known_around
from losses._pseudo_depth import pseudo_and_predicted
from structures import Batch, Prediction


@LOSSES.register
class NormalMatching(CountedMean):
    """Mean absolute difference of normals over the pixels with known pseudo-depth."""

    needs: ClassVar[tuple[str, ...]] = ("maps.pseudo_depth",)

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Scalar in [0, 2 / sqrt(3)]; 0 if no pseudo-depth is known."""
        pseudo, depth = pseudo_and_predicted(batch, prediction, "normal_matching")
        known = known_around(pseudo)
        # NaN would reach the gradient of depth even where it is masked.
        pseudo = torch.nan_to_num(pseudo, nan=0.0, posinf=0.0, neginf=0.0)
        reference = depth_to_normals(pseudo, batch.intrinsics)
        error = (depth_to_normals(depth, batch.intrinsics) - reference).abs().mean(1, keepdim=True)
        return self.masked_mean(error, known)
