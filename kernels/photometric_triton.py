"""View synthesis and photometric error on a GPU: one Triton kernel forward and one backward.

    error = min( min_s pe(I, I_s<grid_s>),  unwarped ),     pe = w (1 - SSIM) / 2 + (1 - w) |I - J|

A program compares a block of pixels. It samples the 3 x 3 window of each pixel bilinearly from each source,
takes SSIM, the absolute difference, the minimum over sources and the automask, and writes the error, the
chosen source and, for the backward pass, the slopes of the chosen source only. The backward pass gathers the
slopes of the nine windows that hold a pixel and follows them to the sampling grid. No warped image is stored.

Where two errors are equal, the gradient goes to the first source; `torch.minimum` divides it. Triton comes
with torch's CUDA builds on Linux. TRITON_INTERPRET=1 runs the kernels on a CPU, for tests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from layers import SSIM_C1, SSIM_C2

_BLOCK = 128  # pixels of a program


@triton.jit
def _reflected(i, size):
    """Index of a row or column that may lie one outside of the image."""
    i = tl.where(i < 0, 1, i)
    return tl.where(i >= size, size - 2, i)


@triton.jit
def _corners(grids, plane, pixel, inside, h, w, ax, bx, ay, by):
    """Sampling position of a pixel in its source: corner indices, fractions, and where it moves freely."""
    x = tl.load(grids + (plane + pixel) * 2, mask=inside, other=0.0) * ax + bx
    y = tl.load(grids + (plane + pixel) * 2 + 1, mask=inside, other=0.0) * ay + by
    free_x, free_y = (x > 0) & (x < w - 1), (y > 0) & (y < h - 1)
    x = tl.where(x < 0, 0.0, tl.where(x > w - 1, w - 1.0, x))  # keeps NaN
    y = tl.where(y < 0, 0.0, tl.where(y > h - 1, h - 1.0, y))
    left = tl.floor(tl.where(x == x, x, 0.0)).to(tl.int32)
    top = tl.floor(tl.where(y == y, y, 0.0)).to(tl.int32)
    right, bottom = tl.minimum(left + 1, w - 1), tl.minimum(top + 1, h - 1)
    return left, right, top, bottom, x - left, y - top, free_x, free_y


@triton.jit
def _four(sources, plane, left, right, top, bottom, w, inside):
    a = tl.load(sources + plane + top * w + left, mask=inside, other=0.0)
    b = tl.load(sources + plane + top * w + right, mask=inside, other=0.0)
    c = tl.load(sources + plane + bottom * w + left, mask=inside, other=0.0)
    d = tl.load(sources + plane + bottom * w + right, mask=inside, other=0.0)
    return a, b, c, d


@triton.jit
def _compare(
    sources, grids, target, source, image, channel, y, x, inside, B, H, W, h, w, ax, bx, ay, by, c1, c2,
    weight,
):  # fmt: skip
    """Error of one channel of one source, and its slopes by mean, mean square and mean product."""
    m = x * 0.0
    r, s, u, v, here, own = m, m, m, m, m, m
    frame = source * B + image
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            pixel = _reflected(y + dy - 1, H) * W + _reflected(x + dx - 1, W)
            left, right, top, bottom, fx, fy, _fx, _fy = _corners(
                grids, frame * H * W, pixel, inside, h, w, ax, bx, ay, by
            )
            a, b, c, d = _four(sources, (frame * 3 + channel) * h * w, left, right, top, bottom, w, inside)
            upper, lower = a + fx * (b - a), c + fx * (d - c)
            J = upper + fy * (lower - upper)
            theirs = tl.load(target + (image * 3 + channel) * H * W + pixel, mask=inside, other=0.0)
            m += J
            u += theirs
            r += J * J
            v += theirs * theirs
            s += J * theirs
            if dy == 1 and dx == 1:
                here, own = J, theirs
    m, u = m / 9, u / 9
    a1, b1 = 2 * m * u + c1, m * m + u * u + c1
    a2, b2 = 2 * (s / 9 - m * u) + c2, (r / 9 - m * m) + (v / 9 - u * u) + c2
    ssim = a1 * a2 / (b1 * b2)
    half = (1 - ssim) / 2
    half = tl.where(half < 0, 0.0, tl.where(half > 1, 1.0, half))
    scale = tl.where(tl.abs(ssim) <= 1, -0.5 / 27, 0.0) * weight / (b1 * b2)
    by_mean = 2 * scale * (u * (a2 - a1) + m * ssim * (b1 - b2))
    error = (weight * half + (1 - weight) * tl.abs(here - own)) / 3
    return error, by_mean, -scale * ssim * b1, 2 * scale * a1


@triton.jit
def _keep(slopes, place, size, by_mean, by_square, by_product, mask):
    tl.store(slopes + place, by_mean, mask=mask)
    tl.store(slopes + place + size, by_square, mask=mask)
    tl.store(slopes + place + 2 * size, by_product, mask=mask)


@triton.jit
def _forward(
    sources, grids, target, unwarped, error, choice, slopes, B, H, W, h, w, ax, bx, ay, by, c1, c2, weight,
    S: tl.constexpr, AUTOMASK: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < H * W
    y, x = pixel // W, pixel % W
    best = tl.full([BLOCK], float("inf"), tl.float32)
    which = tl.full([BLOCK], S, tl.int32)
    if AUTOMASK:
        best = tl.load(unwarped + image * H * W + pixel, mask=inside, other=0.0)
    for source in tl.static_range(S):
        e0, m0, r0, s0 = _compare(
            sources, grids, target, source, image, 0, y, x, inside, B, H, W, h, w, ax, bx, ay, by, c1, c2,
            weight,
        )  # fmt: skip
        e1, m1, r1, s1 = _compare(
            sources, grids, target, source, image, 1, y, x, inside, B, H, W, h, w, ax, bx, ay, by, c1, c2,
            weight,
        )  # fmt: skip
        e2, m2, r2, s2 = _compare(
            sources, grids, target, source, image, 2, y, x, inside, B, H, W, h, w, ax, bx, ay, by, c1, c2,
            weight,
        )  # fmt: skip
        total = e0 + e1 + e2
        better = inside & ((total < best) | (total != total))
        best = tl.where(better, total, best)
        which = tl.where(better, source, which)
        if GRADIENT:
            place = image * 9 * H * W + pixel
            _keep(slopes, place, H * W, m0, r0, s0, better)
            _keep(slopes, place + 3 * H * W, H * W, m1, r1, s1, better)
            _keep(slopes, place + 6 * H * W, H * W, m2, r2, s2, better)
    tl.store(error + image * H * W + pixel, best, mask=inside)
    tl.store(choice + image * H * W + pixel, which.to(tl.int8), mask=inside)


@triton.jit
def _channel_gradient(
    sources, target, choice, slopes, upstream, source, image, channel, y, x, inside, frame, left, right, top,
    bottom, fx, fy, B, H, W, h, w, weight,
):  # fmt: skip
    """Gradient of the error by the sampling position, in source pixels, through one channel."""
    by_mean = x * 0.0
    by_square, by_product = by_mean, by_mean
    size = H * W
    for dy in tl.static_range(3):
        for dx in tl.static_range(3):
            yy, xx = y + dy - 1, x + dx - 1  # the centre of a window that holds this pixel
            there = yy * W + xx
            held = inside & (yy >= 0) & (yy < H) & (xx >= 0) & (xx < W)
            chosen = tl.load(choice + image * size + there, mask=held, other=-1).to(tl.int32)
            held = held & (chosen == source)
            g = tl.load(upstream + image * size + there, mask=held, other=0.0)
            # A window at the border holds the inner neighbour twice, because of the reflection.
            if dy != 1:
                g = tl.where((yy == 0) | (yy == H - 1), 2 * g, g)
            if dx != 1:
                g = tl.where((xx == 0) | (xx == W - 1), 2 * g, g)
            place = (image * 9 + channel * 3) * size + there
            by_mean += g * tl.load(slopes + place, mask=held, other=0.0)
            by_square += g * tl.load(slopes + place + size, mask=held, other=0.0)
            by_product += g * tl.load(slopes + place + 2 * size, mask=held, other=0.0)
    a, b, c, d = _four(sources, (frame * 3 + channel) * h * w, left, right, top, bottom, w, inside)
    upper, lower = a + fx * (b - a), c + fx * (d - c)
    J = upper + fy * (lower - upper)
    pixel = y * W + x
    own = tl.load(target + (image * 3 + channel) * size + pixel, mask=inside, other=0.0)
    mine = inside & (tl.load(choice + image * size + pixel, mask=inside, other=-1).to(tl.int32) == source)
    g = tl.load(upstream + image * size + pixel, mask=mine, other=0.0)
    sign = tl.where(own < J, 1.0, 0.0) - tl.where(own > J, 1.0, 0.0)
    slope = by_mean + 2 * by_square * J + by_product * own + (1 - weight) / 3 * g * sign
    return slope * ((b - a) + fy * ((d - c) - (b - a))), slope * (lower - upper)


@triton.jit
def _backward(
    sources, grids, target, choice, slopes, upstream, result, B, H, W, h, w, ax, bx, ay, by, weight,
    BLOCK: tl.constexpr,
):  # fmt: skip
    image, source = tl.program_id(1), tl.program_id(2)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < H * W
    y, x = pixel // W, pixel % W
    frame = source * B + image
    left, right, top, bottom, fx, fy, free_x, free_y = _corners(
        grids, frame * H * W, pixel, inside, h, w, ax, bx, ay, by
    )
    by_x = x * 0.0
    by_y = x * 0.0
    for channel in tl.static_range(3):
        gx, gy = _channel_gradient(
            sources, target, choice, slopes, upstream, source, image, channel, y, x, inside, frame, left,
            right, top, bottom, fx, fy, B, H, W, h, w, weight,
        )  # fmt: skip
        by_x += gx
        by_y += gy
    place = (frame * H * W + pixel) * 2
    tl.store(result + place, tl.where(free_x, by_x * ax, 0.0), mask=inside)
    tl.store(result + place + 1, tl.where(free_y, by_y * ay, 0.0), mask=inside)


def least_error(
    sources: Tensor,
    grids: Tensor,
    target: Tensor,
    unwarped: Tensor | None,
    ssim_weight: float,
    align_corners: bool,
) -> tuple[Tensor, Tensor]:
    """The least photometric error over warped sources and, if given, the unwarped error.

    Args:
        sources: (S, B, 3, h, w) in [0, 1]; no gradient reaches them.
        grids: (S, B, H, W, 2) sampling coordinates, in [-1, 1] inside the source, whose
            border repeats outside.
        target: (B, 3, H, W) in [0, 1], at least 3 x 3.
        unwarped: (B, 1, H, W) error that warping must stay below (automask).
        ssim_weight: w.
        align_corners: convention of the grids, as in `grid_sample`.

    Returns:
        The error (B, 1, H, W), and (B, 1, H, W) bool, True where a warped source has it.
    """
    tensors = [x.detach().float().contiguous() for x in (sources, target)]
    plain = target.new_empty(0) if unwarped is None else unwarped.detach().float().contiguous()
    error, choice = _LeastError.apply(
        grids.float().contiguous(), *tensors, plain, unwarped is not None, ssim_weight, align_corners
    )
    return error, choice < len(sources)


class _LeastError(torch.autograd.Function):
    """`least_error`, with its gradient by the grids."""

    @staticmethod
    def forward(ctx, grids, sources, target, unwarped, automask, weight, align_corners):
        S, B, H, W, _ = grids.shape
        h, w = sources.shape[-2:]
        scales = ((w - 1) / 2, (h - 1) / 2) if align_corners else (w / 2, h / 2)
        affine = scales[0], (w - 1) / 2, scales[1], (h - 1) / 2
        error = target.new_empty(B, 1, H, W)
        choice = torch.empty(B, 1, H, W, dtype=torch.int8, device=target.device)
        with_gradient = ctx.needs_input_grad[0]
        slopes = target.new_empty(B, 9, H, W) if with_gradient else error
        blocks = triton.cdiv(H * W, _BLOCK)
        _forward[(blocks, B)](
            sources, grids, target, unwarped, error, choice, slopes, B, H, W, h, w, *affine, SSIM_C1, SSIM_C2,
            weight, S=S, AUTOMASK=automask, GRADIENT=with_gradient, BLOCK=_BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(grids, sources, target, choice, slopes)
        ctx.weight, ctx.affine = weight, affine
        ctx.mark_non_differentiable(choice)
        return error, choice

    @staticmethod
    def backward(ctx, upstream, _):
        grids, sources, target, choice, slopes = ctx.saved_tensors
        S, B, H, W, _ = grids.shape
        result = torch.empty_like(grids)
        _backward[(triton.cdiv(H * W, _BLOCK), B, S)](
            sources, grids, target, choice, slopes, upstream.contiguous(), result, B, H, W,
            *sources.shape[-2:], *ctx.affine, ctx.weight, BLOCK=_BLOCK,
        )  # fmt: skip
        return result, None, None, None, None, None, None
