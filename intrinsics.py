"""Intrinsics as users give them: numbers read from text, checked against an image size, guessed.

    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],   in pixels of the image as it is on disk

The rules here are the only ones; the folder dataset, prediction and the doctor share them. The last resort of
a guess (datasets/_guessed_camera.py) is 60 degrees along the longer side of the image: a lens has one angle,
and turning the camera from landscape to portrait does not change its focal length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils import InputError

FILES = ("cam.txt", "intrinsics.txt")  # file names in which a folder's intrinsics are looked for
CAMERA_FILE = "camera.yaml"  # the same for a lens with distortion (cameras/_files.py)
GUESS = "guess"  # in place of the numbers: from EXIF, from the motion, else `guess_intrinsics`
LEARN = "learn"  # in place of the numbers: parameters of the training that begin at a guess
GUESSED_ANGLE = 60.0  # degrees along the longer side, of an ordinary camera
FOCAL_RANGE = 0.25, 4.0  # fx as a share of the width, 127 to 14 degrees: others are mistakes of units or size


class Focal(NamedTuple):
    """A focal length that the motion of a recording determines.

    Attributes:
        share: focal length over the width of the image.
        error: relative standard error.
    """

    share: float
    error: float


def upwards(folder: Path, root: Path) -> list[Path]:
    """The folders in which files of a scene are looked for: its own, then those above it up to the root."""
    above = [folder, *folder.parents]
    return above[: above.index(root) + 1] if root in above else [folder, root]


def nearest_file(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The first file of these names in the first folder that has one; None if there is none."""
    paths = (folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def parse_intrinsics(numbers: str | float | Iterable[Any], source: str) -> np.ndarray:
    """(3, 3) from `fx fy cx cy`, 3x3 or 3x4 numbers, as text or as a (nested) list.

    Args:
        numbers: text with blanks, commas or new lines between the numbers, or a list.
        source: the file or option that holds the numbers, for errors.

    Raises:
        InputError: not numbers, another count, not a camera matrix, or not finite.
    """
    try:
        text = numbers if isinstance(numbers, str) else " ".join(map(str, np.ravel(np.array(numbers))))
        text = re.sub(r"#.*", "", text)
        values = np.array([float(word) for word in re.split(r"[\s,;\[\]()]+", text) if word])
    except ValueError as error:
        raise InputError(f"{source}: intrinsics are the numbers fx fy cx cy, in pixels ({error})") from None
    if values.size == 4:
        fx, fy, cx, cy = values
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    elif values.size in (9, 12):
        K = values.reshape(3, -1)[:, :3]
    else:
        raise InputError(
            f"{source}: expected 4 (fx fy cx cy), 9 (3x3) or 12 (3x4) numbers, got {values.size}"
        )
    if not np.isfinite(K).all():
        raise InputError(f"{source}: intrinsics are finite numbers, got {text.strip()}")
    if not np.array_equal(K[2], [0, 0, 1]):
        transposed = "; is it transposed?" if np.array_equal(K[:, 2], [0, 0, 1]) else ""
        raise InputError(f"{source}: the matrix must end in 0 0 1, got {K[2].tolist()}{transposed}")
    if min(K[0, 0], K[1, 1]) <= 0:
        raise InputError(f"{source}: fx and fy must be positive, got {K[0, 0]:g} and {K[1, 1]:g}")
    if K[1, 0] or abs(K[0, 1]) > K[0, 0] / 10:
        raise InputError(
            f"{source}: the first two rows must be fx s cx and 0 fy cy with a skew s of at most fx / 10, got "
            f"{K[0].tolist()} and {K[1].tolist()}"
        )
    return K


def check_intrinsics(K: np.ndarray, source: str, height: int, width: int) -> np.ndarray:
    """Refuse intrinsics that cannot belong to an image of this size.

    Args:
        K: (3, 3) pixels.
        source: the file or option that holds K, for errors.
        height, width: size of the image, pixels.

    Returns:
        K.

    Raises:
        InputError: the first problem that `diagnose` finds.
    """
    problems = [text for level, text in diagnose(K, height, width) if level == "problem"]
    if problems:
        raise InputError(f"{source}: {problems[0]}")
    return K


def diagnose(K: np.ndarray, height: int, width: int) -> list[tuple[str, str]]:
    """Problems of intrinsics K for an image of this size.

    Returns:
        (level, sentence) pairs. Level `problem`: K cannot be right. `warning`, `note`: K is unusual.
    """
    (fx, fy), (cx, cy) = (K[0, 0], K[1, 1]), K[:2, 2]
    given = f"fx {fx:.4g}, fy {fy:.4g}, cx {cx:.4g}, cy {cy:.4g} for {width}x{height} images"
    if max(cx, cy) < 2 and width > 8:
        pixels = f"{fx * width:.6g} {fy * height:.6g} {cx * width:.6g} {cy * height:.6g}"
        return [("problem", f"{given} look normalised; in pixels they are '{pixels}'")]
    ratio_x, ratio_y = cx / (width / 2), cy / (height / 2)  # 1 in the middle
    away = max(abs(ratio_x - 1), abs(ratio_y - 1))
    swapped = max(abs(cx / (height / 2) - 1), abs(cy / (width / 2) - 1))
    centre = f"({width / 2:g}, {height / 2:g})"
    if away > 0.3 and swapped < 0.15:
        return [("problem", f"{given}: width and height are swapped, the middle is {centre}")]
    factor = (ratio_x + ratio_y) / 2
    if abs(factor - 1) > 0.2 and abs(ratio_x / ratio_y - 1) < 0.15:
        pixels = " ".join(f"{value / factor:.6g}" for value in (fx, fy, cx, cy))
        other = f"{2 * cx:.0f}x{2 * cy:.0f}"
        return [("problem", f"{given} belong to an image of {other}; for this size they are '{pixels}'")]
    found = []
    if not (0 < cx < width and 0 < cy < height):
        found.append(("problem", f"{given}: the principal point lies outside of the image"))
    elif away > 0.3:
        level = "problem" if away > 0.9 else "note"
        text = f"{given}: the principal point is far from the middle {centre}, as after cropping"
        found.append((level, text))
    if not FOCAL_RANGE[0] < fx / width < FOCAL_RANGE[1]:
        unit = "; is it in millimetres?" if fx < 60 else ""
        example = suggestion(height, width)
        text = f"{given}: fx means a view {angle_of_view(fx, width):.0f} degrees wide{unit}"
        found.append(("problem", f"{text}; usual are 25 to 110, such as '{example}'"))
    if not 0.8 < fx / fy < 1.25:
        text = (
            f"{given}: fx and fy differ by a factor of {max(fx / fy, fy / fx):.2f}, so pixels would not be "
            "square; were the images stretched, or are the intrinsics of another aspect ratio?"
        )
        found.append(("warning", text))
    return found


def angle_of_view(focal: float, length: float) -> float:
    """Degrees that a side of `length` pixels covers at a focal length of `focal` pixels."""
    return 2 * math.degrees(math.atan(length / 2 / focal))


def guess_intrinsics(height: int, width: int) -> np.ndarray:
    """(3, 3) pixels of an ordinary camera: GUESSED_ANGLE along the longer side, centred, square pixels."""
    return centred(max(height, width) / 2 / math.tan(math.radians(GUESSED_ANGLE / 2)), height, width)


def centred(focal: float, height: int, width: int) -> np.ndarray:
    """(3, 3) intrinsics with square pixels and the principal point in the middle of the image."""
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def suggestion(height: int, width: int) -> str:
    """`guess_intrinsics` as text to type, with a whole focal length."""
    K = guess_intrinsics(height, width)
    K[[0, 1], [0, 1]] = round(K[0, 0])
    return as_text(K)


def as_text(K: np.ndarray) -> str:
    """`fx fy cx cy`, as cam.txt and --intrinsics take it."""
    return " ".join(f"{value:.6g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
