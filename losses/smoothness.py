"""Edge-aware smoothness: disparity may change where the image does, and is smooth elsewhere.

    mean of  |dx d*| exp(-|dx I|) + |dy d*| exp(-|dy I|),   with  d* = d / mean(d)

Dividing by the mean removes the incentive to shrink the whole scene (Monodepth2, eq. 3). FeatDepth adds the
four second differences in the same form, with k = 0.5 in every exponent (Shu et al., ECCV 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from image_pyramid import check_filter, shrink
from layers import edge_aware_curvature, edge_aware_gradient
from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class Smoothness(nn.Module):
    """Smoothness of the disparity at each scale's own size.

    Args:
        image_resize: filter that brings the image to that size, see `image_pyramid`: `area`, `bilinear` or
            `lanczos`.
        second_order: add second differences of disparity.
        sharpness: factor k of the image's differences in the exponents.
        normalise: divide disparity by its mean. FeatDepth does not with stereo pairs, which fix the scale.

    Raises:
        InputError: an unknown `image_resize`, a negative sharpness.
    """

    def __init__(
        self,
        image_resize: str = "area",
        second_order: bool = False,
        sharpness: float = 1.0,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if sharpness < 0:
            raise InputError(f"smoothness: sharpness must be at least 0, got {sharpness}; FeatDepth has 0.5")
        check_filter(image_resize, "smoothness")
        self.image_resize = image_resize
        self.second_order, self.sharpness, self.normalise = second_order, sharpness, normalise

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales, scale s weighted by 1 / 2**s. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale, (number of scales,), scale s weighted by 1 / 2**s."""
        terms = []
        for scale, disparity in prediction.disparities.items():
            image = shrink(batch.images[0], disparity.shape[-2:], self.image_resize)
            if self.normalise:
                disparity = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
            term = edge_aware_gradient(disparity, image, self.sharpness)
            if self.second_order:
                term = term + edge_aware_curvature(disparity, image, self.sharpness)
            terms.append(term / 2**scale)
        return torch.stack(terms)
