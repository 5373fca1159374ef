"""Geometry and image operations: disparity and depth, poses, points, warping, SSIM, gradients.

    x_source = T_source_from_target @ x_target,     pixel = K x / z

Pixel centres are integers and grids are normalised by (W - 1), which is the convention `align_corners=True`.
All functions compute in float32, independent of the precision of the networks. They create constants on the
device, because copying a number to the GPU in the middle of a step makes Python wait for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # SSIM's stabilisers for values in [0, 1]
_TINY = 1e-7  # published value; keeps divisions by a length, a depth or a mean finite


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
    """Inverse depth from a network's sigmoid output; the published code names it scaled disparity.

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
        axis_angle: (B, 3), the unit axis times the angle in radians.

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


def euler_to_rotation(angles: Tensor) -> Tensor:
    """R = Rx(x) Ry(y) Rz(z), the convention of SfMLearner and SC-Depth for a pose network's output.

    Args:
        angles: (B, 3) radians about the x, y and z axis.

    Returns:
        (B, 3, 3).
    """
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles).unbind(1), torch.sin(angles).unbind(1)
    rows = [
        cy * cz, -cy * sz, sy,
        cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy,
        sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy,
    ]  # fmt: skip
    return torch.stack(rows, 1).view(-1, 3, 3)


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """[R | t] over (0 0 0 1), from (B, 3, 3) and (B, 3) to (B, 4, 4)."""
    bottom = torch.eye(4, dtype=rotation.dtype, device=rotation.device)[3:].expand(len(rotation), 1, 4)
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
        invert: return the inverse motion. Monodepth2's pose network gets each pair in temporal order, and
            the motion is inverted for earlier sources, so that the network only learns forward motion.

    Returns:
        (B, 4, 4).
    """
    T = rigid(axis_angle_to_rotation(axis_angle.float()), translation.float())
    return invert_rigid(T) if invert else T


def euler_pose_matrix(vector: Tensor) -> Tensor:
    """The pose vector of PackNet-SfM and SC-Depth as a matrix.

    Args:
        vector: (B, 6), translation in the unit of the depth, then Euler angles in radians.

    Returns:
        (B, 4, 4).
    """
    vector = vector.float()
    return rigid(euler_to_rotation(vector[:, 3:]), vector[:, :3])


def invert_intrinsics(intrinsics: Tensor) -> Tensor:
    """The inverse of (B, 3, 3), not finite for a singular matrix; without a device sync."""
    return torch.linalg.inv_ex(intrinsics).inverse


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
    rays = invert_intrinsics(intrinsics) @ pixel_grid(*depth.shape[-2:], depth.device)
    return rays * depth.flatten(2)


def project(
    points: Tensor, intrinsics: Tensor, T_source_from_target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Points in the target's frame to pixels of the source.

    Args:
        points: (B, 3, P) metres, in the target's frame.
        intrinsics: (B, 3, 3) pixels, of the source camera.
        T_source_from_target: (B, 4, 4); None if the points are in the source's frame already.

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
    """Source coordinates of each target pixel, for `grid_sample`: `backproject` and `project` in one step.

    With the normalisation to [-1, 1] included in the source's K, a pixel p at depth d moves to
    (K R K^-1) p d + K t. This is one small product per pixel instead of a point cloud, with few temporaries.

    Args:
        depth: (B, 1, H, W) metres.
        intrinsics: (B, 3, 3) pixels at H x W, of the target.
        T_source_from_target: (B, 4, 4).
        source_intrinsics: (B, 3, 3); the target's if None.

    Returns:
        (B, H, W, 2), x then y; the centres of the corner pixels are at -1 and 1.
    """
    height, width = depth.shape[-2:]
    x, y, one = (intrinsics if source_intrinsics is None else source_intrinsics).unbind(1)
    K = torch.stack([2 / (width - 1) * x - one, 2 / (height - 1) * y - one, one], 1)
    A = K @ T_source_from_target[:, :3, :3] @ invert_intrinsics(intrinsics)
    b = K @ T_source_from_target[:, :3, 3:]
    points = torch.baddbmm(b, A, pixel_grid(height, width, depth.device) * depth.flatten(2))
    grid = points[:, :2] / (points[:, 2:] + _TINY)
    return grid.transpose(1, 2).view(len(depth), height, width, 2)


def sample(image: Tensor, grid: Tensor, align_corners: bool = True, padding: str = "border") -> Tensor:
    """Bilinear sampling.

    Args:
        image: (B, C, h, w).
        grid: (B, H, W, 2) in [-1, 1].
        align_corners: False is the default of `grid_sample` since torch 1.3, which Monodepth2's code gets.
        padding: outside of the image, `border` repeats its border and `zeros` is black.

    Returns:
        (B, C, H, W).
    """
    if grid.device.type == "cpu" and not grid.detach().sum().isfinite():
        # The backward pass at a NaN coordinate ends the whole process (torch 2.15, on CPUs).
        grid = torch.nan_to_num(grid)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode=padding, align_corners=align_corners)


def warp(
    source: Tensor,
    depth: Tensor,
    intrinsics: Tensor,
    T_source_from_target: Tensor,
    source_intrinsics: Tensor | None = None,
    align_corners: bool = True,
) -> Tensor:
    """The source resampled into the target view, (B, C, H, W); see `sampling_grid` and `sample`."""
    grid = sampling_grid(depth, intrinsics, T_source_from_target, source_intrinsics)
    return sample(source, grid, align_corners)


def edge_aware_gradient(values: Tensor, image: Tensor, sharpness: float = 1.0) -> Tensor:
    """mean |dx v| exp(-k |dx I|) + mean |dy v| exp(-k |dy I|), forward differences.

    Godard et al. 2017, eq. 3, with k = 1.

    Args:
        values: (B, C, H, W).
        image: (B, 3, H, W) in [0, 1]; its gradient is averaged over the channels.
        sharpness: k; a larger one lets edges of the image pass more.

    Returns:
        A scalar.
    """

    def along(axis: int) -> Tensor:
        edge = torch.diff(image, dim=axis).abs_().mean(1, keepdim=True).mul_(-sharpness).exp_()
        return (torch.diff(values, dim=axis).abs() * edge).mean()

    return along(3) + along(2)


def edge_aware_curvature(values: Tensor, image: Tensor, sharpness: float = 1.0) -> Tensor:
    """The sum of mean |d v| exp(-k |d I|) over the second differences d = dxx, dxy, dyx, dyy.

    The convergent term of FeatDepth (Shu et al., ECCV 2020) has k = 1. dxy and dyx are equal, so the mixed
    difference counts twice. A map of fewer than three rows or columns has no second difference along them,
    which adds 0.

    Args:
        values: (B, C, H, W).
        image: (B, 3, H, W) in [0, 1]; its differences are averaged over the channels.
        sharpness: k.

    Returns:
        A scalar.
    """

    def along(first: int, second: int) -> Tensor:
        change = torch.diff(torch.diff(values, dim=first), dim=second)
        if not change.numel():
            return values.new_zeros(())
        edge = torch.diff(torch.diff(image, dim=first), dim=second).abs_().mean(1, keepdim=True)
        return (change.abs() * edge.mul_(-sharpness).exp_()).mean()

    return along(3, 3) + 2 * along(3, 2) + along(2, 2)


class _ScaleGradient(torch.autograd.Function):
    """Autograd function of `scale_gradient`."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * gradient, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x`, whose gradient is multiplied by `factor` in the backward pass (SGDepth, section 3.2).

    With it, two tasks that share layers weigh their gradients, for example by 0.9 and 0.1.

    Args:
        x: any shape.
        factor: 1 leaves the gradient unchanged, 0 stops it.

    Returns:
        The values of `x`.
    """
    return x if factor == 1 else _ScaleGradient.apply(x, factor)


def scale_invariant_log_error(
    depth: Tensor, reference: Tensor, valid: Tensor | None = None, invariance: float = 0.5
) -> Tensor:
    """mean(delta^2) - invariance mean(delta)^2 with delta = log depth - log reference (Eigen et al. 2014).

    Args:
        depth, reference: (B, 1, H, W), above 0.
        valid: (B, 1, H, W), 1 at the pixels to compare; all pixels if None.
        invariance: 0 is the plain log error; with 1 a common scale factor costs nothing.

    Returns:
        A scalar, the mean over the images.
    """
    delta = (depth + 1e-8).log() - (reference + 1e-8).log()
    weight = torch.ones_like(delta) if valid is None else valid.to(delta)
    count = weight.sum((1, 2, 3)).clamp(min=1)
    mean = (weight * delta).sum((1, 2, 3)) / count
    return ((weight * delta.square()).sum((1, 2, 3)) / count - invariance * mean.square()).mean()


def resampling_matrix(scale: Tensor, offset: Tensor, old: int, new: int) -> Tensor:
    """Resizing and cropping along one axis as a matrix, with Lanczos' window of three lobes as in Pillow.

    Pixel j of the result is pixel j + offset of the axis resized by `scale`. When shrinking, the window
    widens, so that no pixel is skipped.

    Args:
        scale: (n,) new pixels per old pixel.
        offset: (n,) pixels of the resized axis.
        old: length of the axis.
        new: length of the result.

    Returns:
        (n, new, old); each row sums to 1.
    """
    reach = (1 / scale).clamp(min=1)[:, None, None]  # old pixels per lobe
    kind = {"dtype": scale.dtype, "device": scale.device}
    centres = (torch.arange(new, **kind) + 0.5 + offset[:, None]) / scale[:, None]
    distance = (torch.arange(old, **kind) + 0.5 - centres[:, :, None]) / reach
    weights = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
    return weights / weights.sum(2, keepdim=True)


def box_mean(image: Tensor, radius: int = 1) -> Tensor:
    """Mean over a (2 radius + 1) square window with a reflected border; (..., H, W) to the same shape."""
    flat = F.pad(image.flatten(0, -3)[None], (radius,) * 4, mode="reflect")
    return F.avg_pool2d(flat, 2 * radius + 1, 1)[0].view(image.shape)


def ssim_error(image: Tensor, target: Tensor, radius: int = 1) -> Tensor:
    """(1 - SSIM) / 2 clamped to [0, 1], with uniform windows (Wang et al. 2004; Godard et al. 2017, eq. 2).

    This is the readable form. Training uses `PhotometricTarget`, which computes the same values several
    times faster.

    Args:
        image, target: (..., C, H, W) in [0, 1].
        radius: radius of the window in pixels; 1 is 3 x 3.

    Returns:
        (..., C, H, W).
    """
    mean_x, mean_y = box_mean(image, radius), box_mean(target, radius)
    var_x = box_mean(image**2, radius) - mean_x**2
    var_y = box_mean(target**2, radius) - mean_y**2
    covariance = box_mean(image * target, radius) - mean_x * mean_y
    top = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    bottom = (mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return ((1 - top / bottom) / 2).clamp(0, 1)
