"""Depth maths: disparity and depth, poses, points, warping, SSIM, gradients.

    x_source = T_source_from_target @ x_target,     pixel = K x / z

Pixel centres are integers and grids are normalised by (W - 1), so `align_corners=True` goes with them.
Everything here computes in float32, whatever precision the networks run in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError

_TINY = 1e-7  # keeps divisions by a length, a depth or a mean finite; the published value


def disparity_to_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Depth from a network's sigmoid output (Monodepth2, section 3.3).

    Args:
        disparity: (B, 1, H, W) in [0, 1]; 1 is nearest.
        min_depth: metres, the depth at disparity 1.
        max_depth: metres, the depth at disparity 0.

    Returns:
        (B, 1, H, W) metres, within [min_depth, max_depth].
    """
    return 1 / disparity_to_inverse_depth(disparity, min_depth, max_depth)


def disparity_to_inverse_depth(disparity: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """1 / depth from a network's sigmoid output: what the published code calls scaled disparity.

    Args:
        disparity: (B, 1, H, W) in [0, 1]; 1 is nearest.
        min_depth: metres, the depth at disparity 1.
        max_depth: metres, the depth at disparity 0.

    Returns:
        (B, 1, H, W) 1 / metres.

    Raises:
        InputError: the depths are not 0 < min_depth < max_depth.
    """
    if not 0 < min_depth < max_depth:
        raise InputError(f"need 0 < min_depth < max_depth, got {min_depth} and {max_depth}")
    nearest, farthest = 1 / min_depth, 1 / max_depth
    return farthest + (nearest - farthest) * disparity


def axis_angle_to_rotation(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula.

    Args:
        axis_angle: (B, 3), the axis times the angle in radians.

    Returns:
        (B, 3, 3).
    """
    angle = axis_angle.norm(dim=1, keepdim=True)
    x, y, z = (axis_angle / (angle + _TINY)).unbind(1)
    cos, sin = torch.cos(angle[:, 0]), torch.sin(angle[:, 0])
    rest = 1 - cos
    rows = [
        x * x * rest + cos, x * y * rest - z * sin, z * x * rest + y * sin,
        x * y * rest + z * sin, y * y * rest + cos, y * z * rest - x * sin,
        z * x * rest - y * sin, y * z * rest + x * sin, z * z * rest + cos,
    ]  # fmt: skip
    return torch.stack(rows, 1).view(-1, 3, 3)


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """[R | t] over (0 0 0 1), from (B, 3, 3) and (B, 3) to (B, 4, 4)."""
    bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(rotation), 1, 4)
    return torch.cat([torch.cat([rotation, translation[:, :, None]], 2), bottom], 1)


def invert_rigid(T: Tensor) -> Tensor:
    """The inverse of (B, 4, 4) rigid motions, exact for a rotation: [R^T | -R^T t]."""
    rotation = T[:, :3, :3].transpose(1, 2)
    return rigid(rotation, -(rotation @ T[:, :3, 3:])[:, :, 0])


def pose_matrix(axis_angle: Tensor, translation: Tensor, invert: bool = False) -> Tensor:
    """A pose network's output as a matrix.

    Args:
        axis_angle: (B, 3) radians.
        translation: (B, 3), the unit of the depth.
        invert: give the inverse motion. Monodepth2 shows its pose network a pair in temporal order and
            inverts for earlier frames, so that the network only ever sees forward motion.

    Returns:
        (B, 4, 4).
    """
    T = rigid(axis_angle_to_rotation(axis_angle.float()), translation.float())
    return invert_rigid(T) if invert else T


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Homogeneous pixel coordinates (3, P): x from 0 to W - 1 fastest, y from 0 to H - 1, 1."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([x.flatten(), y.flatten(), torch.ones(height * width, device=device)])


def backproject(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Depth map to points in the camera's frame.

    Args:
        depth: (B, 1, H, W) metres.
        intrinsics: (B, 3, 3) pixels at H x W.

    Returns:
        (B, 3, P) metres: x right, y down, z forward.
    """
    rays = torch.linalg.inv(intrinsics) @ pixel_grid(*depth.shape[-2:], depth.device)
    return rays * depth.flatten(2)


def project(
    points: Tensor, intrinsics: Tensor, T_source_from_target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Points to pixels of a camera that has moved.

    Args:
        points: (B, 3, P) metres, in the target's frame.
        intrinsics: (B, 3, 3) pixels, of the source camera.
        T_source_from_target: (B, 4, 4); none where the points are in the source's frame already.

    Returns:
        (B, 2, P) pixels and (B, 1, P) metres along the source's optical axis; negative behind it.
    """
    if T_source_from_target is not None:
        points = T_source_from_target[:, :3, :3] @ points + T_source_from_target[:, :3, 3:]
    image = intrinsics @ points
    return image[:, :2] / (image[:, 2:] + _TINY), points[:, 2:]


def sampling_grid(
    depth: Tensor, intrinsics: Tensor, T_source_from_target: Tensor, source_intrinsics: Tensor | None = None
) -> Tensor:
    """Where each target pixel lies in the source, for `grid_sample`: `backproject` and `project` in one.

    With the normalisation to [-1, 1] folded into the source's K, a pixel p at depth d goes to
    (K R K^-1) p d + K t: one small product a pixel instead of a point cloud, and few temporaries.

    Args:
        depth: (B, 1, H, W) metres.
        intrinsics: (B, 3, 3) pixels at H x W, of the target.
        T_source_from_target: (B, 4, 4).
        source_intrinsics: (B, 3, 3); the target's where not given.

    Returns:
        (B, H, W, 2), x then y; the centres of the corner pixels are at -1 and 1.
    """
    height, width = depth.shape[-2:]
    to_grid = depth.new_tensor([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])
    K = to_grid @ (intrinsics if source_intrinsics is None else source_intrinsics)
    A = K @ T_source_from_target[:, :3, :3] @ torch.linalg.inv(intrinsics)
    b = K @ T_source_from_target[:, :3, 3:]
    points = torch.baddbmm(b, A, pixel_grid(height, width, depth.device) * depth.flatten(2))
    grid = points[:, :2] / (points[:, 2:] + _TINY)
    return grid.transpose(1, 2).view(len(depth), height, width, 2)


def sample(image: Tensor, grid: Tensor, align_corners: bool = True) -> Tensor:
    """Bilinear look-up, clamped to the border.

    Args:
        image: (B, C, h, w).
        grid: (B, H, W, 2) in [-1, 1].
        align_corners: False reproduces what Monodepth2's unqualified call means since torch 1.3.

    Returns:
        (B, C, H, W).
    """
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=align_corners)


def warp(
    source: Tensor,
    depth: Tensor,
    intrinsics: Tensor,
    T_source_from_target: Tensor,
    source_intrinsics: Tensor | None = None,
    align_corners: bool = True,
) -> Tensor:
    """The source resampled into the target view, (B, C, H, W); arguments as `sampling_grid` and `sample`."""
    grid = sampling_grid(depth, intrinsics, T_source_from_target, source_intrinsics)
    return sample(source, grid, align_corners)


def edge_aware_gradient(values: Tensor, image: Tensor) -> Tensor:
    """mean |dx v| exp(-|dx I|) + mean |dy v| exp(-|dy I|), forward differences (Godard et al. 2017, eq. 3).

    Args:
        values: (B, 1, H, W).
        image: (B, 3, H, W) in [0, 1]; its gradient is averaged over the channels.

    Returns:
        A scalar.
    """

    def along(axis: int) -> Tensor:
        edge = torch.diff(image, dim=axis).abs_().mean(1, keepdim=True).neg_().exp_()
        return (torch.diff(values, dim=axis).abs() * edge).mean()

    return along(3) + along(2)
