"""Spatial photometric error: neighbouring cameras of a rig see the same scene where their images overlap.

    mean over pixels and both neighbours of  seen · pe(I_k, I_n -> I_k),   T_n_from_k = inv(E_n) E_k

E are the extrinsics, `rig_from_camera`, and pe is that of the photometric term. Extrinsics are in metres, so
depth becomes metric (Wei et al., SurroundDepth, CoRL 2022, section 3.3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cameras
from layers import invert_intrinsics, invert_rigid, pixel_grid, sampling_grid
from losses import LOSSES
from photometric_error import PhotometricTarget
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class Spatial(nn.Module):
    """Mean over scales of the error of each camera against its two resampled neighbours in the ring.

    The mean is over all pixels, and pixels that a neighbour does not see count 0: a rig with less overlap has
    a smaller term. Neighbours in the list without overlap add nothing.

    Args:
        ssim_weight: share of SSIM in the error; the rest is the mean absolute difference.
        published: count points behind the neighbour as seen, as the published code does.

    Raises:
        InputError: a weight outside [0, 1], depth of another size than the image.
    """

    needs = ("cameras", "rig_from_camera")
    gives_metric_scale = True
    learned_from = "camera rig"

    def __init__(self, ssim_weight: float = 0.85, published: bool = False) -> None:
        super().__init__()
        if not 0 <= ssim_weight <= 1:
            raise InputError(f"ssim_weight must be in [0, 1], got {ssim_weight}")
        self.ssim_weight = ssim_weight
        self.published = published

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale, (number of scales,), in the order of `prediction.depths`."""
        neighbours = Neighbours(batch)
        target = PhotometricTarget(batch.images[0], self.ssim_weight)
        means = []
        for depth in prediction.depths.values():
            if depth.shape[-2:] != batch.images[0].shape[-2:]:
                raise InputError("spatial needs depth of the image's size; leave v1_multiscale off")
            warped, seen = neighbours.warp(depth, in_front=not self.published)
            error = target.error(warped) * seen
            if "ego_mask" in batch.maps:
                error = error * ~batch.maps["ego_mask"]
            means.append(error.mean())
        return torch.stack(means)


class Neighbours:
    """Both neighbours of every camera, stacked: first the one to the right (k - 1), then to the left (k + 1).

    Args:
        batch: has `rig_from_camera`, and images at the depths' size.
    """

    def __init__(self, batch: Batch) -> None:
        def both(values: Tensor) -> Tensor:
            views = batch.per_camera(values)
            return torch.cat([views.roll(turn, 1).flatten(0, 1) for turn in (1, -1)])

        images, rig = batch.images[0], batch.rig_from_camera
        ego_mask = batch.maps.get("ego_mask", torch.zeros_like(images[:, :1], dtype=torch.bool))
        self.images, self.outside_ego = both(images), both((~ego_mask).to(images.dtype))
        self.intrinsics, self.source_intrinsics = batch.intrinsics.repeat(2, 1, 1), both(batch.intrinsics)
        self.lenses = None if batch.camera is None else (batch.camera.repeat(2), batch.camera.map(both))
        self.T_neighbour_from_camera = invert_rigid(both(rig)) @ rig.repeat(2, 1, 1)

    def warp(self, depth: Tensor, in_front: bool = True) -> tuple[Tensor, Tensor]:
        """The neighbours resampled into each camera's view.

        Args:
            depth: (B·N, 1, H, W) metres.
            in_front: leave out points behind the neighbour, which would project into its image upside down.

        Returns:
            (2, B·N, 3, H, W), and (2, B·N, 1, H, W): 1 if the neighbour sees the point, outside of its ego
            mask, else 0.
        """
        depth = depth.repeat(2, 1, 1, 1)
        T, K = self.T_neighbour_from_camera, self.intrinsics
        if self.lenses is not None:  # points that a lens does not see are outside of its grid
            grid = cameras.sampling_grid(depth, *self.lenses, T)
        else:
            grid = sampling_grid(depth, K, T, self.source_intrinsics)
        if in_front and self.lenses is None:
            grid = grid.masked_fill(_distance(depth, K, T) <= 0, 2.0)  # beyond the border
        warped = F.grid_sample(self.images, grid, padding_mode="zeros", align_corners=True)
        with torch.no_grad():
            seen = F.grid_sample(self.outside_ego, grid, "nearest", padding_mode="zeros", align_corners=True)
        return warped.unflatten(0, (2, -1)), seen.unflatten(0, (2, -1))


@torch.no_grad()
def _distance(depth: Tensor, intrinsics: Tensor, T_neighbour_from_camera: Tensor) -> Tensor:
    """(B, H, W, 1) metres along the neighbour's optical axis."""
    height, width = depth.shape[-2:]
    towards = T_neighbour_from_camera[:, 2:3, :3] @ invert_intrinsics(intrinsics)
    z = towards @ pixel_grid(height, width, depth.device) * depth.flatten(2)
    return (z + T_neighbour_from_camera[:, 2:3, 3:]).view(-1, height, width, 1)
