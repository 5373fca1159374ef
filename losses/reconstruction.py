"""Reconstruction: the images of an auto-encoder's decoder equal its input (FeatDepth, Shu et al., ECCV 2020).

mean over scales of  mean over pixels of  0.85 (1 - SSIM) / 2 + 0.15 sqrt( (I - J)^2 + 1e-6 )
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from image_pyramid import check_filter, shrink
from losses import LOSSES
from photometric_error import PhotometricTarget
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class Reconstruction(nn.Module):
    """Mean over scales of the photometric error of the reconstruction.

    Args:
        ssim_weight: share of SSIM in the error; the rest is the robust difference.
        image_resize: filter that brings the image to a scale's size, see `image_pyramid`: `area`, as the
            published first stage does by halving step by step, `bilinear`, as its joint model does, or
            `lanczos`.

    Raises:
        InputError: a weight outside [0, 1], another way of resizing.
    """

    predicts: ClassVar[tuple[str, ...]] = ("extra.features.reconstructions",)

    def __init__(self, ssim_weight: float = 0.85, image_resize: str = "area") -> None:
        super().__init__()
        if not 0 <= ssim_weight <= 1:
            raise InputError(f"reconstruction: ssim_weight must be in [0, 1], got {ssim_weight}")
        check_filter(image_resize, "reconstruction")
        self.ssim_weight, self.image_resize = ssim_weight, image_resize

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales. Returns a scalar."""
        return self.per_scale(batch.images[0], prediction.extra["features"].reconstructions).mean()

    def per_scale(self, image: Tensor, reconstructions: dict[int, Tensor]) -> Tensor:
        """The term at each scale, (number of scales,).

        Args:
            image: (B, 3, H, W) in [0, 1].
            reconstructions: scale → (B, 3, h, w) in [0, 1].
        """
        errors = []
        for reconstruction in reconstructions.values():
            target = shrink(image, reconstruction.shape[-2:], self.image_resize)
            compared = PhotometricTarget(target, self.ssim_weight, l1_epsilon=1e-6)
            errors.append(compared.error(reconstruction[None]).mean())
        return torch.stack(errors)
