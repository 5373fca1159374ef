"""The intrinsics of a recording that nobody has calibrated: from EXIF, from its motion, else an assumption.

    EXIF      f = f35 * diagonal / 43.27, with the focal length f35 that a full frame of 36x24 mm would need
              f = f_mm * pixels per mm of the sensor, if the file gives these instead
    motion    the focal length that explains the matches between frames (matching/focal.py)
    60        degrees along the longer side

The first that is there is used. A phone crops its sensor for video and keeps no EXIF in it, so that a video
has the second. A guess is made once per process and recording.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import ExifTags, Image

from datasets.image_files import read_image
from intrinsics import GUESSED_ANGLE, Focal, centred, guess_intrinsics
from utils import InputError

FULL_FRAME = math.hypot(36, 24)  # millimetres, diagonal that the 35 mm equivalent refers to
LONGEST = 640  # pixels; images with a longer side are reduced to it for matching
UNIT = {2: 25.4, 3: 10.0}  # EXIF's unit of the sensor's resolution, millimetres
EXIF, MOTION, ASSUMED = "EXIF", "motion", f"{GUESSED_ANGLE:g} degrees"


class Guess(NamedTuple):
    """Guessed intrinsics.

    Attributes:
        K: (3, 3) pixels.
        source: `EXIF`, `MOTION` or `ASSUMED`.
        motion: the focal length from the motion; None if it does not determine one, or was not looked at.
    """

    K: np.ndarray
    source: str
    motion: Focal | None

    @property
    def sentence(self) -> str:
        """Origin of the numbers, in words."""
        return {
            EXIF: "from the focal length in their EXIF data",
            MOTION: "from the motion between the frames",
            ASSUMED: f"a camera that sees {GUESSED_ANGLE:g} degrees along the longer side, since there is no "
            "EXIF data and the motion does not determine the focal length; a wrong one distorts depth",
        }[self.source]


def guess_camera(
    folder: Path, frames: Sequence[str], runs: Sequence[range], size: tuple[int, int], motion: bool = False
) -> Guess:
    """The intrinsics of a scene's camera.

    Args:
        folder: the scene.
        frames: names of its images, in time.
        runs: ranges of `frames` without a gap.
        size: (height, width) of the images.
        motion: look at the motion even if there is EXIF data.
    """
    height, width = size
    focal = exif_focal(folder / frames[0], height, width)
    if focal is not None and not motion:
        return Guess(centred(focal, height, width), EXIF, None)
    found = _from_motion(folder, tuple(frames), tuple(runs))
    if focal is not None:
        return Guess(centred(focal, height, width), EXIF, found)
    if found is not None:
        return Guess(centred(found.share * width, height, width), MOTION, found)
    return Guess(guess_intrinsics(height, width), ASSUMED, None)


def exif_focal(path: Path, height: int, width: int) -> float | None:
    """The focal length in an image's EXIF data, pixels at (height, width); None if there is none."""
    try:
        with Image.open(path) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except (OSError, ValueError, SyntaxError):
        return None
    number = {name: _number(tags.get(name)) for name in ExifTags.Base}
    if (equivalent := number[ExifTags.Base.FocalLengthIn35mmFilm]) is not None:
        return equivalent * math.hypot(height, width) / FULL_FRAME
    millimetres, resolution = number[ExifTags.Base.FocalLength], number[ExifTags.Base.FocalPlaneXResolution]
    longer = number[ExifTags.Base.ExifImageWidth], number[ExifTags.Base.ExifImageHeight]
    unit = UNIT.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    if None in (millimetres, resolution, unit, *longer):
        return None
    # The resolution is that of the recorded image, which may have been made smaller.
    return millimetres * resolution / unit * max(height, width) / max(longer)


def _number(value: object) -> float | None:
    """A positive number of EXIF; 0 stands for unknown there."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None


@functools.lru_cache(maxsize=256)
def _from_motion(folder: Path, frames: tuple[str, ...], runs: tuple[range, ...]) -> Focal | None:
    """`matching.focal.recorded_focal` of a scene; None for frames that cannot be read."""
    from matching.focal import recorded_focal  # imports OpenCV

    def read(number: int) -> np.ndarray:
        image = read_image(folder / frames[number])
        height, width = image.shape[-2:]
        if (share := LONGEST / max(height, width)) < 1:
            small = round(height * share), round(width * share)
            image = F.interpolate(image[None], small, mode="bilinear", antialias=True)[0]
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy())

    try:
        return recorded_focal(read, runs)
    except InputError:
        return None
