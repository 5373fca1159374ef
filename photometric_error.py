"""Photometric error of many warped images against one target: SSIM and absolute difference, fused.

    error = w mean_c (1 - SSIM) / 2 + (1 - w) mean_c |I - J|          (Monodepth2, eq. 2; w = 0.85)

SSIM uses means over 3 x 3 windows (Wang et al. 2004). FeatDepth's robust difference is sqrt((I - J)^2 + e)
with e = 1e-6, which is smooth at 0. The comparison is one autograd node with its derivative written out,
computed in float32. It has two forms with equal values: compiled kernels (`kernels`), and torch operations
for machines without a compiler.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import kernels
from kernels import photometric_cpu
from layers import SSIM_C1, SSIM_C2, ssim_error

_ONLY_SSIM = 1.0, 0.0  # weights without the absolute difference


class PhotometricTarget:
    """A target image, prepared for comparison with many warped images.

    The target's SSIM statistics are computed once. On the CPU, the torch form works on one image at a time in
    buffers that stay in the cache: a temporary of the whole batch costs many times its arithmetic.

    Args:
        target: (B, C, H, W) in [0, 1]; no gradient reaches it.
        ssim_weight: w; with 0 the error is only the absolute difference.
        l1_epsilon: e of the robust difference; 0 is the absolute one.
    """

    def __init__(self, target: Tensor, ssim_weight: float = 0.85, l1_epsilon: float = 0.0) -> None:
        self.target = target.detach().float().contiguous()
        self.weights = ssim_weight, l1_epsilon
        self.statistics: tuple[Tensor, ...] = ()
        if ssim_weight > 0:
            mean = _box_sum(self.target) / 9
            square = mean.square()
            self.statistics = mean, square, _box_sum(self.target.square()) / 9 - square

    def error(self, images: Tensor) -> Tensor:
        """Per-pixel error of images against the target: (S, B, C, H, W) to (S, B, 1, H, W)."""
        compiled = images.device.type == "cpu" and kernels.compiled_for_cpu()
        form = _CompiledError if compiled else _PhotometricError
        return form.apply(images.float(), self.target, self.weights, *self.statistics)


def _box_sum(x: Tensor, out: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
    """Sum over 3 x 3 windows with a reflected border, (..., H, W); `rows` is scratch space.

    Because of the reflection, the first window along an axis holds x0 + 2 x1.
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
    """The transpose of `_box_sum`, its gradient. The doubled weights of the border go to the inner pixel."""
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
    def forward(
        ctx, images: Tensor, target: Tensor, weights: tuple[float, float], *statistics: Tensor
    ) -> Tensor:
        weight, epsilon = weights
        with_gradient = ctx.needs_input_grad[0]
        error = images.new_empty(*images.shape[:2], 1, *images.shape[3:])
        slopes = images.new_empty(3, *images.shape) if with_gradient and weight > 0 else None
        buffers = [torch.empty_like(chunk) for chunk in [next(_chunks(images))[1]] * 7]
        for index, x in _chunks(images):
            of_target = [values[index[1]] for values in statistics]
            kept = None if slopes is None else [slope[index] for slope in slopes]
            _compare(x, target[index[1]], of_target, weights, error[index], kept, buffers)
        if with_gradient:
            ctx.save_for_backward(images, target, slopes)
            ctx.weight, ctx.epsilon = weight, epsilon
        return error

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, target, slopes = ctx.saved_tensors
        weight, channels = ctx.weight, images.shape[2]
        result = torch.empty_like(images)
        a, b, rows = (torch.empty_like(chunk) for chunk in [next(_chunks(images))[1]] * 3)
        for index, x in _chunks(images):
            y, g, out = target[index[1]], gradient[index], result[index]
            torch.sub(x, y, out=out)
            if ctx.epsilon:
                out /= torch.mul(out, out, out=rows).add_(ctx.epsilon).sqrt_()
            else:
                out.sign_()
            out.mul_((1 - weight) / channels)
            out *= g
            if slopes is not None:
                by_mean, by_square, by_product = (slope[index] for slope in slopes)
                g = g * (weight / channels)
                out += _box_sum_adjoint(torch.mul(by_mean, g, out=a), b, rows)
                _box_sum_adjoint(torch.mul(by_square, g, out=a), b, rows)
                out.addcmul_(b, x, value=2)
                _box_sum_adjoint(torch.mul(by_product, g, out=a), b, rows)
                out.addcmul_(b, y)
        return result, None, None, None, None, None


def mean_ssim_error(images: Tensor, target: Tensor, radius: int) -> Tensor:
    """(1 - SSIM) / 2 averaged over the channels, `layers.ssim_error(...).mean(-3, keepdim=True)`.

    Args:
        images, target: (..., C, H, W).
        radius: radius of the window in pixels.

    Returns:
        (..., 1, H, W).
    """
    fits = radius in photometric_cpu.RADII and min(images.shape[-2:]) > radius
    if images.device.type != "cpu" or not fits or not kernels.compiled_for_cpu():
        return ssim_error(images, target, radius).mean(-3, keepdim=True)
    flat = [values.float().flatten(0, -4).contiguous() for values in (images, target)]
    error = _CompiledSimilarity.apply(*flat, radius)
    return error.view(*images.shape[:-3], 1, *images.shape[-2:])


class _CompiledError(torch.autograd.Function):
    """`_PhotometricError` as one compiled pass per image, which stores no slopes."""

    @staticmethod
    def forward(
        ctx, images: Tensor, target: Tensor, weights: tuple[float, float], *statistics: Tensor
    ) -> Tensor:
        mean, _, variance = statistics or (None, None, None)
        images = images.contiguous()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(images, target, mean, variance)
            ctx.weights = weights
        return photometric_cpu.forward(images, target, weights, mean, variance)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, target, mean, variance = ctx.saved_tensors
        result = photometric_cpu.backward(images, target, ctx.weights, mean, variance, gradient.contiguous())
        return result, None, None, None, None, None


class _CompiledSimilarity(torch.autograd.Function):
    """`mean_ssim_error` as compiled passes; SSIM is symmetric, so one kernel gives both gradients."""

    @staticmethod
    def forward(ctx, images: Tensor, target: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(images, target)
        ctx.radius = radius
        statistics = photometric_cpu.statistics(target, radius)
        return photometric_cpu.forward(images[None], target, _ONLY_SSIM, *statistics, radius)[0]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        results: list[Tensor | None] = []
        for needed, (image, other) in zip(
            ctx.needs_input_grad, (ctx.saved_tensors, ctx.saved_tensors[::-1]), strict=False
        ):
            if needed:
                statistics = photometric_cpu.statistics(other, ctx.radius)
                parts = image[None], other, _ONLY_SSIM, *statistics, gradient.contiguous()[None]
                results.append(photometric_cpu.backward(*parts, ctx.radius)[0])
            else:
                results.append(None)
        return *results, None


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
    weights: tuple[float, float],
    error: Tensor,
    slopes: list[Tensor] | None,
    buffers: list[Tensor],
) -> None:
    """Fill `error` (..., 1, H, W) and, if given, the three slopes of (1 - SSIM) / 2 / 9 for `x`.

    For equal images, the order of the sums makes A1 and B1, and A2 and B2, equal to the last bit. A pixel
    that does not change then has an error of exactly zero.
    """
    m, r, s, a1, bb, rows, tmp = buffers
    weight, epsilon = weights
    torch.sub(x, y, out=tmp)
    if epsilon:
        tmp.mul_(tmp).add_(epsilon).sqrt_()
    else:
        tmp.abs_()
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
    s += SSIM_C2  # A2
    a1 *= 2
    a1 += SSIM_C1
    torch.mul(m, m, out=rows)
    r -= rows
    r += v
    r += SSIM_C2  # B2
    rows += u_square
    rows += SSIM_C1  # B1
    torch.mul(rows, r, out=bb)
    torch.mul(a1, s, out=tmp).div_(bb)  # SSIM
    if slopes is not None:
        by_mean, by_square, by_product = slopes
        # Only rounding can move SSIM outside [-1, 1]; the error is clamped there and its slope is zero.
        torch.div((tmp.abs() <= 1).to(bb.dtype).mul_(-0.5 / 9), bb, out=bb)
        torch.mul(a1, bb, out=by_product).mul_(2)
        torch.sub(s, a1, out=by_mean).mul_(u).mul_(bb)
        torch.mul(tmp, bb, out=by_square)  # SSIM / (B1 B2)
        by_mean.addcmul_(torch.sub(rows, r, out=s).mul_(m), by_square).mul_(2)
        by_square.mul_(rows).neg_()
    tmp.neg_().add_(1).mul_(0.5).clamp_(0, 1)
    error.add_(tmp.mean(-3, keepdim=True), alpha=weight)
