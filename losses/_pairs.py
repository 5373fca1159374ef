"""Ordered pairs of target and source, each warped into the other, for the terms of SC-Depth.

For the pair a <- b, pixel p of a with depth d_a lies at pixel q of b with depth d_a->b. The inconsistency is

    D(p) = |d_a->b - d_b(q)| / (d_a->b + d_b(q))        in [0, 1]   (Bian et al., IJCV 2021, eq. 4)

It is 0 where both depth maps describe the same static surface. Moving objects and occlusions raise it, so
1 - D is the self-discovered mask (eq. 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import invert_intrinsics, pixel_grid
from structures import Batch, Prediction
from utils import InputError

MEAN, STD = 0.45, 0.225  # normalisation of the network's input images
MIN_VALID = 100  # a batch with fewer valid pixels gives no loss, because their mean is unreliable
_NEAREST = 1e-3  # lower bound of a depth after the motion; points below it are invalid
_BLANK = 1e-3  # published validity: a mean absolute colour below this is padding
_TINY = 1e-7


@dataclass
class Pairs:
    """All pairs of a batch. Axis 0, of length 2 S, holds target <- source 1, source 1 <- target, ...

    Attributes:
        images: (2 S, B·N, 3, H, W) the first image of each pair.
        warped: (2 S, B·N, 3, H, W) the other image, resampled into the view of the first.
        difference: (2 S, B·N, 1, H, W) mean absolute colour difference of the two.
        unwarped: (2 S, B·N, 1, H, W) the same without warping.
        inconsistency: (2 S, B·N, 1, H, W) D.
        valid: (2 S, B·N, 1, H, W) bool, True if the other image shows the point.
    """

    images: Tensor
    warped: Tensor
    difference: Tensor
    unwarped: Tensor
    inconsistency: Tensor
    valid: Tensor

    def moving_with_scene(self) -> Tensor:
        """(2 S, B·N, 1, H, W) bool: the automask, True if warping explains a pixel better than no motion."""
        return self.difference < self.unwarped

    def static_weight(self) -> Tensor:
        """(B·N, 1, H, W) mean over the sources of 1 - D in the target; an invalid pair contributes 1."""
        trusted = (self.valid & self.moving_with_scene())[::2]
        return 1 - torch.where(trusted, self.inconsistency[::2], 0.0).mean(0)


def compare_pairs(
    batch: Batch, prediction: Prediction, normalised: bool = True, published_warp: bool = False
) -> Pairs:
    """Warp target and sources into each other; computed once for all terms of a prediction.

    Args:
        batch: float images. Pixels of `maps["ego_mask"]` are invalid in every image.
        prediction: `depths[0]` of target and sources at the images' size, poses in both directions. A
            source's `extra["seen"]` (B·N, 1, H, W) is 0 where a resampled source has no content.
        normalised: compare (image - 0.45) / 0.225 instead of the image.
        published_warp: reproduce the published code: sampling with `align_corners=False`, which shifts by up
            to half a pixel; validity by colour instead of by position; points behind the camera are kept and
            D is unbounded.

    Raises:
        InputError: depth of another size than the images.
    """
    made = prediction.extra.setdefault("pairs", {})
    key = (normalised, published_warp)
    if key not in made:
        made[key] = _compare(batch, prediction, normalised, published_warp)
    return made[key]


def _compare(batch: Batch, prediction: Prediction, normalised: bool, published_warp: bool) -> Pairs:
    images = {frame: (image - MEAN) / STD if normalised else image for frame, image in batch.images.items()}
    depths, seen, ordered = _depths(batch, prediction), {}, []
    for frame in batch.sources:
        source = prediction.sources[frame]
        seen[frame] = source.extra.get("seen")
        ordered += [
            (0, frame, prediction.T_source_from_target[frame]), (frame, 0, source.T_source_from_target[0])
        ]  # fmt: skip
    count = len(ordered)
    image = torch.cat([images[a] for a, _, _ in ordered])
    other = torch.cat([images[b] for _, b, _ in ordered])
    depth = torch.cat([depths[a] for a, _, _ in ordered])
    T = torch.cat([T for _, _, T in ordered])
    grid, moved = _project(depth, batch.intrinsics.repeat(count, 1, 1), T)
    layers = [other, torch.cat([depths[b] for _, b, _ in ordered])]
    known = [(a, b) for a, b, _ in ordered if seen.get(a) is not None or seen.get(b) is not None]
    if known and not published_warp:
        blank = torch.ones_like(depths[0])
        content = {frame: blank if seen.get(frame) is None else seen[frame].to(blank) for frame in images}
        layers.append(torch.cat([content[b] for _, b, _ in ordered]))
    sampled = _sample(torch.cat(layers, 1), grid, published_warp)
    warped, found = sampled[:, :3], sampled[:, 3:4]
    if published_warp:
        valid = _mean_abs(image) > _BLANK
        valid &= _mean_abs(warped) > _BLANK
        inconsistency = (moved - found).abs() / (moved + found)
    else:
        inside = (grid.detach().abs() <= 1).all(-1)[:, None]
        valid = inside & (moved.detach() > _NEAREST)
        if len(layers) > 2:
            valid &= sampled[:, 4:].detach() > 0.99
            valid &= torch.cat([content[a] for a, _, _ in ordered]) > 0.99
        moved = moved.clamp(min=_NEAREST)
        inconsistency = (moved - found).abs() / (moved + found)
    if "ego_mask" in batch.maps:
        valid = valid & ~batch.maps["ego_mask"].bool().repeat(count, 1, 1, 1)
    parts = image, warped, _mean_abs(image - warped), _mean_abs(image - other), inconsistency, valid
    return Pairs(*(part.unflatten(0, (count, -1)) for part in parts))


def _depths(batch: Batch, prediction: Prediction) -> dict:
    """Depth of each frame: frame → (B·N, 1, H, W)."""
    size = batch.images[0].shape[-2:]
    predictions = {0: prediction, **prediction.sources}
    depths = {frame: predictions[frame].depths.get(0) for frame in batch.images}
    for frame, depth in depths.items():
        if depth is None or depth.shape[-2:] != size:
            raise InputError(
                f"a pairwise term needs the depth of frame {frame} at the images' size {tuple(size)}, got "
                f"{'none' if depth is None else tuple(depth.shape[-2:])}; set --scales 0"
            )
    return depths


def _project(depth: Tensor, intrinsics: Tensor, T_other_from_image: Tensor) -> tuple[Tensor, Tensor]:
    """Position in the other image, (B, H, W, 2) in [-1, 1], and depth there, (B, 1, H, W)."""
    height, width = depth.shape[-2:]
    A = intrinsics @ T_other_from_image[:, :3, :3] @ invert_intrinsics(intrinsics)
    b = intrinsics @ T_other_from_image[:, :3, 3:]
    points = torch.baddbmm(b, A, pixel_grid(height, width, depth.device) * depth.flatten(2))
    x, y, z = points.unbind(1)
    x, y = x / (z + _TINY), y / (z + _TINY)
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    return grid.unflatten(1, (height, width)), z.unflatten(1, (height, width))[:, None]


def _sample(values: Tensor, grid: Tensor, published: bool) -> Tensor:
    if grid.device.type == "cpu" and not grid.detach().sum().isfinite():
        grid = torch.nan_to_num(grid)  # the backward pass at a NaN coordinate ends the process
    padding = "zeros" if published else "border"
    return F.grid_sample(values, grid, padding_mode=padding, align_corners=not published)


def _mean_abs(values: Tensor) -> Tensor:
    return values.abs().mean(1, keepdim=True)
