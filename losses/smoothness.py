"""Edge-aware smoothness: disparity may change where the image does, and is smooth elsewhere.

    mean of  |dx d*| exp(-|dx I|) + |dy d*| exp(-|dy I|),   with  d* = d / mean(d)

Dividing by the mean removes the incentive to shrink the whole scene (Monodepth2, eq. 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import edge_aware_gradient
from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class Smoothness(nn.Module):
    """Smoothness of the disparity at each scale's own size.

    Args:
        image_resize: resizing of the image to that size: `area`, or `bilinear` without antialiasing as in
            SGDepth, which skips pixels from scale 2 on.

    Raises:
        InputError: an unknown `image_resize`.
    """

    def __init__(self, image_resize: str = "area") -> None:
        super().__init__()
        if image_resize not in ("area", "bilinear"):
            raise InputError(f"smoothness: image_resize is 'area' or 'bilinear', got '{image_resize}'")
        self.image_resize = image_resize

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales, scale s weighted by 1 / 2**s. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """(number of scales,), scale s weighted by 1 / 2**s."""
        terms = []
        for scale, disparity in prediction.disparities.items():
            image = batch.images[0]
            if disparity.shape[-2:] != image.shape[-2:]:
                image = F.interpolate(image, disparity.shape[-2:], mode=self.image_resize)
            normalised = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
            terms.append(edge_aware_gradient(normalised, image) / 2**scale)
        return torch.stack(terms)
