"""Depth decoder: upsampling from the coarsest feature, joined with the finer ones; a sigmoid map per scale.

    x = conv(join(up(conv(x)), features[level - 1])),   disparity[level] = sigmoid(conv(x)),   level = 4 ... 0

`up` is by nearest neighbour. Convolutions reflect the border, because zeros there would look like an edge
(Godard et al., ICCV 2019, supplement).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from networks._blocks import ConvBlock, ReflectedConv, check_sizes
from utils import InputError

WIDTHS = (16, 32, 64, 128, 256)  # channels at level 0, the input's size, to 4, a sixteenth of it


@NETWORKS.register
class DepthDecoder(nn.Module):
    """U-Net decoder over the five features of an encoder.

    Keys are the published ones: `decoder.0` to `decoder.9`, two blocks per level from coarse to fine, then
    one convolution for each of `scales`, in their order.

    Args:
        num_channels: channels of the features, finest first. A feature of 0 channels is not joined.
        scales: levels with an output map, from 0 (the input's size) to 4. Blocks finer than the finest scale
            are kept so that published weights fit, but neither run nor trained.
        num_outputs: channels of each map: 1 for disparity, the number of sources for a predictive mask.

    Raises:
        InputError: not five features, or scales that are missing, doubled or out of range.
    """

    widths: ClassVar[tuple[int, ...]] = WIDTHS

    def __init__(
        self, num_channels: Sequence[int], scales: Sequence[int] = (0, 1, 2, 3), num_outputs: int = 1
    ) -> None:
        super().__init__()
        if len(num_channels) != len(WIDTHS):
            raise InputError(f"the depth decoder needs 5 features, got {len(num_channels)}")
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(range(len(WIDTHS))):
            raise InputError(f"scales must be different numbers from 0 to 4, got {list(scales)}; try 0 1 2 3")
        if num_outputs < 1:
            raise InputError(f"num_outputs must be at least 1, got {num_outputs}")
        self.scales = tuple(scales)
        self.finest_feature = max(0, min(scales) - 1)  # the finest feature that is read

        blocks: list[nn.Module] = []
        channels = num_channels[-1]
        for level in reversed(range(len(WIDTHS))):
            joined = num_channels[level - 1] if level else 0
            width = self.widths[level]
            pair = [ConvBlock(channels, width), ConvBlock(width + joined, width)]
            for block in pair:
                block.requires_grad_(level >= min(scales))
            blocks += pair
            channels = width
        heads = [ReflectedConv(self.widths[scale], num_outputs) for scale in scales]
        self.decoder = nn.ModuleList(blocks + heads)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Five features (B, C, H / 2 ** (k + 1), W / 2 ** (k + 1)), k = 0 to 4, to the maps.

        Returns:
            scale → (B, num_outputs, H / 2 ** scale, W / 2 ** scale) in (0, 1), float32.

        Raises:
            InputError: features of an image whose height or width is below 64 or not a multiple of 32.
        """
        return {scale: torch.sigmoid(logit.float()) for scale, logit in self.logits(features).items()}

    def logits(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """The output of `forward` before the sigmoid."""
        check_sizes(features)
        blocks, heads = self.decoder[: 2 * len(WIDTHS)], self.decoder[2 * len(WIDTHS) :]
        head_of = dict(zip(self.scales, heads))
        logits = {}
        x = features[-1]
        for level in reversed(range(min(self.scales), len(WIDTHS))):
            first = 2 * (len(WIDTHS) - 1 - level)
            x = self.enlarge(blocks[first](x))
            if level and features[level - 1].shape[1]:
                x = torch.cat([x, features[level - 1]], 1)
            x = blocks[first + 1](x)
            if level in head_of:
                logits[level] = head_of[level](x)
        return {scale: logits[scale] for scale in self.scales}

    def enlarge(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2 h, 2 w)."""
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    def weights_for(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Weights of a decoder with more scales, without the heads that this one lacks.

        The head of each scale reads another number of channels, which tells the scale of a stored head.

        Args:
            weights: state dict of a depth decoder.

        Returns:
            The weights of the shared blocks and of this decoder's heads; the number of heads left out in
            words, or "" if the weights are unchanged.
        """
        stored = {}  # scale → number of its module
        for key, value in weights.items():
            number = _head_number(key)
            if number is not None and value.ndim == 4 and value.shape[1] in self.widths:
                stored[self.widths.index(value.shape[1])] = number
        unread = set(stored) - set(self.scales)
        if not unread or not set(self.scales) <= set(stored):
            return dict(weights), ""
        numbers = {stored[scale]: 2 * len(WIDTHS) + n for n, scale in enumerate(self.scales)}
        kept = {}
        for key, value in weights.items():
            number = _head_number(key)
            if number in numbers:
                kept[key.replace(f".{number}.", f".{numbers[number]}.", 1)] = value
            elif number is None:
                kept[key] = value
        return kept, f"heads of scales {' '.join(map(str, sorted(unread)))}"


def _head_number(key: str) -> int | None:
    """Number of the module of a head, from its key; None for another key."""
    found = re.match(r"decoder\.(\d+)\.", key)
    return int(found[1]) if found and int(found[1]) >= 2 * len(WIDTHS) else None


@NETWORKS.register("depth_decoder_bilinear")
class BilinearDecoder(DepthDecoder):
    """Depth decoder with bilinear upsampling, for SC-Depth V1 to V3 (Bian et al., IJCV 2021); same keys."""

    def enlarge(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2 h, 2 w)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@NETWORKS.register("depth_decoder_slim")
class SlimDecoder(DepthDecoder):
    """Depth decoder with half as many channels, for small networks: about a quarter of the weights."""

    widths: ClassVar[tuple[int, ...]] = tuple(width // 2 for width in WIDTHS)
