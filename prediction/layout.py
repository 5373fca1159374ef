"""One frame of a depth video: image and depth arranged, in colours whose range changes slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datasets.resizing import resize_image
from images import colourise
from predictor import enlarge

COLOURS = "magma"
WIDE = 2.0  # width / height from which image and depth are stacked vertically


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
        height, width: size of the image and of its depth, each; even, as video codecs require.
        axis: 0 stacks image and depth vertically, 1 horizontally; None shows only depth.
    """

    height: int
    width: int
    axis: int | None

    def draw(self, image: Tensor, inverse_depth: Tensor, colours: SteadyRange) -> np.ndarray:
        """A frame of the video, uint8 RGB, from an image (3, h, w) uint8 and inverse depth (1, H, W)."""
        values = enlarge(inverse_depth[None], self.height, self.width)[0, 0]
        depth = colourise(values, *colours.update(values), COLOURS)
        if self.axis is None:
            return depth
        shown = resize_image(image, self.height, self.width).permute(1, 2, 0).numpy()
        return np.concatenate([shown, depth], self.axis)


def arrange(image: Tensor, output_width: int | None, network_width: int, depth_only: bool) -> Layout:
    """The layout for images of this size.

    Args:
        image: (3, h, w).
        output_width: width of the video, pixels; None for images as wide as the network's input.
        network_width: width of the network's input, pixels.
        depth_only: leave out the image.
    """
    height, width = image.shape[-2:]
    axis = None if depth_only else 0 if width >= WIDE * height else 1
    shown = output_width // (2 if axis == 1 else 1) if output_width else network_width
    return Layout(_even(shown * height / width), _even(shown), axis)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))
