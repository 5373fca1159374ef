"""Refine decoder: RefineNet's chained pooling in a depth decoder, whose finest disparity has half the size.

    x_n = up(conv(pool(conv(join(reduce(f_n), x_(n+1), d_(n+1)))))),   d_n = sigmoid(conv(x_n)),   n = 4 ... 1
    pool(x) = x + p_1 + p_2 + p_3 + p_4,   p_k = conv(maxpool(p_(k-1))),   p_0 = x

f_n is the encoder's feature of stride 2**(n + 1). Chained residual pooling (CRP) sees a wide context at the
cost of 1 x 1 convolutions (Lin et al., RefineNet, CVPR 2017; in FeatDepth, Shu et al., ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from networks._blocks import ReflectedConv, check_sizes
from utils import InputError

LEVELS = (1, 2, 3, 4)  # d_n has 1 / 2**n of the input's size
WIDTH = 256
STAGES = 4  # of the chained pooling
SLOPE = 0.01  # of the leaky ReLU


@NETWORKS.register
class RefineDecoder(nn.Module):
    """Depth decoder over the four coarser features of an encoder.

    Keys are the published ones: `reduce`, `iconv`, `crp`, `merge` and `disp`, each with its level, 4 the
    coarsest.

    Args:
        num_channels: channels of the five features, finest first; the first is not read.
        scales: scales of the outputs, 1 (half the input's size) to 4. Levels finer than the finest of them
            are kept, for published weights to fit, but neither run nor trained.
        num_outputs: channels of each map: 1 for disparity.
        dropout: probability at which an element of the two coarsest features is set to 0 in training.

    Raises:
        InputError: not five features, scales outside 1 to 4, a dropout outside [0, 1).
    """

    def __init__(
        self,
        num_channels: Sequence[int],
        scales: Sequence[int] = LEVELS,
        num_outputs: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(num_channels) != 5:
            raise InputError(f"the refine decoder follows 5 features, got {len(num_channels)}")
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(LEVELS):
            raise InputError(
                f"refine_decoder predicts at scales 1 (half the image's size) to 4, got --scales "
                f"{' '.join(map(str, scales))}; try --scales 1 2 3 4"
            )
        if num_outputs < 1:
            raise InputError(f"num_outputs must be at least 1, got {num_outputs}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, got {dropout}; published is 0.5")
        self.scales = tuple(scales)
        self.finest_feature = min(scales)  # that is read; the finer ones are not
        self.dropout = dropout
        for level in reversed(LEVELS):
            reduced = 2 * WIDTH if level == 4 else WIDTH
            joined = reduced if level == 4 else reduced + WIDTH + num_outputs
            parts = {
                "reduce": PointwiseConv(num_channels[level], reduced),
                "iconv": ReflectedConv(joined, WIDTH),
                "crp": nn.Sequential(ChainedPooling(WIDTH)),
                "merge": ReflectedConv(WIDTH, WIDTH),
                "disp": nn.Sequential(ReflectedConv(WIDTH, num_outputs)),
            }
            for name, part in parts.items():
                self.add_module(f"{name}{level}", part.requires_grad_(level >= min(scales)))

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Predict the maps.

        Args:
            features: five of them, (B, C, H / 2**(k + 1), W / 2**(k + 1)) for k = 0 to 4.

        Returns:
            scale → (B, num_outputs, H / 2**scale, W / 2**scale) in (0, 1), float32.

        Raises:
            InputError: features of an image whose height or width is below 64 or not a multiple of 32.
        """
        check_sizes(features)
        maps: dict[int, Tensor] = {}
        x = disparity = None
        for level in range(4, min(self.scales) - 1, -1):
            reduce, iconv, crp, merge, disp = (
                self.get_submodule(f"{name}{level}") for name in ("reduce", "iconv", "crp", "merge", "disp")
            )
            feature = features[level]
            if level >= 3:
                feature = F.dropout(feature, self.dropout, self.training)
            joined = reduce(feature)
            if x is not None:
                joined = torch.cat([joined, x, disparity.to(joined.dtype)], 1)
            x = F.leaky_relu(merge(crp(F.leaky_relu(iconv(joined), SLOPE))), SLOPE)
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            disparity = maps[level] = torch.sigmoid(disp(x).float())
        return {scale: maps[scale] for scale in self.scales}


class PointwiseConv(nn.Module):
    """1 x 1 convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ChainedPooling(nn.Module):
    """Chained residual pooling: each stage pools the one before, and all are added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for stage in range(1, STAGES + 1):
            self.add_module(f"{stage}_pointwise", PointwiseConv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        pooled = x
        for conv in self.children():
            pooled = conv(F.max_pool2d(pooled, 5, stride=1, padding=2))
            x = x + pooled
        return x
