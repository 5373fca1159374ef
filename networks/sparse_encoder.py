"""Sparse encoder: features of a few depth measurements, computed only where there are measurements.

A sparse map is a dense map x and a mask m of its sites, with x = 0 elsewhere. In these terms the operations
of a sparse convolution library are

    convolution   y = m conv2d(x, W)                 sites stay where they are
    pooling       m'(u, v) = any of m in the 2 x 2 block of (u, v)
                  x'(u, v) = max of x over the sites in the 3 x 3 window around (2 u, 2 v),  0 where m' = 0
    norm          batch statistics over the sites of the whole batch

(sparse convolutions: Choy et al., CVPR 2019; the encoder: Guizilini et al., CVPR 2021, "Sparse Auxiliary
Networks"). Nothing but PyTorch is needed, and the result does not depend on the order of the sites.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError


@NETWORKS.register
class SparseEncoder(nn.Module):
    """Sparse depth to one dense map per stage. Keys are the published ones, `mconvs.0` to `mconvs.4`.

    Args:
        channels: output channels of the stages; each stage halves the resolution.
        kernels: kernel size of the convolutions of each stage, odd.

    Raises:
        InputError: not one kernel for each stage, or an even one.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        kernels: Sequence[int] = (5, 5, 3, 3, 3),
    ) -> None:
        super().__init__()
        if len(channels) != len(kernels):
            raise InputError(
                f"each stage needs one kernel size, got {len(channels)} channels and {len(kernels)} kernels"
            )
        if any(kernel % 2 == 0 for kernel in kernels):
            raise InputError(f"kernels must be odd, got {list(kernels)}; try 5 5 3 3 3")
        before = [1, *channels[:-1]]
        self.mconvs = nn.ModuleList(Stage(*sizes) for sizes in zip(before, channels, kernels))

    def forward(self, depth: Tensor) -> list[Tensor]:
        """Maps of the stages, 0 off the sites; all 0 if the batch has no measurement.

        Args:
            depth: (B, 1, H, W) metres, 0 where unknown; H and W divisible by 2 ** stages.

        Returns:
            (B, channels[k], H / 2**(k + 1), W / 2**(k + 1)) for each stage k.

        Raises:
            InputError: a height or width that the stages cannot halve.
        """
        factor = 2 ** len(self.mconvs)
        height, width = depth.shape[-2:]
        if height % factor or width % factor:
            raise InputError(
                f"height and width of the input depth must be multiples of {factor}, got {height} x {width}"
            )
        mask = depth > 0
        x, maps = torch.where(mask, depth, 0.0), []
        for stage in self.mconvs:
            x, mask = stage(x, mask)
            maps.append(x)
        return maps


class Stage(nn.Module):
    """Pooling, then the sum of one, two and three convolutions, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        wide = 2 * out_channels
        self.layer3 = SparseSequential(
            SparseConv(in_channels, wide, kernel), SparseNorm(wide), nn.ReLU(),
            SparseConv(wide, wide, kernel), SparseNorm(wide), nn.ReLU(),
            SparseConv(wide, out_channels, kernel),
        )  # fmt: skip
        self.layer2 = SparseSequential(
            SparseConv(in_channels, wide, kernel), SparseNorm(wide), nn.ReLU(),
            SparseConv(wide, out_channels, kernel),
        )  # fmt: skip
        self.layer1 = SparseSequential(SparseConv(in_channels, out_channels, kernel))
        self.layer_final = SparseSequential(SparseNorm(out_channels), nn.ReLU())

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = sparse_max_pool(x, mask)
        total = self.layer1(x, mask) + self.layer2(x, mask) + self.layer3(x, mask)
        return self.layer_final(total, mask), mask


class SparseSequential(nn.Sequential):
    """Layers in sequence. The ReLU needs no mask, since it keeps zeros."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self:
            x = layer(x) if isinstance(layer, nn.ReLU) else layer(x, mask)
        return x


class SparseConv(nn.Module):
    """Sparse convolution without bias: its output has values only at the sites of its input.

    The weight has the published layout: `kernel` (k * k, in_channels, out_channels), in which the row offset
    varies fastest.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.kernel = nn.Parameter(torch.empty(size * size, in_channels, out_channels))
        bound = 1 / math.sqrt(in_channels * size * size)
        nn.init.uniform_(self.kernel, -bound, bound)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, in_channels, h, w) and sites (B, 1, h, w) to (B, out_channels, h, w)."""
        weight = self.kernel.unflatten(0, (self.size, self.size)).permute(3, 2, 1, 0)
        return F.conv2d(x, weight, padding=self.size // 2) * mask


class SparseNorm(nn.Module):
    """Batch normalisation over the sites of the batch. Parameters and statistics are those of `bn`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, h, w) and sites (B, 1, h, w) to the same shape, 0 off the sites, float32.

        Sums over masked maps instead of a list of the sites: their number stays on the device.
        """
        bn = self.bn
        x = x.to(bn.weight.dtype)
        if self.training:
            count = mask.sum()
            axes = (0, 2, 3)
            mean = x.sum(axes) / count.clamp(min=1)
            centred = (x - mean[:, None, None]) * mask
            variance = centred.square().sum(axes) / count.clamp(min=1)
            self._update(mean.detach(), variance.detach(), count)
        else:
            mean, variance = bn.running_mean, bn.running_var
            centred = (x - mean[:, None, None]) * mask
        scale = bn.weight * (variance + bn.eps).rsqrt()
        return (centred * scale[:, None, None] + bn.bias[:, None, None]) * mask

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Running statistics, as `nn.BatchNorm1d` keeps them; unchanged without two sites."""
        bn = self.bn
        momentum = bn.momentum * (count > 1)
        unbiased = variance * count / (count - 1).clamp(min=1)
        bn.running_mean.lerp_(mean, momentum)
        bn.running_var.lerp_(unbiased, momentum)
        bn.num_batches_tracked.add_(1)


def sparse_max_pool(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over the sites in 3 x 3 windows with stride 2.

    Args:
        x: (B, C, h, w), 0 off the sites; h and w even.
        mask: (B, 1, h, w) bool, the sites.

    Returns:
        (B, C, h / 2, w / 2) and its sites: positions whose 2 x 2 block holds a site. The 3 x 3 windows
        overlap, but a position is not a site if only the rest of its window holds one.
    """
    pooled_mask = F.max_pool2d(mask.to(x.dtype), 2) > 0
    pooled = F.max_pool2d(torch.where(mask, x, -torch.inf), 3, stride=2, padding=1)
    return torch.where(pooled_mask, pooled, 0.0), pooled_mask
