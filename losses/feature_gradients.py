"""Feature gradients: features of an auto-encoder shall vary strongly, and their change shall vary little.

    loss = sum over levels i of ( -a S1(f_i) + b S2(f_i) ) / 2**i / 5
    S1(f) = mean |dx f| exp(-|dx I|) + mean |dy f| exp(-|dy I|)              discriminative
    S2(f) = the same over the four second differences                        convergent

A feature-metric loss (losses/feature_metric.py) descends along the gradient of the features. S1 makes this
gradient large, also where the image has no texture. S2 keeps its direction over a wide range (Shu et al.,
Feature-metric Loss for Self-supervised Learning of Depth and Egomotion, ECCV 2020). Nothing in S1 bounds the
features; batch norms and reconstruction do.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from image_pyramid import shrink
from layers import edge_aware_curvature, edge_aware_gradient
from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class FeatureGradients(nn.Module):
    """Sum over the five features of the target.

    Args:
        discriminative: weight a of the first differences.
        convergent: weight b of the second differences.

    Raises:
        InputError: a negative weight.
    """

    predicts: ClassVar[tuple[str, ...]] = ("extra.features.levels",)

    def __init__(self, discriminative: float = 1e-3, convergent: float = 1e-3) -> None:
        super().__init__()
        if discriminative < 0 or convergent < 0:
            raise InputError(
                "feature_gradients: discriminative and convergent must be at least 0, got "
                f"{discriminative} and {convergent}"
            )
        self.discriminative, self.convergent = discriminative, convergent

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Returns a scalar; it is negative if the first differences outweigh the second ones."""
        return self.per_level(batch.images[0], prediction.extra["features"].levels).sum()

    def per_level(self, image: Tensor, features: list[Tensor]) -> Tensor:
        """(levels,), each with its 1 / 2**i / levels.

        Args:
            image: (B, 3, H, W) in [0, 1].
            features: (B, C, h, w) each, finest first.
        """
        terms = []
        for level, feature in enumerate(features):
            small = shrink(image, feature.shape[-2:])
            term = self.convergent * edge_aware_curvature(feature, small)
            term = term - self.discriminative * edge_aware_gradient(feature, small)
            terms.append(term / 2**level / len(features))
        return torch.stack(terms)
