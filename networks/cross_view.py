"""Cross-view attention: the features of every camera attend to those of all cameras before depth is decoded.

    tokens = down(features of all N cameras),   X <- X + Attention(LN(X), position),   X <- X + MLP(LN(X))
    features <- features + up(X)

Each level is reduced to the size of the coarsest one, so that a token attends to all tokens of all cameras,
and enlarged again (Wei et al., SurroundDepth, CoRL 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError

LONGEST = 128  # rows and columns of tokens of a graph that is exported for any size, 32 pixels each
# Reduction of a level → kernel, dilation and output_padding of the transposed convolution that enlarges it
# again, r times. Most of its output pixels hold only the bias: the weights have the published shape.
_UP = {16: (3, 7, 1), 8: (3, 3, 1), 4: (3, 1, 1), 2: (1, 1, 1), 1: (1, 1, 0)}


@NETWORKS.register
class CrossView(nn.Module):
    """A depth decoder that reads its features after attention over all cameras, level by level.

    Keys: `cross.<level>.`, and the decoder's own keys under `decoder.`.

    Args:
        decoder: turns the features into maps, such as a `depth_decoder`. Levels finer than its
            `finest_feature` are kept so that published weights fit, but neither run nor trained.
        num_channels: channels of the features, finest first. A feature of 0 channels is left unchanged.
        cameras: N, the cameras of a frame set; all attend to each other.
        blocks: attention blocks at each level.
        heads: heads of each attention; must divide the channels of every level.
        skip: add the output of attention to the features instead of replacing them. Attention then starts
            from zero; in the published code it starts from noise.

    Raises:
        InputError: channels that the heads do not divide, a number below 1, not five features.
    """

    def __init__(
        self,
        decoder: nn.Module,
        num_channels: Sequence[int],
        cameras: int = 6,
        blocks: int = 8,
        heads: int = 8,
        skip: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("cameras", cameras), ("blocks", blocks), ("heads", heads)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if len(num_channels) != len(_UP):
            raise InputError(
                f"cross-view attention takes 5 features, those under a depth_decoder, got {len(num_channels)}"
            )
        for channels in num_channels:
            # Half of the channels encode a token's row, half its column.
            if channels % heads or channels % 2:
                fitting = max(n for n in range(1, heads + 1) if not any(c % n for c in num_channels))
                raise InputError(
                    f"{heads} heads do not divide the {channels} channels of a feature; try heads {fitting}"
                )
        self.cameras, self.skip = cameras, skip
        self.decoder = decoder
        levels = zip(num_channels, _UP)
        self.cross = nn.ModuleList(
            CrossViewLevel(channels, reduction, blocks, heads) if channels else nn.Identity()
            for channels, reduction in levels
        )
        if skip:
            # Attention starts from zero, so that pretrained features are not drowned in noise.
            for level in self.cross:
                if isinstance(level, CrossViewLevel):
                    nn.init.zeros_(level.up.pointwise.weight)
        self.finest_feature = getattr(decoder, "finest_feature", 0)
        self.cross[: self.finest_feature].requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Five features (B·N, C, H / 2 ** (k + 1), W / 2 ** (k + 1)), camera fastest, to the decoder's maps.

        Raises:
            InputError: a number of images that is not a multiple of N, or a size that does not reduce evenly.
        """
        return self.decoder(self.attend(features))

    def logits(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """The output of `forward` before the decoder's sigmoid."""
        return self.decoder.logits(self.attend(features))

    def attend(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The features after attention, same shapes; those that the decoder does not read are unchanged."""
        if features[-1].shape[0] % self.cameras:
            raise InputError(
                f"{features[-1].shape[0]} images are not whole frame sets of {self.cameras} cameras; give "
                "all cameras of a frame set together, in ring order, or set cameras (--method.cameras)"
            )
        attended = []
        for number, (level, feature) in enumerate(zip(self.cross, features)):
            if number < self.finest_feature or not feature.shape[1]:
                attended.append(feature)
                continue
            output = level(feature, self.cameras)
            attended.append(feature + output if self.skip else output)
        return attended


class CrossViewLevel(nn.Module):
    """Attention over all cameras at one level: (B·N, C, H, W) to the same shape.

    Args:
        channels: C.
        reduction: r, 1 to 16: attention runs at H / r x W / r.
        blocks, heads: see `CrossView`.
    """

    def __init__(self, channels: int, reduction: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.down = _Down(channels, reduction)
        self.blocks = nn.ModuleList(_Block(channels, heads) for _ in range(blocks))
        self.up = _Up(channels, reduction)

    def forward(self, x: Tensor, cameras: int) -> Tensor:
        """Attention over all cameras: (B·N, C, H, W), N = `cameras`, camera fastest, to the same shape.

        Raises:
            InputError: H or W that r does not divide.
        """
        images, channels, height, width = x.shape
        samples = images // cameras
        if height % self.reduction or width % self.reduction:
            raise InputError(
                f"a feature of {height} x {width} pixels cannot be reduced {self.reduction} times; the "
                "image's height and width must be multiples of 32"
            )
        views = self.down(x)
        h, w = views.shape[-2:]
        code = position_code(channels, h, w, views.device).repeat(cameras, 1)  # (N·hw, C)
        for block in self.blocks:
            tokens = views.reshape(images, channels, h * w).transpose(1, 2)
            tokens = block(tokens.reshape(samples, cameras * h * w, channels), code)
            # A camera's tokens are stored as (hw, C) and read as (C, hw) without a transpose, which shuffles
            # channels and pixels after every block. The published weights were trained with this and need it.
            views = tokens.reshape(images, channels, h, w)
        return self.up(views)


def position_code(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Position codes of the tokens, (height·width, channels): half the channels for row, half for column.

    Channel j of n holds sin (j even) or cos (j odd) of  i / 10000 ** (2 (j // 2) / n),  i the row or column
    counted from 1.
    """
    n, kind = channels // 2, {"dtype": torch.float64, "device": device}
    j = torch.arange(n, **kind)
    wavelength = 10000 ** (2 * (j // 2) / n)

    def of(count: int) -> Tensor:
        if not isinstance(count, int):  # an exported graph of any size slices a table
            return torch.from_numpy(_code_table(n)).to(device)[:count]
        angle = torch.arange(1, count + 1, **kind)[:, None] / wavelength
        return torch.where(j % 2 == 0, angle.sin(), angle.cos()).float()

    rows = of(height)[:, None].expand(height, width, n)
    columns = of(width)[None].expand(height, width, n)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def _code_table(n: int) -> np.ndarray:
    """The codes of LONGEST rows or columns, (LONGEST, n) float32, see `position_code`."""
    j = np.arange(n)
    angle = np.arange(1, LONGEST + 1)[:, None] / 10000 ** (2 * (j // 2) / n)
    return np.where(j % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)


class _Down(nn.Module):
    """Every r-th pixel, weighted, then a mix over channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, reduction, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class _Up(nn.Module):
    """Depthwise transposed convolution that enlarges by r, then a 1 x 1 convolution."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        kernel, dilation, more = _UP[reduction]
        self.conv1 = nn.ConvTranspose2d(
            channels, channels, kernel, reduction, 0, more, groups=channels, dilation=dilation
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class _Block(nn.Module):
    """Transformer block: attention and a perceptron, each with layer norm before it and a skip connection.

    Shape (B, T, C) in and out."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = _Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _Perceptron(channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), code)
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    """Multi-head attention. The position code is added to queries and keys, not to values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(channels, channels, bias=False)
        self.k_linear = nn.Linear(channels, channels, bias=False)
        self.v_linear = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        coded = x + code.to(x.dtype)
        inputs = ((self.q_linear, coded), (self.k_linear, coded), (self.v_linear, x))
        q, k, v = (linear(of).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear, of in inputs)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Perceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
