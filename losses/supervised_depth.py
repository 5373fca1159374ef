"""Supervised depth: predicted and measured depth agree at the pixels where a measurement exists.

p and g are predicted and measured inverse depth (Guizilini et al., CoRL 2019; PackNet-SfM), or depth:

    l1       mean |p - g|                       mse      mean (p - g)^2
    abs_rel  mean |p - g| / p, which is |D - G| / G of depths
    silog    10 sqrt( mean(d^2) - 0.85 mean(d)^2 ),  d = ln p - ln g      (Eigen et al. 2014; Lee et al. 2019)
    scale_invariant   10 sqrt( mean(d^2) - mean(d)^2 ): a factor of depth costs nothing (Eigen et al. 2014)
    berhu    mean of |e| if |e| <= c, else (e^2 + c^2) / 2c,  c = 0.2 max |e|,  e = p - g  (Laina et al. 2016)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from devices import constants
from losses import LOSSES
from losses._counted import CountedMean
from structures import Batch, Prediction
from utils import InputError, nearest_name

ERRORS = ("l1", "mse", "berhu", "silog", "scale_invariant", "abs_rel")
LOGARITHMIC = ("silog", "scale_invariant")
_LEAST = 1e-6  # lower bound of a depth or inverse depth in a denominator


@LOSSES.register
class SupervisedDepth(CountedMean):
    """Difference to `batch.maps["depth"]`, in which 0 is unknown.

    Args:
        error: error measure: `l1`, `mse`, `berhu`, `silog`, `scale_invariant` or `abs_rel`. With
            `scale_invariant`, depth is learned up to scale, from data of any unit.
        of: compared quantity: `inverse_depth`, as published, or `depth`.
        num_scales: number of compared scales, finest first; all if None.
        scale_weights: one weight per compared scale, finest first; equal weights if None.
        progressive_scaling: share p of the training after which the coarsest scale is left out; the next
            scales follow after 2p, 3p, ...; 0 keeps all.
        only_known: False treats unknown pixels as infinitely far, as the published methods without `sparse-`
            do; not for silog. With `scale_invariant` they are at least as far as the farthest known pixel of
            their image, which suits dense ground truth whose only unknown pixels are the sky.
        published: compare as PackNet-SfM does. Ground truth is resized to each scale by nearest neighbour,
            which loses points, instead of enlarging the prediction. silog is computed over the batch, not per
            image. berhu's c is 0.2 max(e), and large e count twice: as |e| and as e^2.

    Raises:
        InputError: an unknown error or quantity, weights that do not fit the scales, a share outside [0, 1).
    """

    needs: ClassVar[tuple[str, ...]] = ("maps.depth",)
    learned_from: ClassVar[str] = "depth"

    def __init__(
        self,
        error: str = "l1",
        of: str = "inverse_depth",
        num_scales: int | None = None,
        scale_weights: Sequence[float] | None = None,
        progressive_scaling: float = 0.0,
        only_known: bool = True,
        published: bool = False,
    ) -> None:
        super().__init__()
        for name, value, choices in (("error", error, ERRORS), ("of", of, ("inverse_depth", "depth"))):
            if value not in choices:
                raise InputError(
                    f"supervised_depth: there is no {name} '{value}'{nearest_name(value, choices)}"
                )
        if num_scales is not None and num_scales < 1:
            raise InputError(f"supervised_depth: num_scales must be at least 1, got {num_scales}")
        if not 0 <= progressive_scaling < 1:
            raise InputError(f"supervised_depth: progressive_scaling is in [0, 1), got {progressive_scaling}")
        if not only_known and (error == "silog" or of == "depth"):
            raise InputError(
                "supervised_depth: unknown depth counts as infinitely far only for inverse_depth, and not "
                "for silog; leave only_known at true"
            )
        self.error, self.of, self.num_scales = error, of, num_scales
        self.gives_metric_scale = error != "scale_invariant"
        self.scale_weights = None if scale_weights is None else [float(weight) for weight in scale_weights]
        self.progressive_scaling = progressive_scaling
        self.only_known, self.published = only_known, published
        self.progress = 0.0

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Store the progress of the training for `progressive_scaling`."""
        self.progress = epoch / num_epochs

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Weighted mean over scales. Returns a scalar; 0 without a known pixel."""
        errors = self.per_scale(batch, prediction)
        if self.scale_weights is None:
            return errors.mean()
        if len(self.scale_weights) < len(errors):
            raise InputError(
                f"supervised_depth: {len(self.scale_weights)} scale_weights for {len(errors)} scales; "
                "give one for each, finest first"
            )
        weights = constants(self.scale_weights[: len(errors)], like=errors)
        return (weights * errors).sum() / weights.sum()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale, (number of scales in use,), finest first."""
        if "depth" not in batch.maps:
            raise InputError(
                "supervised_depth needs measured depth and the dataset gives none; --dataset.supervision "
                "true reads its ground truth"
            )
        scales = sorted(prediction.depths)[: self.num_scales]
        scales = scales[: self.scales_in_use(len(scales))]
        known = batch.maps["depth"]
        return torch.stack([self._compare(prediction.depths[scale], known) for scale in scales])

    def scales_in_use(self, count: int) -> int:
        """Number of compared scales at the current progress: `count` at the start, 1 at the end."""
        if not self.progressive_scaling:
            return count
        thresholds = [number * self.progressive_scaling for number in range(1, count)]
        return count - sum(threshold < self.progress for threshold in thresholds)

    def _compare(self, depth: Tensor, known: Tensor) -> Tensor:
        """The error of one scale (B·N, 1, h, w) against ground truth (B·N, 1, H, W)."""
        if depth.shape[-2:] != known.shape[-2:]:
            if self.published:
                known = F.interpolate(known, depth.shape[-2:], mode="nearest")
            else:
                depth = F.interpolate(depth, known.shape[-2:], mode="bilinear", align_corners=False)
        valid = known > 0
        predicted, target = depth, torch.where(valid, known, 1.0)
        if self.of == "inverse_depth":
            predicted, target = 1 / depth.clamp(min=_LEAST), 1 / target.clamp(min=_LEAST)
        if not self.only_known and self.error != "scale_invariant":
            target = torch.where(valid, target, 0.0)
            valid = torch.ones_like(valid)
        if self.error in LOGARITHMIC:
            return self._silog(predicted, target, valid)
        if self.error == "berhu":
            return self._berhu(predicted - target, valid)
        if self.error == "mse":
            return self.masked_mean((predicted - target).square(), valid)
        error = (predicted - target).abs()
        if self.error == "abs_rel":  # relative to ground-truth depth for both quantities
            error = error / (predicted if self.of == "inverse_depth" else target)
        return self.masked_mean(error, valid)

    def _silog(self, predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        delta = torch.where(valid, predicted.clamp(min=_LEAST).log() - target.log(), 0.0)
        over_batch = self.published and self.error == "silog"
        axes = (0, 1, 2, 3) if over_batch else (1, 2, 3)
        count = valid.sum(axes).clamp(min=1)
        mean = delta.sum(axes) / count
        if self.error == "silog":
            inner = delta.square().sum(axes) / count - 0.85 * mean.square()
        else:  # the same with 1 for 0.85, without its cancellation
            centred = torch.where(valid, delta - mean[:, None, None, None], 0.0)
            inner = centred.square().sum(axes) / count
            if not self.only_known:
                inner = inner + self._too_near(predicted, target, valid, mean)
        # For an image without known pixels, or with a perfect prediction, the root has no finite slope at 0.
        error = 10 * torch.where(inner > 0, inner, 1.0).sqrt() * (inner > 0)
        if over_batch:
            return error
        with_pixels = self.shared(valid.flatten(1).any(1).sum())
        return error.sum() / with_pixels.clamp(min=1e-12)

    def _too_near(self, predicted: Tensor, target: Tensor, valid: Tensor, mean: Tensor) -> Tensor:
        """Mean square of ln p - ln g, (B·N,), where an unknown pixel is nearer than the farthest known one.

        Args:
            predicted, target: (B·N, 1, H, W) inverse depth.
            valid: (B·N, 1, H, W), known pixels.
            mean: (B·N,) mean of ln p - ln g over known pixels.
        """
        farthest = torch.where(valid, target, torch.inf).amin((1, 2, 3)).log() + mean
        beyond = predicted.clamp(min=_LEAST).log() - farthest[:, None, None, None]
        wrong = ~valid & (beyond > 0) & valid.any(3).any(2).any(1)[:, None, None, None]
        return torch.where(wrong, beyond.square(), 0.0).sum((1, 2, 3)) / valid[0].numel()

    def _berhu(self, error: Tensor, valid: Tensor) -> Tensor:
        size = error.abs()
        largest = torch.where(valid, error.detach() if self.published else size.detach(), -torch.inf).max()
        c = 0.2 * largest
        if self.published:
            beyond = valid & (size > c)
            total = torch.where(valid, size, 0.0).sum() + torch.where(beyond, error.square(), 0.0).sum()
            return total / (valid.sum() + beyond.sum()).clamp(min=1)
        c = c.clamp(min=_LEAST)
        return self.masked_mean(torch.where(size <= c, size, (size.square() + c * c) / (2 * c)), valid)
