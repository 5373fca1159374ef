"""Random rescale and crop: a labelled image is shown at a random size, and a random window of it is kept.

    size  = floor(size / r),  r uniform in [1, shrink];        window = height x width, uniformly placed

SGDepth trains segmentation this way, on 192 x 640 windows of Cityscapes images of 512 x 1024 with shrink 1.5
(Klingner et al., ECCV 2020, section 4). Draws are a function of (seed, epoch, sample), as in
datasets/augmentation.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from devices import constants
from structures import Batch
from utils import InputError

STREAM = 15485863  # added to the seed, so that crops do not follow the draws of the colour jitter


@dataclass(frozen=True)
class Window:
    """Size of the rescaled image, and top left corner of the crop in it, pixels."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class RandomCrop:
    """Rescale and crop every sample of a Batch to one size.

    Args:
        height, width: size of the window, pixels.
        shrink: the image is made up to this many times smaller; 1 leaves its size.
        seed: seed of the random windows.

    Raises:
        InputError: a size below 1, or a shrink below 1.
    """

    height: int
    width: int
    shrink: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise InputError(f"a crop has a height and a width, got {self.height} and {self.width}")
        if self.shrink < 1:
            raise InputError(f"shrink is at least 1, got {self.shrink}; try 1.5")

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The cropped Batch, drawn for this epoch; images may be uint8 or float.

        Raises:
            InputError: images that may become smaller than the window.
        """
        size = tuple(batch.images[0].shape[-2:])
        windows = [self.window(size, self._draw(epoch, index)) for index in batch.index.tolist()]
        windows = [window for window in windows for _ in range(batch.cameras)]
        return crop(batch, windows, self.height, self.width)

    def window(self, size: tuple[int, int], draw: Sequence[float]) -> Window:
        """The window of an image of (height, width) for three numbers in [0, 1): r, row, column."""
        least = [int(side / self.shrink) for side in size]
        if least[0] < self.height or least[1] < self.width:
            raise InputError(
                f"a crop of {self.width}x{self.height} does not fit images of {size[1]}x{size[0]} made "
                f"{self.shrink:g} times smaller ({least[1]}x{least[0]}); load them larger, or lower shrink"
            )
        ratio = 1 + draw[0] * (self.shrink - 1)
        height, width = (int(side / ratio) for side in size)
        top = int(draw[1] * (height - self.height + 1))
        left = int(draw[2] * (width - self.width + 1))
        return Window(height, width, top, left)

    def _draw(self, epoch: int, index: int) -> Sequence[float]:
        return np.random.default_rng([self.seed + STREAM, epoch, index]).random(3).tolist()


def crop(batch: Batch, windows: Sequence[Window], height: int, width: int) -> Batch:
    """Each image of a Batch rescaled and cropped by its own window: images, maps, points and intrinsics.

    Args:
        batch: B·N images.
        windows: one for each.
        height, width: size of the result, pixels.

    Returns:
        Images bilinear (antialiased), maps by the nearest pixel; points outside the window have depth 0.
    """

    def images(values: Tensor) -> Tensor:
        float_values = values if values.is_floating_point() else values.float()
        parts = [
            F.interpolate(
                image[None], (w.height, w.width), mode="bilinear", antialias=True, align_corners=False
            )[..., w.top : w.top + height, w.left : w.left + width]
            for image, w in zip(float_values, windows)
        ]
        result = torch.cat(parts)
        return result if values.is_floating_point() else result.round().to(values.dtype)

    def maps(values: Tensor) -> Tensor:
        parts = [
            _nearest(image, w)[:, w.top : w.top + height, w.left : w.left + width]
            for image, w in zip(values, windows)
        ]
        return torch.stack(parts)

    old_height, old_width = batch.images[0].shape[-2:]
    scale = [(w.width / old_width, w.height / old_height) for w in windows]
    shift = [((x - 1) / 2 - w.left, (y - 1) / 2 - w.top) for (x, y), w in zip(scale, windows)]
    scale, shift = (constants(values, like=batch.intrinsics) for values in (scale, shift))
    corner = constants([(w.left, w.top) for w in windows], like=batch.intrinsics)
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, :2] *= scale[:, :, None]
    intrinsics[:, :2, 2] += shift

    def points(values: Tensor) -> Tensor:
        xy = values[..., :2] * scale[:, None] + shift[:, None]
        inside = (xy >= 0).all(-1) & (xy[..., 0] <= width - 1) & (xy[..., 1] <= height - 1)
        return torch.cat([xy, values[..., 2:] * inside[..., None]], -1)

    return dataclasses.replace(
        batch,
        images={frame: images(image) for frame, image in batch.images.items()},
        augmented=None
        if batch.augmented is None
        else {frame: images(image) for frame, image in batch.augmented.items()},
        intrinsics=intrinsics,
        camera=None if batch.camera is None else batch.camera.zoomed(scale, corner, (height, width)),
        maps={name: maps(values) for name, values in batch.maps.items()},
        points={name: points(values) for name, values in batch.points.items()},
    )


def _nearest(values: Tensor, window: Window) -> Tensor:
    """(C, h, w) of any type at the window's full size, by the nearest pixel centre."""

    def places(new: int, old: int) -> Tensor:
        centres = (torch.arange(new, device=values.device) + 0.5) * (old / new)
        return centres.long().clamp(max=old - 1)

    rows, columns = places(window.height, values.shape[-2]), places(window.width, values.shape[-1])
    return values[:, rows][:, :, columns]
