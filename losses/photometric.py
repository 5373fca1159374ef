"""Photometric error: a source resampled with correct depth and motion equals the target.

    mean over pixels of  min( min_s pe(I, I_s -> I),  min_s pe(I, I_s) ),      pe = 0.85 SSIM + 0.15 L1

The minimum over sources ignores occlusions in one of them. The second minimum, over the unwarped sources,
leaves out pixels that do not change: objects that move with the camera, and all pixels of a camera at rest
(Monodepth2, eqs. 4 and 5). The error is 0 in the batch's map `ego_mask`, where a camera sees its own vehicle
(SurroundDepth).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from image_pyramid import check_filter, shrink
from losses import LOSSES
from losses._moving_objects import MovingObjects
from photometric_error import PhotometricTarget
from structures import Batch, Prediction
from utils import InputError, check_settings


@LOSSES.register
class Photometric(nn.Module):
    """Mean over scales of the photometric error.

    Args:
        ssim_weight: share of SSIM in the error; the rest is the mean absolute difference.
        automask: leave out pixels that no warped source explains better than an unwarped one.
        reduction: reduction over sources, `min` or `mean`.
        noise: standard deviation of the noise added to the unwarped error. It breaks ties between warped and
            unwarped error, in which the mask would otherwise be unstable.
        clip: clip the errors of a source at their mean plus `clip` standard deviations, so that outliers do
            not dominate (PackNet-SfM); 0 clips nothing.
        l1_epsilon: e of the robust difference sqrt(d^2 + e) in place of the absolute one; FeatDepth has 1e-6.
        image_resize: filter that brings images to the size of warped sources, see `image_pyramid`: `area`,
            `bilinear` or `lanczos`. They differ only under `v1_multiscale`.
        moving_objects: leave out moving objects: settings of `losses._moving_objects.MovingObjects`, an empty
            mapping for its defaults; None leaves nothing out.

    Raises:
        InputError: a weight outside [0, 1] or an unknown reduction, a negative clip.
    """

    needs: tuple[str, ...] = ()
    predicts: tuple[str, ...] = ()

    def __init__(
        self,
        ssim_weight: float = 0.85,
        automask: bool = True,
        reduction: str = "min",
        noise: float = 1e-5,
        clip: float = 0.0,
        moving_objects: Mapping[str, Any] | None = None,
        l1_epsilon: float = 0.0,
        image_resize: str = "area",
    ) -> None:
        super().__init__()
        if not 0 <= ssim_weight <= 1:
            raise InputError(f"ssim_weight must be in [0, 1], got {ssim_weight}")
        if reduction not in ("min", "mean"):
            raise InputError(f"reduction over sources is 'min' or 'mean', got '{reduction}'")
        if not 0 <= clip < math.inf:
            raise InputError(f"clip must be at least 0 and finite, got {clip}; the published one is 0.5")
        if not 0 <= noise < math.inf:
            raise InputError(f"noise must be at least 0, got {noise}; 1e-5 breaks ties")
        if not 0 <= l1_epsilon < math.inf:
            raise InputError(f"l1_epsilon must be at least 0, got {l1_epsilon}; the published one is 1e-6")
        check_filter(image_resize, "photometric")
        self.ssim_weight = ssim_weight
        self.image_resize = image_resize
        self.l1_epsilon = l1_epsilon
        self.automask = automask
        self.reduction = reduction
        self.noise = noise
        self.clip = clip
        self.moving_objects: MovingObjects | None = None
        if moving_objects is not None:
            check_settings("moving_objects", MovingObjects, moving_objects)
            self.moving_objects = MovingObjects(**moving_objects)
            self.needs, self.predicts = self.moving_objects.needs, self.moving_objects.predicts

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Pass the epoch to the moving-object mask, if there is one."""
        if self.moving_objects is not None:
            self.moving_objects.on_epoch_start(epoch, num_epochs)

    def on_epoch_end(self) -> None:
        """Let the moving-object mask, if there is one, set its next threshold."""
        if self.moving_objects is not None:
            self.moving_objects.on_epoch_end()

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale, (number of scales,), in the order of `prediction.warped`."""
        errors = [error for error, _ in self.maps(batch, prediction).values()]
        weight = self._weight(batch, prediction)
        if weight is not None:
            small = {e.shape: F.interpolate(weight, e.shape[-2:], mode="nearest-exact") for e in errors}
            errors = [error * small[error.shape] for error in errors]
        return torch.stack([error.mean() for error in errors])

    def maps(self, batch: Batch, prediction: Prediction) -> dict[int, tuple[Tensor, Tensor | None]]:
        """The errors of all pixels, including moving objects.

        Returns:
            scale → (error (B·N, 1, h, w), automask (B·N, 1, h, w) bool, True if warping helps, or None).
        """
        compared: dict[torch.Size, tuple[PhotometricTarget, Tensor | None]] = {}
        result = {}
        for scale, warped in prediction.warped.items():
            size = warped.shape[-2:]
            if size not in compared:  # the same for all scales, unless each warps at its own size
                compared[size] = self._compare_unwarped(batch, size)
            target, unwarped = compared[size]
            outside = _outside_ego_mask(batch, size)
            if self._fits_kernels(prediction, scale, warped):
                # An ego mask comes between the minimum over sources and the automask.
                last = unwarped if outside is None else None
                error, automask = self._by_kernels(batch, prediction, scale, target, last)
                if last is not None:
                    result[scale] = error, automask
                    continue
            else:
                errors = self._clipped(target.error(warped))
                if scale in prediction.masks:
                    errors = errors * prediction.masks[scale].transpose(0, 1)[:, :, None]
                error = self._over_sources(errors)
            if outside is not None:
                error = error * outside
            automask = None
            if unwarped is not None:
                automask = error.detach() < unwarped
                error = torch.minimum(error, unwarped)
                automask = automask if outside is None else automask & outside
            result[scale] = error, automask
        return result

    def _fits_kernels(self, prediction: Prediction, scale: int, warped: Tensor) -> bool:
        """Whether the Triton kernels can compute the least error of the sources: plain warps, on a GPU."""
        plain = self.reduction == "min" and not (self.clip or self.l1_epsilon or scale in prediction.masks)
        sampling = prediction.extra.get("sampling", (True, ""))
        known = scale in prediction.grids and sampling[1] == "border"
        return plain and known and kernels.compiled_for_gpu(warped.device)

    def _by_kernels(
        self,
        batch: Batch,
        prediction: Prediction,
        scale: int,
        target: PhotometricTarget,
        unwarped: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The least error over the sources and the automask, (B·N, 1, h, w), by the Triton kernels."""
        from kernels.photometric_triton import least_error  # torch's CUDA builds bring triton

        size = target.target.shape[-2:]
        sources = [shrink(batch.images[frame], size, self.image_resize) for frame in batch.sources]
        align_corners = prediction.extra["sampling"][0]
        grids = prediction.grids[scale]
        return least_error(
            torch.stack(sources), grids, target.target, unwarped, self.ssim_weight, align_corners
        )

    def _weight(self, batch: Batch, prediction: Prediction) -> Tensor | None:
        """(B·N, 1, H, W), 0 on moving objects; None if none are left out now.

        Augmented views are not masked: their overlaps would be measured twice.
        """
        is_view = "scene_depths" in prediction.extra  # see `DepthAndMotion.run_networks`
        if self.moving_objects is None or is_view or not self.moving_objects.active:
            return None
        return self.moving_objects(batch, prediction)

    @torch.no_grad()
    def _compare_unwarped(self, batch: Batch, size: torch.Size) -> tuple[PhotometricTarget, Tensor | None]:
        """The target at a size and, for the automask, the error of the unwarped sources."""
        image = shrink(batch.images[0], size, self.image_resize)
        target = PhotometricTarget(image, self.ssim_weight, self.l1_epsilon)
        if not self.automask:
            return target, None
        sources = [shrink(batch.images[frame], size, self.image_resize) for frame in batch.sources]
        errors = self._clipped(target.error(torch.stack(sources)))
        if self.reduction == "mean":
            errors = self._over_sources(errors)[None]
        if self.noise:
            errors = errors + self.noise * torch.randn_like(errors)
        return target, self._over_sources(errors)

    def _clipped(self, errors: Tensor) -> Tensor:
        """(S, B·N, 1, h, w) with the outliers of each source clipped; the limit has no gradient."""
        if not self.clip:
            return errors
        flat = errors.detach().flatten(1)
        ceiling = flat.mean(1) + self.clip * flat.std(1)
        return torch.minimum(errors, ceiling[:, None, None, None, None])

    def _over_sources(self, errors: Tensor) -> Tensor:
        """(S, B·N, 1, h, w) to (B·N, 1, h, w)."""
        if self.reduction == "mean":
            return errors.mean(0)
        least = errors[0]
        for error in errors[1:]:  # several times faster than `min(0)`, which also gathers indices
            least = torch.minimum(least, error)
        return least


def _outside_ego_mask(batch: Batch, size: torch.Size) -> Tensor | None:
    """(B·N, 1, h, w) bool, False where any part of a pixel shows the ego vehicle; None without ego masks."""
    ego_mask = batch.maps.get("ego_mask")
    if ego_mask is None or ego_mask.shape[-2:] == size:
        return ego_mask if ego_mask is None else ~ego_mask
    return F.interpolate(ego_mask.float(), size, mode="area") == 0
