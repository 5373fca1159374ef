"""Feature gap: features of the image approach those of image and sparse depth (PackNet-SAN).

    mean over levels of  mean (F_rgbd - F_rgb)^2,  the gradient only through F_rgb

Depth prediction then learns from depth completion (Guizilini et al., Sparse Auxiliary Networks, CVPR 2021).
The term reads the gap from `Prediction.extra["feature_gap"]`, one number per level.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class FeatureGap(nn.Module):
    """Mean over the levels of the squared difference of features."""

    needs: ClassVar[tuple[str, ...]] = ("maps.input_depth",)

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Returns a scalar."""
        if "feature_gap" not in prediction.extra:
            raise InputError(
                "feature_gap needs a network that runs on the image with and without depth; "
                "--encoder packnet_san is one"
            )
        return prediction.extra["feature_gap"].mean()


def feature_gap(with_depth: Iterable[Tensor], without: Iterable[Tensor]) -> Tensor:
    """(levels,) mean squared differences of features (B, C, h, w); no gradient reaches `with_depth`."""
    return torch.stack(
        [F.mse_loss(rgb, rgbd.detach()) for rgbd, rgb in zip(with_depth, without, strict=True)]
    )
