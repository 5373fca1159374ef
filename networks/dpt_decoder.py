"""DPT decoder: fusion of four features from coarse to fine by residual units (Ranftl et al., ICCV 2021).

    x_n = project(up(u(reduce(f_n) -> u + x_(n+1)))),    n = 3 ... 0,    u(x) = x + conv(relu(conv(relu(x))))
    logit_n = conv(relu(conv(up(conv(x_n))))),           disparity_n = sigmoid(logit_n)

f_n is the feature of stride 2**(n + 2), x_n has half that stride, and logit_n has 1 / 2**n of the image's
size. `up` is bilinear with aligned corners. The paper has one head, of scale 0; every other scale gets one of
its own here. Features may have any sizes, so patches of 14 pixels are possible.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError

LEVELS = (0, 1, 2, 3)


@NETWORKS.register
class DptDecoder(nn.Module):
    """Depth decoder over the four coarser features of an encoder: a ViT's or a ConvNet's.

    Keys are `reduce.n`, `fuse.n.first`, `fuse.n.second`, `fuse.n.project` and `heads.n`; see above for n.

    Args:
        num_channels: channels of the five features, finest first; the first is not read.
        scales: scales of the outputs, from 0 (the image's size) to 3. Levels finer than the finest of them do
            not exist.
        num_outputs: channels of each map: 1 for disparity.
        width: channels of the fusion, an even number; 256 in DPT, 64 in Depth Anything's small model.
        head_width: channels before the last convolution.

    Raises:
        InputError: not five features, scales outside 0 to 3, a width that is odd or not positive.
    """

    def __init__(
        self,
        num_channels: Sequence[int],
        scales: Sequence[int] = LEVELS,
        num_outputs: int = 1,
        width: int = 256,
        head_width: int = 32,
    ) -> None:
        super().__init__()
        if len(num_channels) != len(LEVELS) + 1:
            raise InputError(f"the DPT decoder follows 5 features, got {len(num_channels)}")
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(LEVELS):
            raise InputError(
                f"dpt_decoder predicts at scales 0 (the image's size) to 3, got --scales "
                f"{' '.join(map(str, scales))}; try --scales 0"
            )
        if num_outputs < 1:
            raise InputError(f"num_outputs must be at least 1, got {num_outputs}")
        if width < 2 or width % 2 or head_width < 1:
            raise InputError(
                f"width must be even and head_width at least 1, got {width} and {head_width}; try 256 and 32"
            )
        self.scales = tuple(scales)
        self.finest_feature = min(scales) + 1  # that is read; the finer ones are not
        levels = range(max(LEVELS), min(scales) - 1, -1)
        self.reduce = nn.ModuleDict(
            {str(n): nn.Conv2d(num_channels[n + 1], width, 3, padding=1, bias=False) for n in levels}
        )
        self.fuse = nn.ModuleDict({str(n): Fusion(width, first=n != max(LEVELS)) for n in levels})
        self.heads = nn.ModuleDict({str(n): Head(width, head_width, num_outputs) for n in scales})

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Predict the maps.

        Args:
            features: five of them; the first (B, C, H / 2, W / 2) tells the size of the image, and C may be
                0. The others are (B, C, h, w) with h, w falling by about one half.

        Returns:
            scale → (B, num_outputs, H / 2**scale, W / 2**scale) in (0, 1), float32.
        """
        return {scale: torch.sigmoid(logit) for scale, logit in self.logits(features).items()}

    def logits(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """The output of `forward` before the sigmoid, float32."""
        height, width = (2 * side for side in features[0].shape[-2:])
        found: dict[int, Tensor] = {}
        x: Tensor | None = None
        for level in range(max(LEVELS), min(self.scales) - 1, -1):
            feature = self.reduce[str(level)](features[level + 1])
            size = features[level].shape[-2:] if level else [2 * side for side in feature.shape[-2:]]
            x = self.fuse[str(level)](feature, x, size)
            if level in self.scales:
                size = height // 2**level, width // 2**level
                found[level] = self.heads[str(level)](x, size).float()
        return {scale: found[scale] for scale in self.scales}

    def weights_for(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Weights of a decoder with more scales, without the heads and levels that this one lacks.

        Args:
            weights: state dict of a DPT decoder.

        Returns:
            The weights that this one has; the scales of the heads left out in words, or "".
        """
        kept, left = {}, set()
        for key, value in weights.items():
            part = re.match(r"(heads|reduce|fuse)\.(\d)\.", key)
            if part and part[2] not in getattr(self, part[1]):
                left |= {part[2]} if part[1] == "heads" else set()
            else:
                kept[key] = value
        return kept, f"heads of scales {' '.join(sorted(left))}" if left else ""


class Fusion(nn.Module):
    """Joins a feature with the coarser result and enlarges; (B, C, h, w) and (B, C, h, w) to (B, C, *size).

    Args:
        channels: C.
        first: the feature passes a residual unit before the sum. The coarsest one, which has nothing to join,
            does not.
    """

    def __init__(self, channels: int, first: bool) -> None:
        super().__init__()
        self.first = ResidualUnit(channels) if first else None
        self.second = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, feature: Tensor, coarser: Tensor | None, size: Sequence[int]) -> Tensor:
        if self.first is not None and coarser is not None:
            feature = coarser + self.first(feature)
        return self.project(_enlarge(self.second(feature), size))


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Head(nn.Module):
    """Three convolutions, the second at the size of the output: (B, C, h, w) to (B, num_outputs, *size)."""

    def __init__(self, channels: int, width: int, num_outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(channels // 2, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, num_outputs, 1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return self.conv3(F.relu(self.conv2(_enlarge(self.conv1(x), size))))


def _enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
