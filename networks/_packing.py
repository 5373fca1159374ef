"""Packing: a feature map is halved without losing detail and doubled again, by 3-D convolutions.

    pack(x)   = conv2d(flatten(conv3d(space_to_depth(x))))
    unpack(x) = depth_to_space(flatten(conv3d(conv2d(x))))

Space-to-depth moves each 2 x 2 block of pixels into four channels, so nothing is thrown away as pooling or a
stride would. The 3-D convolution treats the channels as a third axis and learns which details to keep
(Guizilini et al., CVPR 2020, section 4.1). `PackEncoder` and `PackDecoder` are the two halves of every
PackNet; the keys of their weights are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks._checkpointing import run_checkpointed
from utils import InputError, nearest_name

VERSIONS = ("1A", "1B")  # skip connections are concatenated (A) or added (B)
GROUPS = 16  # groups of every group normalisation
RESIDUALS = (2, 2, 3, 3)  # residual blocks of the encoder stages 2 to 5
LEVELS = (5, 4, 3, 2, 1)  # decoder levels, from 1/16 of the image to its full size
MIN_DEPTH = 0.5  # metres; the published output is inverse depth sigmoid / 0.5
# The published code limits inverse depth to 1e-6 before it divides, so that depth stays finite.
SMALLEST = 1e-6 * MIN_DEPTH


class Sizes(NamedTuple):
    """Size of a PackNet.

    Attributes:
        widths: channels of the first convolution and of the five encoder stages.
        depth: output channels of each 3-D convolution.
    """

    widths: tuple[int, int, int, int, int, int]
    depth: int


def with_widths(sizes: Sizes, widths: Sequence[int] | None) -> Sizes:
    """The sizes with other channels; the same if None.

    Raises:
        InputError: not six numbers, or one that the group normalisation cannot divide into groups.
    """
    if widths is None:
        return sizes
    least = GROUPS * max(1, sizes.depth // 4)  # an unpacking convolution has 4 / depth times as many
    if len(widths) != len(sizes.widths) or any(width < 1 or width % least for width in widths):
        raise InputError(
            f"widths are {len(sizes.widths)} multiples of {least}, got {list(widths)}; "
            f"published: {list(sizes.widths)}"
        )
    return Sizes(tuple(widths), sizes.depth)


PACKNET01 = Sizes((64, 64, 64, 128, 256, 512), depth=8)
SLIM = Sizes((32, 32, 64, 128, 256, 512), depth=4)


class NormalizedConv(nn.Module):
    """Convolution, group normalisation, ELU: (B, C, h, w) to (B, out_channels, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_base = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.normalize = nn.GroupNorm(GROUPS, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.normalize(self.conv_base(x)), inplace=True)


class Residual(nn.Module):
    """Two convolutions and a 1 x 1 shortcut. Dropout acts on whole channels of the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = NormalizedConv(in_channels, out_channels, 3)
        self.conv2 = NormalizedConv(out_channels, out_channels, 3)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.normalize = nn.GroupNorm(GROUPS, out_channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.dropout(self.conv3(x))
        return F.elu(self.normalize(self.conv2(self.conv1(x)) + shortcut), inplace=True)


class Pack(nn.Module):
    """(B, channels, h, w) to (B, channels, h / 2, w / 2)."""

    def __init__(self, channels: int, kernel: int, depth: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1, depth, 3, padding=1)
        self.conv = NormalizedConv(4 * depth * channels, channels, kernel)
        self.planar: nn.Module | None = None  # `networks.planar` sets it

    def planar_form(self) -> nn.Module:
        """The part before `conv`, with tensors of four axes."""
        channels = self.conv.conv_base.out_channels
        unshuffle = PlanarUnshuffle(channels).to(self.conv3d.weight.device)
        return nn.Sequential(unshuffle, PlanarConv(self.conv3d, 4 * channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.planar is not None:
            return self.conv(self.planar(x))
        packed = F.pixel_unshuffle(x, 2)  # channel 4 c + 2 row + column
        return self.conv(self.conv3d(packed[:, None]).flatten(1, 2))


class Unpack(nn.Module):
    """(B, in_channels, h, w) to (B, out_channels, 2 h, 2 w)."""

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        self.conv = NormalizedConv(in_channels, 4 * out_channels // depth, 3)
        self.conv3d = nn.Conv3d(1, depth, 3, padding=1)
        self.planar: nn.Module | None = None  # see `Pack`

    def planar_form(self) -> nn.Module:
        """The 3-D convolution, with tensors of four axes."""
        return PlanarConv(self.conv3d, self.conv.conv_base.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.planar is not None:
            return F.pixel_shuffle(self.planar(x), 2)
        return F.pixel_shuffle(self.conv3d(x[:, None]).flatten(1, 2), 2)


class PlanarConv(nn.Module):
    """`conv3d(x[:, None]).flatten(1, 2)` by 2-D convolutions, without a tensor of five axes.

        y[d, c] = bias[d] + sum over k of conv2d(x[c + k - 1], weight[d, k]),   x = 0 outside of the channels

    The convolutions are grouped: every channel has the same filters. (B, C, h, w) to (B, D·C, h, w), channel
    d C + c. Training keeps the 3-D form, one call of the library instead of three.

    Args:
        conv3d: from 1 channel to D, kernel 3, padding 1.
        channels: C.
    """

    def __init__(self, conv3d: nn.Conv3d, channels: int) -> None:
        super().__init__()
        depth, self.channels = conv3d.out_channels, channels
        filters = conv3d.weight.detach().repeat(channels, 1, 1, 1, 1)
        for k in range(3):
            self.register_buffer(f"filters_{k}", filters[:, :, k].clone())
        self.register_buffer("bias", conv3d.bias.detach().repeat(channels))
        self.register_buffer("empty", torch.zeros(1, 1, 1, 1, device=filters.device))
        order = torch.arange(channels * depth, device=filters.device).view(channels, depth).T.flatten()
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        empty = x[:, :1] * self.empty
        before, after = torch.cat([empty, x[:, :-1]], 1), torch.cat([x[:, 1:], empty], 1)
        y = F.conv2d(before, self.filters_0, self.bias, padding=1, groups=self.channels)
        y = y + F.conv2d(x, self.filters_1, padding=1, groups=self.channels)
        y = y + F.conv2d(after, self.filters_2, padding=1, groups=self.channels)  # channel c D + d
        return y.index_select(1, self.order)


class PlanarUnshuffle(nn.Module):
    """`F.pixel_unshuffle(x, 2)` as a convolution that copies each pixel of a block to a channel of its own.

    Args:
        channels: C of the input, (B, C, h, w).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("copies", torch.eye(4).view(4, 1, 2, 2).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.copies, stride=2, groups=self.channels)


class DisparityHead(nn.Module):
    """(B, in_channels, h, w) to a disparity (B, 1, h, w) in [0, 1], float32."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(x).float())


class PackEncoder(nn.Module):
    """Image to six features: the first at full size, then five packed ones that halve each time.

    Args:
        sizes: channels of the network.
        dropout: probability of dropping a channel of a residual shortcut, in training.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
    """

    def __init__(self, sizes: Sizes, dropout: float = 0.0, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        first, *widths = sizes.widths
        self.num_channels = list(sizes.widths)
        self.gradient_checkpointing = gradient_checkpointing
        self.pre_calc = NormalizedConv(3, first, 5)
        self.conv1 = NormalizedConv(first, widths[0], 7)
        for stage, count in zip((2, 3, 4, 5), RESIDUALS):
            before, width = widths[stage - 2], widths[stage - 1]
            blocks = [Residual(before if n == 0 else width, width, dropout) for n in range(count)]
            self.add_module(f"conv{stage}", nn.Sequential(*blocks))
        for stage, width in enumerate(widths, 1):
            self.add_module(f"pack{stage}", Pack(width, 5 if stage == 1 else 3, sizes.depth))
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] to features (B, C, H / 2**k, W / 2**k), k = 0 to 5.

        Raises:
            InputError: a height or width that is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            nearest = [max(32, 32 * round(size / 32)) for size in (height, width)]
            raise InputError(
                f"PackNet halves the image five times: height and width must be multiples of 32, got "
                f"{height} x {width}; try {nearest[0]} x {nearest[1]}"
            )
        features = [self._run(self.pre_calc, images)]
        for stage in range(1, 6):
            x = self._run(self.get_submodule(f"conv{stage}"), features[-1])
            features.append(self._run(self.get_submodule(f"pack{stage}"), x))
        return features

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        return run_checkpointed(part, x) if self.gradient_checkpointing and self.training else part(x)


class PackDecoder(nn.Module):
    """Six features to disparities: unpack, join skip connection and coarser inverse depth, convolve.

    In version B the unpacked map has the channels of the skip connection, so that both can be added. The
    published slim network fails there: its second level unpacks to 64 channels where the skip has 32.

    Args:
        sizes: channels of the network.
        version: `1A` concatenates skip connections, `1B` adds them.
        scales: resolution levels of the output, from 0 (the image size) to 3. Levels finer than the finest
            scale neither run nor train.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.

    Raises:
        InputError: an unknown version; scales that are missing, doubled or out of range.
    """

    def __init__(
        self,
        sizes: Sizes,
        version: str = "1A",
        scales: Sequence[int] = (0, 1, 2, 3),
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if version not in VERSIONS:
            raise InputError(f"there is no PackNet version '{version}'{nearest_name(version, VERSIONS)}")
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= {0, 1, 2, 3}:
            raise InputError(f"scales must be different numbers from 0 to 3, got {list(scales)}; try 0 1 2 3")
        self.scales = tuple(scales)
        self.adds = version.endswith("B")
        self.gradient_checkpointing = gradient_checkpointing
        channels = sizes.widths[-1]
        for level in LEVELS:
            skip, width = sizes.widths[level - 1], sizes.widths[level]
            unpacked = skip if self.adds else width
            joined = (skip if self.adds else width + skip) + (level <= 3)  # and the coarser inverse depth
            self.add_module(f"unpack{level}", Unpack(channels, unpacked, sizes.depth))
            self.add_module(f"iconv{level}", NormalizedConv(joined, width, 3))
            if level <= 4:
                self.add_module(f"disp{level}_layer", DisparityHead(width))
            channels = width
        initialise(self)
        for level in range(1, min(scales) + 1):
            for name in (f"unpack{level}", f"iconv{level}", f"disp{level}_layer"):
                self.get_submodule(name).requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Features of `PackEncoder` to scale → disparity (B, 1, H / 2**scale, W / 2**scale), float32."""
        x, inverse_depth, disparities = features[-1], None, {}
        for level in LEVELS[: 5 - min(self.scales)]:
            inputs = (level, x, features[level - 1], inverse_depth)
            if self.gradient_checkpointing and self.training:
                x, disparity = run_checkpointed(self._level, *inputs)
            else:
                x, disparity = self._level(*inputs)
            if disparity is not None:
                disparities[level - 1] = disparity.clamp(min=SMALLEST)
                inverse_depth = disparity / MIN_DEPTH
        return {scale: disparities[scale] for scale in self.scales}

    def _level(
        self, level: int, x: Tensor, skip: Tensor, inverse_depth: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The feature of the next finer level, and the disparity of that level if it has a head."""
        x = self.get_submodule(f"unpack{level}")(x)
        joined = [x + skip] if self.adds else [x, skip]
        if inverse_depth is not None:
            joined.append(F.interpolate(inverse_depth, scale_factor=2.0, mode="nearest").to(x.dtype))
        x = self.get_submodule(f"iconv{level}")(torch.cat(joined, 1))
        return x, self.get_submodule(f"disp{level}_layer")(x) if level <= 4 else None


def initialise(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases in every convolution, as published."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d)):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
