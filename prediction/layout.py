"""One frame of a depth video: its panels arranged, depth in colours whose range changes slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datasets._labels import LabelTable
from datasets.resizing import resize_image
from images import colourise
from prediction.labels import label_map, overlay
from prediction.streaming import SequenceFrame
from predictor import enlarge

COLOURS = "magma"
WIDE = 2.0  # width / height of an image from which panels are stacked vertically


class SteadyRange:
    """The range of inverse depth that the colours span, smoothed over time.

    It follows the 1st to 95th percentile of each frame, so that a car that drives by does not change the
    colours of the street.

    Args:
        inertia: weight of the earlier range; 0.95 means about a second at 20 frames per second.
    """

    def __init__(self, inertia: float = 0.95) -> None:
        self.inertia = inertia
        self.range: np.ndarray | None = None

    def update(self, values: Tensor) -> tuple[float, float]:
        """The range for a frame with the values (h, w)."""
        new = np.percentile(values.cpu().numpy(), [1, 95])
        if self.range is not None:
            new = self.inertia * self.range + (1 - self.inertia) * new
        self.range = new
        return float(new[0]), float(new[1])


@dataclass(frozen=True)
class Layout:
    """How a frame of the video is composed.

    Attributes:
        height, width: size of each panel; even, as video codecs require.
        axis: 0 stacks the panels vertically, 1 horizontally.
        panels: some of `prediction.PANELS`, in their order in the frame.
        table: classes of the panels `labels` and `overlay`; None without them.
    """

    height: int
    width: int
    axis: int
    panels: tuple[str, ...]
    table: LabelTable | None = None

    def draw(
        self, image: Tensor, inverse_depth: Tensor, colours: SteadyRange, logits: Tensor | None = None
    ) -> np.ndarray:
        """A frame of the video, uint8 RGB.

        Args:
            image: (3, h, w) uint8.
            inverse_depth: (1, H, W).
            colours: the range of the colours so far.
            logits: (classes, H, W), for labels.
        """
        drawn = {}
        if "depth" in self.panels:
            values = enlarge(inverse_depth[None], self.height, self.width)[0, 0]
            drawn["depth"] = colourise(values, *colours.update(values), COLOURS)
        if {"image", "overlay"} & set(self.panels):
            drawn["image"] = resize_image(image, self.height, self.width).permute(1, 2, 0).numpy()
        if self.table is not None:
            drawn["labels"] = self.table.colourise(label_map(logits, self.table, self.height, self.width))
        if "overlay" in self.panels:
            drawn["overlay"] = overlay(drawn["image"], drawn["labels"])
        return np.concatenate([drawn[panel] for panel in self.panels], self.axis)


def arrange(
    image: Tensor,
    output_width: int | None,
    network_width: int | None,
    panels: Sequence[str] = ("image", "depth"),
    table: LabelTable | None = None,
) -> Layout:
    """The layout for images of this size.

    Args:
        image: (3, h, w).
        output_width: width of the video, pixels; None for panels as wide as the network's input.
        network_width: width of the network's input, pixels; None for panels of the image's own size.
        panels: some of `prediction.PANELS`.
        table: classes of the labels, if panels show them.
    """
    height, width = image.shape[-2:]
    axis = 0 if width >= WIDE * height else 1
    shown = output_width // (len(panels) if axis == 1 else 1) if output_width else network_width or width
    return Layout(_even(shown * height / width), _even(shown), axis, tuple(panels), table)


class FrameDrawer:
    """Draws the frames of one sequence, with the layout of its first frame and one range of colours.

    Args:
        output_width, network_width, panels, table: same as for `arrange`.
    """

    def __init__(
        self,
        output_width: int | None,
        network_width: int | None,
        panels: Sequence[str],
        table: LabelTable | None,
    ) -> None:
        self.settings = output_width, network_width, panels, table
        self.layout: Layout | None = None
        self.colours = SteadyRange()

    def __call__(self, frame: SequenceFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        self.layout = self.layout or arrange(frame.image, *self.settings)
        return self.layout.draw(frame.image, frame.inverse_depth, self.colours, frame.logits)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))
