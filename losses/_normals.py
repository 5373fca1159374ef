"""Surface normals of a depth map.

    n = (dP/dx x dP/dy) / |...|,   P = d K^-1 p,   derivatives by Sobel's kernels / 8, the border repeated

Normals do not depend on the scale of depth. A wall that faces the camera has the normal (0, 0, 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import backproject


def depth_to_normals(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """(B, 1, H, W) depth of any scale and (B, 3, 3) pixels to unit normals (B, 3, H, W)."""
    points = backproject(depth, intrinsics).unflatten(2, depth.shape[-2:])
    gx, gy = sobel(F.pad(points, (1, 1, 1, 1), mode="replicate"))
    return F.normalize(torch.linalg.cross(gx / 8, gy / 8, dim=1), dim=1)


def sobel(values: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives along x (right) and y (down), times 8: (B, C, H, W) to two of (B, C, H - 2, W - 2)."""
    left, right = values[..., :-2], values[..., 2:]
    dx = right - left
    gx = dx[..., :-2, :] + 2 * dx[..., 1:-1, :] + dx[..., 2:, :]
    dy = values[..., 2:, :] - values[..., :-2, :]
    gy = dy[..., :-2] + 2 * dy[..., 1:-1] + dy[..., 2:]
    return gx, gy


def known_around(depth: Tensor) -> Tensor:
    """(B, 1, H, W) bool, True if all pixels of the 3 x 3 window have a finite depth above 0."""
    unknown = ~(depth > 0) | ~depth.isfinite()
    return F.max_pool2d(unknown.to(torch.float32), 3, 1, 1) == 0
