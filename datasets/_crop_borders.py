"""A window of each recorded image, cut out before the resize: PackNet-SfM's `crop_train_borders`.

    (y, height, x, width)   y, x: the first row and column; below 0 they count from the end
                            height, width: size of the window; 0 or less: to the image's end plus that number
                            y or x with a decimal point: the centre of the window, as a share of the image
    (y, x)                  that many rows and columns are cut off at the top and left, below 0 at the bottom
                            and right

(-352, 0, 0.5, 1216) is the lowest 352 rows and the middle 1216 columns, the published crop of KITTI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cameras import Camera
from datasets.exported_depth import SparseDepth
from utils import InputError


class Window(NamedTuple):
    """Rows and columns of an image that are kept: from (top, left), height x width pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor) -> Tensor:
        """The window of (..., h, w)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def intrinsics(self, K: np.ndarray) -> np.ndarray:
        """(3, 3) pixels of the window, from those of the image."""
        shifted = np.array(K, np.float64)
        shifted[0] -= self.left * shifted[2]
        shifted[1] -= self.top * shifted[2]
        return shifted

    def camera(self, camera: Camera, size: tuple[int, int]) -> Camera:
        """The N cameras of the window at another size (height, width), from those of the image."""
        scale = torch.tensor([[size[1] / self.width, size[0] / self.height]])
        corner = scale * torch.tensor([[self.left, self.top]])
        return camera.zoomed(scale, corner, size)

    def depth(self, depth: SparseDepth | np.ndarray) -> SparseDepth | np.ndarray:
        """The window of measured depth (N, h, w); every known point in it is kept."""
        if not isinstance(depth, SparseDepth):
            return self.cut(depth)
        lines, columns = np.divmod(depth.indices, depth.shape[2])
        maps, rows = np.divmod(lines, depth.shape[1])
        rows, columns = rows - self.top, columns - self.left
        kept = (rows >= 0) & (rows < self.height) & (columns >= 0) & (columns < self.width)
        indices = (maps[kept] * self.height + rows[kept]) * self.width + columns[kept]
        return SparseDepth((depth.shape[0], self.height, self.width), indices, depth.metres[kept])


class Cropped:
    """Mix-in of `SequenceDataset`: the part of its images and measured depth that `crop_borders` keeps.

    Attributes:
        crop_borders: borders, or None for whole images.
    """

    crop_borders: tuple[float, ...] | None

    def cut_intrinsics(
        self, sample: Any, camera: int, height: int, width: int
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """(3, 3) pixels of the part of an image that is kept, and height and width of that part."""
        K, window = self.intrinsics(sample, camera, height, width), self.window(height, width)
        return (window.intrinsics(K), (window.height, window.width)) if window else (K, (height, width))

    def window(self, height: int, width: int) -> Window | None:
        """The part of an image of this size that is kept; None for all of it."""
        return window_of(self.crop_borders, height, width) if self.crop_borders else None

    def uncropped(self, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """The entries; an error if there are some and the images are cropped."""
        if self.crop_borders and entries:
            raise InputError(
                f"--dataset.crop_borders does not crop {', '.join(entries)}; leave out the setting that "
                "reads it, or --dataset.crop_borders"
            )
        return entries

    def cut_depth(self, depth: Any, index: int) -> Any:
        """The part of measured depth (N, h, w) that the part of the image shows; None stays None.

        Raises:
            InputError: the depth of cropped images has another size than the images.
        """
        if depth is None or self.crop_borders is None:
            return depth
        image = self.recorded_size(self.samples[index])
        if tuple(image) != tuple(depth.shape[1:]):
            raise InputError(
                f"--dataset.crop_borders needs depth of the images' size, and {self.name(index)} has depth "
                f"of {depth.shape[2]}x{depth.shape[1]} for an image of {image[1]}x{image[0]}; leave it out"
            )
        return self.window(*image).depth(depth)


def check_borders(borders: Sequence[float] | None) -> tuple[float, ...] | None:
    """Borders as a tuple; None, also written as an empty list, crops nothing.

    Raises:
        InputError: not two or four numbers.
    """
    if borders is None or not len(borders):
        return None
    whole = [isinstance(number, int) for number in borders]
    shares = [isinstance(number, float) for number in borders]
    if len(borders) == 2 and all(whole):
        return tuple(borders)
    if len(borders) == 4 and whole[1] and whole[3] and (whole[0] or shares[0]) and (whole[2] or shares[2]):
        return tuple(borders)
    raise InputError(
        "--dataset.crop_borders is (y, height, x, width) in whole pixels, y and x also as a share of the "
        f"image, or (y, x) in whole pixels; got {list(borders)}; try '[-352, 0, 0.5, 1216]'"
    )


def window_of(borders: Sequence[float], height: int, width: int) -> Window:
    """The window of an image of height x width.

    Raises:
        InputError: it does not lie in the image.
    """
    if len(borders) == 2:
        (top, bottom), (left, right) = (
            (max(cut, 0), size + min(cut, 0)) for cut, size in zip(borders, (height, width))
        )
    else:
        top, bottom = _span(borders[0], borders[1], height)
        left, right = _span(borders[2], borders[3], width)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise InputError(
            f"--dataset.crop_borders {list(borders)} gives rows {top} to {bottom} and columns {left} to "
            f"{right}, and an image has {height} rows and {width} columns; choose a smaller window"
        )
    return Window(top, left, bottom - top, right - left)


def size_of(borders: Sequence[float]) -> tuple[int, int] | None:
    """Height and width of the window if they are the same for every image; otherwise None."""
    if len(borders) != 4:
        return None
    sizes = [_fixed(*borders[:2]), _fixed(*borders[2:])]
    return None if None in sizes else (sizes[0], sizes[1])


def _span(start: float, size: int, whole: int) -> tuple[int, int]:
    """First and last (exclusive) row or column."""
    if isinstance(start, float):
        start = int(start * whole - size / 2)
    elif start < 0:
        start += whole
    return start, start + size if size > 0 else whole + size


def _fixed(start: float, size: int) -> int | None:
    if size > 0:
        return size
    return int(size - start) if start < 0 and isinstance(start, int) else None
