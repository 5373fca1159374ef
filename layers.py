"""Depth maths: disparity and depth, poses, points, warping, SSIM, gradients.

    x_source = T_source_from_target @ x_target,     pixel = K x / z

Pixel centres are integers and grids are normalised by (W - 1), so `align_corners=True` goes with them.
Everything here computes in float32, whatever precision the networks run in, and makes its constants on the
device: a number that is copied there in the middle of a step makes Python wait for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError

_C1, _C2 = 0.01**2, 0.03**2  # SSIM's stabilisers for values in [0, 1]
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


def euler_to_rotation(angles: Tensor) -> Tensor:
    """R = Rx(x) Ry(y) Rz(z), as SfMLearner and SC-Depth read a pose network's output.

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
        invert: give the inverse motion. Monodepth2 shows its pose network a pair in temporal order and
            inverts for earlier frames, so that the network only ever sees forward motion.

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
    """The inverse of (B, 3, 3), not finite where there is none; nobody waits for the GPU to say so."""
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
    x, y, one = (intrinsics if source_intrinsics is None else source_intrinsics).unbind(1)
    K = torch.stack([2 / (width - 1) * x - one, 2 / (height - 1) * y - one, one], 1)
    A = K @ T_source_from_target[:, :3, :3] @ invert_intrinsics(intrinsics)
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
    if grid.device.type == "cpu" and not grid.detach().sum().isfinite():
        # The backward pass at a place that is no number would end the whole process (torch 2.15, on CPUs).
        grid = torch.nan_to_num(grid)
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


def scale_invariant_log_error(
    depth: Tensor, reference: Tensor, valid: Tensor | None = None, invariance: float = 0.5
) -> Tensor:
    """mean(delta^2) - invariance mean(delta)^2 with delta = log depth - log reference (Eigen et al. 2014).

    Args:
        depth, reference: (B, 1, H, W), above 0.
        valid: (B, 1, H, W), where they can be compared; everywhere if not given.
        invariance: 0 is the plain log error, 1 leaves a common factor unpunished.

    Returns:
        A scalar, the mean over the images.
    """
    delta = (depth + 1e-8).log() - (reference + 1e-8).log()
    weight = torch.ones_like(delta) if valid is None else valid.to(delta)
    count = weight.sum((1, 2, 3)).clamp(min=1)
    mean = (weight * delta).sum((1, 2, 3)) / count
    return ((weight * delta.square()).sum((1, 2, 3)) / count - invariance * mean.square()).mean()


def resampling_matrix(scale: Tensor, offset: Tensor, old: int, new: int) -> Tensor:
    """One axis of resizing and cropping as a matrix, by Lanczos' window of three lobes as in Pillow.

    Pixel j of the result is pixel j + offset of the axis resized by `scale`. Where the result is smaller, the
    window widens, so that nothing is skipped.

    Args:
        scale: (n,) new pixels for each old one.
        offset: (n,) new pixels.
        old: length of the axis.
        new: length of the result.

    Returns:
        (n, new, old), the rows summing to 1.
    """
    reach = (1 / scale).clamp(min=1)[:, None, None]  # old pixels a lobe
    kind = {"dtype": scale.dtype, "device": scale.device}
    centres = (torch.arange(new, **kind) + 0.5 + offset[:, None]) / scale[:, None]
    distance = (torch.arange(old, **kind) + 0.5 - centres[:, :, None]) / reach
    weights = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0.0)
    return weights / weights.sum(2, keepdim=True)


def box_mean(image: Tensor, radius: int = 1) -> Tensor:
    """Mean over a (2 radius + 1) square window, the border reflected; the shape stays (..., H, W)."""
    flat = F.pad(image.flatten(0, -3)[None], (radius,) * 4, mode="reflect")
    return F.avg_pool2d(flat, 2 * radius + 1, 1)[0].view(image.shape)


def ssim_error(image: Tensor, target: Tensor, radius: int = 1) -> Tensor:
    """(1 - SSIM) / 2 clamped to [0, 1], with uniform windows (Wang et al. 2004; Godard et al. 2017, eq. 2).

    The readable form. Training uses `PhotometricTarget`, which gives the same numbers several times faster.

    Args:
        image, target: (..., C, H, W) in [0, 1].
        radius: of the window: 1 is 3 x 3.

    Returns:
        (..., C, H, W).
    """
    mean_x, mean_y = box_mean(image, radius), box_mean(target, radius)
    var_x = box_mean(image**2, radius) - mean_x**2
    var_y = box_mean(target**2, radius) - mean_y**2
    covariance = box_mean(image * target, radius) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    bottom = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return ((1 - top / bottom) / 2).clamp(0, 1)


class PhotometricTarget:
    """A target image, ready to be compared with many resampled ones.

        error = w mean_c (1 - SSIM) / 2 + (1 - w) mean_c |I - J|          (Monodepth2, eq. 2; w = 0.85)

    The target's SSIM statistics are computed once. The comparison is one autograd node with its derivative
    written out; on the CPU it works on one image at a time in buffers that stay in the cache, since there
    a temporary of the whole batch costs many times its arithmetic.

    Args:
        target: (B, C, H, W) in [0, 1]; no gradient reaches it.
        ssim_weight: w; 0 leaves the absolute difference alone.
    """

    def __init__(self, target: Tensor, ssim_weight: float = 0.85) -> None:
        self.target = target.detach().float()
        self.ssim_weight = ssim_weight
        self.statistics: tuple[Tensor, ...] = ()
        if ssim_weight > 0:
            mean = _box_sum(self.target) / 9
            square = mean.square()
            self.statistics = mean, square, _box_sum(self.target.square()) / 9 - square

    def error(self, images: Tensor) -> Tensor:
        """Per-pixel error of images against the target: (S, B, C, H, W) to (S, B, 1, H, W)."""
        return _PhotometricError.apply(images.float(), self.target, self.ssim_weight, *self.statistics)


def _box_sum(x: Tensor, out: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Sum over 3 x 3 windows with a reflected border, (..., H, W); `rows` is scratch space.

    Beyond the border lies the second pixel again, so the first window holds x0 + 2 x1.
    """
    rows = torch.empty_like(x) if rows is None else rows
    out = torch.empty_like(x) if out is None else out
    torch.add(x[..., :-2], x[..., 2:], out=rows[..., 1:-1])
    torch.mul(x[..., 1:2], 2, out=rows[..., :1])
    torch.mul(x[..., -2:-1], 2, out=rows[..., -1:])
    rows += x
    torch.add(rows[..., :-2, :], rows[..., 2:, :], out=out[..., 1:-1, :])
    torch.mul(rows[..., 1:2, :], 2, out=out[..., :1, :])
    torch.mul(rows[..., -2:-1, :], 2, out=out[..., -1:, :])
    out += rows
    return out


def _box_sum_adjoint(x: Tensor, out: Tensor, rows: Tensor) -> Tensor:
    """The transpose of `_box_sum`: its gradient. The border's double weights go to their source."""
    torch.add(x[..., :-2, :], x[..., 2:, :], out=rows[..., 1:-1, :])
    rows[..., 0, :] = x[..., 1, :]
    rows[..., -1, :] = x[..., -2, :]
    rows += x
    rows[..., 1, :] += x[..., 0, :]
    rows[..., -2, :] += x[..., -1, :]
    torch.add(rows[..., :-2], rows[..., 2:], out=out[..., 1:-1])
    out[..., 0] = rows[..., 1]
    out[..., -1] = rows[..., -2]
    out += rows
    out[..., 1] += rows[..., 0]
    out[..., -2] += rows[..., -1]
    return out


class _PhotometricError(torch.autograd.Function):
    """`PhotometricTarget.error`. With m = mean of J and r, s = means of J^2 and I J over a window, and the
    target's mean u and variance v:

        A1 = 2 m u + C1,  A2 = 2 (s - m u) + C2,  B1 = m^2 + u^2 + C1,  B2 = r - m^2 + v + C2,
        SSIM = A1 A2 / B1 B2,

        dSSIM/ds = 2 A1 / B1 B2,   dSSIM/dr = -SSIM / B2,
        dSSIM/dm = 2 u (A2 - A1) / B1 B2 - 2 m SSIM (1 / B1 - 1 / B2)

    The forward pass keeps these three; the backward pass sums them over windows once more.
    """

    @staticmethod
    def forward(ctx, images: Tensor, target: Tensor, weight: float, *statistics: Tensor) -> Tensor:
        with_gradient = ctx.needs_input_grad[0]
        error = images.new_empty(*images.shape[:2], 1, *images.shape[3:])
        slopes = images.new_empty(3, *images.shape) if with_gradient and weight > 0 else None
        buffers = [torch.empty_like(chunk) for chunk in [next(_chunks(images))[1]] * 7]
        for place, x in _chunks(images):
            of_target = [values[place[1]] for values in statistics]
            kept = None if slopes is None else [slope[place] for slope in slopes]
            _compare(x, target[place[1]], of_target, weight, error[place], kept, buffers)
        if with_gradient:
            ctx.save_for_backward(images, target, slopes)
            ctx.weight = weight
        return error

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, target, slopes = ctx.saved_tensors
        weight, channels = ctx.weight, images.shape[2]
        result = torch.empty_like(images)
        a, b, rows = (torch.empty_like(chunk) for chunk in [next(_chunks(images))[1]] * 3)
        for place, x in _chunks(images):
            y, g, out = target[place[1]], gradient[place], result[place]
            torch.sub(x, y, out=out).sign_().mul_((1 - weight) / channels)
            out *= g
            if slopes is not None:
                by_mean, by_square, by_product = (slope[place] for slope in slopes)
                g = g * (weight / channels)
                out += _box_sum_adjoint(torch.mul(by_mean, g, out=a), b, rows)
                _box_sum_adjoint(torch.mul(by_square, g, out=a), b, rows)
                out.addcmul_(b, x, value=2)
                _box_sum_adjoint(torch.mul(by_product, g, out=a), b, rows)
                out.addcmul_(b, y)
        return result, None, None, None, None, None


def _chunks(images: Tensor) -> Iterator[tuple[tuple, Tensor]]:
    """(index, part) pairs that cover (S, B, ...): by image on the CPU, by source elsewhere."""
    for source in range(len(images)):
        if images.device.type == "cpu":
            for n in range(images.shape[1]):
                yield (source, n), images[source, n]
        else:
            yield (source, slice(None)), images[source]


def _compare(
    x: Tensor,
    y: Tensor,
    of_target: list[Tensor],
    weight: float,
    error: Tensor,
    slopes: list[Tensor] | None,
    buffers: list[Tensor],
) -> None:
    """Fill `error` (..., 1, H, W) and, where given, the three slopes of (1 - SSIM) / 2 / 9 for `x`.

    The order of the sums makes the two factors of SSIM equal to the last bit where the images are, so
    that what stands still has an error of exactly zero.
    """
    m, r, s, a1, bb, rows, tmp = buffers
    torch.sub(x, y, out=tmp).abs_()
    torch.mean(tmp, -3, keepdim=True, out=error)
    if weight <= 0:
        return
    u, u_square, v = of_target
    error *= 1 - weight
    _box_sum(x, m, rows).div_(9)
    _box_sum(torch.mul(x, x, out=tmp), r, rows).div_(9)
    _box_sum(torch.mul(x, y, out=tmp), s, rows).div_(9)
    torch.mul(m, u, out=a1)
    s -= a1
    s *= 2
    s += _C2  # A2
    a1 *= 2
    a1 += _C1
    torch.mul(m, m, out=rows)
    r -= rows
    r += v
    r += _C2  # B2
    rows += u_square
    rows += _C1  # B1
    torch.mul(rows, r, out=bb)
    torch.mul(a1, s, out=tmp).div_(bb)  # SSIM
    if slopes is not None:
        by_mean, by_square, by_product = slopes
        # Outside [-1, 1] rounding alone put it there: the error is clamped and its slope is zero.
        torch.div((tmp.abs() <= 1).to(bb.dtype).mul_(-0.5 / 9), bb, out=bb)
        torch.mul(a1, bb, out=by_product).mul_(2)
        torch.sub(s, a1, out=by_mean).mul_(u).mul_(bb)
        torch.mul(tmp, bb, out=by_square)  # SSIM / (B1 B2)
        by_mean.addcmul_(torch.sub(rows, r, out=s).mul_(m), by_square).mul_(2)
        by_square.mul_(rows).neg_()
    tmp.neg_().add_(1).mul_(0.5).clamp_(0, 1)
    error.add_(tmp.mean(-3, keepdim=True), alpha=weight)
