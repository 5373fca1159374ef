"""Grid decoder: six rows, one for each feature, and three columns; each row adds to the finer one.

    x = feature[row];   in each column:   x = lateral(x) + up(x of the coarser row in this column)
    disparity[row] = sigmoid(conv(x after the last column))

Row 0 has the image's own size, so that fine structures are not predicted at half size and then enlarged
(Liu et al., Towards better data exploitation in self-supervised monocular depth estimation, RA-L 2024; the
grid is GridNet's, Fourure et al., BMVC 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks import NETWORKS
from networks._blocks import ReflectedConv, check_sizes
from utils import InputError

ROWS, COLUMNS = 6, 3
FINEST_WIDTH = 16  # channels of row 0; the other rows have half the channels of their feature
EMPTY_WIDTH = 32  # channels of a row whose feature has none


@NETWORKS.register
class GridDecoder(nn.Module):
    """Grid decoder over a context and the five features of an encoder.

    Keys are the published ones: for each row from the finest on, lateral and up of every column in turn, then
    the output convolution if the row is one of `scales`.

    Args:
        num_channels: channels of the six features, finest first. A row whose feature has 0 channels starts
            from the output of the coarser row.
        scales: rows with an output map, from 0 (the input's size) to 4. Rows finer than the finest scale are
            kept so that published weights fit, but neither run nor trained.
        num_outputs: channels of each map: 1 for disparity, the number of sources for a predictive mask.

    Raises:
        InputError: not six features, or scales that are missing, doubled or out of range.
    """

    joins_context = True  # a method builds its encoder with a context

    def __init__(
        self, num_channels: Sequence[int], scales: Sequence[int] = (0,), num_outputs: int = 1
    ) -> None:
        super().__init__()
        if len(num_channels) != ROWS:
            raise InputError(
                f"the grid decoder joins {ROWS} features, the first of the image's own size, got "
                f"{len(num_channels)}"
            )
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(range(ROWS - 1)):
            raise InputError(f"scales must be different numbers from 0 to 4, got {list(scales)}; try 0")
        if num_outputs < 1:
            raise InputError(f"num_outputs must be at least 1, got {num_outputs}")
        self.scales = tuple(scales)
        widths = [FINEST_WIDTH, *(channels // 2 or EMPTY_WIDTH for channels in num_channels[1:])]

        blocks: list[nn.Module] = []
        self._index: dict[tuple[str, int, int], int] = {}

        def add(kind: str, row: int, column: int, block: nn.Module) -> None:
            self._index[kind, row, column] = len(blocks)
            blocks.append(block.requires_grad_(row >= min(scales)))

        for row, width in enumerate(widths):
            for column in range(COLUMNS):
                add("lateral", row, column, _lateral(width if column else num_channels[row], width))
                if row < ROWS - 1:
                    add("up", row, column, _up(widths[row + 1], width))
            if row in scales:
                add("output", row, 0, ReflectedConv(width, num_outputs))
        self.decoder = nn.ModuleList(blocks)
        self.apply(_initialise)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Six features (B, C, H / 2 ** k, W / 2 ** k), k = 0 to 5, to the maps.

        Returns:
            scale → (B, num_outputs, H / 2 ** scale, W / 2 ** scale) in (0, 1), float32.

        Raises:
            InputError: features of an image whose height or width is below 64 or not a multiple of 32.
        """
        return {scale: torch.sigmoid(logit.float()) for scale, logit in self.logits(features).items()}

    def logits(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """The output of `forward` before the sigmoid."""
        check_sizes(features)
        logits: dict[int, Tensor] = {}
        sent_up: list[Tensor] = []  # outputs of the coarser row, one per column
        for row in reversed(range(min(self.scales), ROWS)):
            x, received, sent_up = features[row], sent_up, []
            for column in range(COLUMNS):
                if not x.shape[1]:  # a feature without channels
                    x = received[column]
                else:
                    x = self._block("lateral", row, column)(x)
                    x = x + received[column] if received else x
                if row > min(self.scales):
                    sent_up.append(self._block("up", row - 1, column)(x))
            if row in self.scales:
                logits[row] = self._block("output", row)(x)
        return {scale: logits[scale] for scale in self.scales}

    def _block(self, kind: str, row: int, column: int = 0) -> nn.Module:
        return self.decoder[self._index[kind, row, column]]


def _lateral(in_channels: int, width: int) -> nn.Module:
    if not in_channels:
        return nn.Identity()
    first, second = nn.Conv2d(in_channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(nn.PReLU(), first, nn.PReLU(), second)


def _up(in_channels: int, width: int) -> nn.Module:
    twice = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(twice, nn.PReLU(), nn.Conv2d(in_channels, width, 3, padding=1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # Truncated at four standard deviations. The published bounds of a hundred allow an outlier of -2.
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.08, b=0.08)
        nn.init.zeros_(module.bias)
