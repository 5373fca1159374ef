"""Animated images: GIF, WebP, PNG and TIFF files of several frames are read as videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from datasets._pillow import ANIMATED, Unreadable, as_unreadable, open_image, opened, quiet
from datasets.image_files import as_rgb
from utils import InputError


def frames_in(path: Path) -> int:
    """Number of frames of an image file; 0 if it is not an image of a format that can hold several."""
    if path.suffix.lower() not in ANIMATED or not path.is_file():
        return 0
    try:
        with open_image(path) as image:
            return _count(image)
    except (OSError, InputError, Unreadable):
        return 0


def frame_duration(path: Path) -> float:
    """Mean duration of a frame, seconds; 0 if the file does not say, or is damaged before its first frame."""
    durations = []  # milliseconds
    try:
        with opened(path) as image:
            for number in range(_count(image)):
                image.seek(number)
                image.load()  # WebP tells a frame's duration only after decoding it
                durations.append(image.info.get("duration", 0))
    except (InputError, Unreadable):  # `animation_frames` says where
        pass
    return sum(durations) / len(durations) / 1000 if durations else 0.0


def animation_frames(path: Path, every: int = 1) -> Iterator[Tensor]:
    """Every n-th frame of an animated image, (3, h, w) uint8 RGB.

    Raises:
        InputError: the file is damaged; the sentence says after how many frames.
    """
    number = 0
    try:
        with open_image(path) as image:
            for number in range(_count(image)):
                frame = _frame(image, number)  # each is composed from those before it
                if number % every == 0:
                    yield frame
    except Unreadable as error:
        raise InputError(f"{path} is damaged after {number} frames: {error}") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None


def _count(image: Image.Image) -> int:
    """Number of frames, counted by a look at all of their headers."""
    with quiet(), as_unreadable():
        return getattr(image, "n_frames", 1)


def _frame(image: Image.Image, number: int) -> Tensor:
    """The frame that follows the one before it, as `as_rgb`."""
    with quiet(), as_unreadable():
        image.seek(number)
        return as_rgb(image.convert("RGB"))
