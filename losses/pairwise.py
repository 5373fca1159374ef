"""Pairwise consistency: target and source, warped into each other, agree in colour and in depth.

    photometric = mean over valid p of  (1 - D(p)) pe(a, b -> a)(p),     pe = 0.85 SSIM + 0.15 |a - b|
    geometry    = mean over valid p of  D(p)

over both directions of every pair a <- b; D is the depth inconsistency of `losses/_pairs.py`, and 1 - D the
self-discovered mask (Bian et al., Unsupervised Scale-consistent Depth Learning from Video, IJCV 2021). The
scale of depth becomes constant over a video. Both parts read the same per-pixel minimum over pairs, so they
are one term: photometric + geometry_weight * geometry.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from losses._pairs import MIN_VALID, Pairs, compare_pairs
from photometric_error import mean_ssim_error
from structures import Batch, Prediction
from utils import InputError

REDUCTIONS = ("min", "mean", "published")


@LOSSES.register
class Pairwise(CountedMean):
    """Photometric and geometry consistency in both directions.

    Args:
        ssim_weight: share of SSIM in the error; the rest is the absolute difference, clamped to 1.
        ssim_radius: radius of SSIM's window in pixels; 3 is the published 7 x 7.
        automask: leave out pixels that no motion explains at least as well.
        dynamic_mask: weight the photometric error by 1 - D, without a gradient.
        reduction: reduction over pairs. `min` selects, per pixel of the target, the valid source of smallest
            colour difference. `mean` averages all pairs. `published` takes the minimum over both directions,
            although their maps have different pixel grids, and before validity is tested.
        geometry_weight: weight of the geometry part.
        normalised: compare (image - 0.45) / 0.225, as published, instead of images in [0, 1].
        published_warp: sample, pad and test validity as the published code does; see
            `losses._pairs.compare_pairs`.

    Raises:
        InputError: a weight out of range, an unknown reduction, a radius below 1.
    """

    predicts: ClassVar[tuple[str, ...]] = ("sources.depths", "sources.T_target_from_source")

    def __init__(
        self,
        ssim_weight: float = 0.85,
        ssim_radius: int = 3,
        automask: bool = True,
        dynamic_mask: bool = True,
        reduction: str = "min",
        geometry_weight: float = 0.1,
        normalised: bool = True,
        published_warp: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= ssim_weight <= 1:
            raise InputError(f"ssim_weight must be in [0, 1], got {ssim_weight}")
        if ssim_radius < 1:
            raise InputError(f"ssim_radius must be at least 1, got {ssim_radius}; 3 is a window of 7 x 7")
        if geometry_weight < 0:
            raise InputError(f"geometry_weight must be at least 0, got {geometry_weight}")
        if reduction not in REDUCTIONS:
            raise InputError(f"reduction over pairs is {', '.join(REDUCTIONS)}, got '{reduction}'")
        self.ssim_weight, self.ssim_radius = ssim_weight, ssim_radius
        self.automask, self.dynamic_mask = automask, dynamic_mask
        self.reduction, self.geometry_weight = reduction, geometry_weight
        self.normalised, self.published_warp = normalised, published_warp

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Photometric + geometry_weight * geometry. Returns a scalar."""
        photometric, geometry = self.parts(batch, prediction)
        return photometric + self.geometry_weight * geometry

    def parts(self, batch: Batch, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """The photometric and the geometry part, two unweighted scalars."""
        pairs = compare_pairs(batch, prediction, self.normalised, self.published_warp)
        valid = pairs.valid & pairs.moving_with_scene() if self.automask else pairs.valid
        error, inconsistency, valid = self.select(pairs, self.error(pairs), valid)
        return self.masked_mean(error, valid, MIN_VALID), self.masked_mean(inconsistency, valid, MIN_VALID)

    def error(self, pairs: Pairs) -> Tensor:
        """(2 S, B·N, 1, H, W) photometric error, weighted by the self-discovered mask."""
        error = (pairs.images - pairs.warped).abs().clamp(0, 1).mean(2, keepdim=True)
        if self.ssim_weight > 0:
            similarity = mean_ssim_error(pairs.warped, pairs.images, self.ssim_radius)
            error = (1 - self.ssim_weight) * error + self.ssim_weight * similarity
        return error * (1 - pairs.inconsistency.detach()) if self.dynamic_mask else error

    def select(self, pairs: Pairs, error: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps (M, B·N, 1, H, W) to average: error, D and validity."""
        maps = error, pairs.inconsistency, valid
        if self.reduction == "mean":
            return maps
        difference = pairs.difference.detach()
        if self.reduction == "published":
            best = difference.argmin(0, keepdim=True)
            return tuple(values.gather(0, best) for values in maps)
        # Only the maps in the target share a pixel grid; each map in a source is kept.
        best = difference[::2].masked_fill(~valid[::2], torch.inf).argmin(0, keepdim=True)
        return tuple(torch.cat([values[::2].gather(0, best), values[1::2]]) for values in maps)
