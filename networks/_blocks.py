"""Shared parts of the decoders: convolutions with a reflected border, and a check of feature sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from utils import InputError


class ReflectedConv(nn.Module):
    """3 x 3 convolution with a reflected border: (B, C, H, W) to (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ConvBlock(nn.Module):
    """Convolution and ELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ReflectedConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x), inplace=True)


def check_sizes(features: Sequence[Tensor]) -> None:
    """Check that each feature, finest first, has half the size of the one before, the last at least 2 x 2.

    Raises:
        InputError: features of an image whose height or width is below 64 or not a multiple of 32.
    """
    sizes = [tuple(feature.shape[-2:]) for feature in features]
    halve = all(fine == (2 * height, 2 * width) for fine, (height, width) in pairwise(sizes))
    if not halve or min(sizes[-1]) < 2:  # a single row has nothing to reflect
        raise InputError(
            "the image's height and width must be multiples of 32 and at least 64; "
            f"its features have {', '.join(f'{height} x {width}' for height, width in sizes)} pixels"
        )
