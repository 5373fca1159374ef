"""Near-duplicate images under other names, by perceptual hash: resized and recompressed copies are found.

    hash(I) = sign(D - median(D)),  D the lowest 16 x 16 frequencies of the DCT of the image, grey, 64 x 64
    near-duplicates: at most `DISTANCE` of the 256 bits differ      (Zauner 2010, section 3.2.1)

The hashes come from the package ImageHash: `pip install ImageHash`, or the extra `audit` of setup.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.frame_lists import FrameList
from datasets.frame_names import ALL, Frame
from utils import InputError
from workers import run_tasks

SIZE = 16  # the hash has SIZE x SIZE bits
DISTANCE = 24  # bits
KITTI_CAMERAS = {"l": "image_02", "r": "image_03"}


class Pair(NamedTuple):
    """Two images that look alike: a training image, a test image, and the number of differing bits."""

    train: str
    test: str
    distance: int


def image_files(frames: FrameList, data_path: str | Path | None) -> list[str]:
    """The image of each frame, each once.

    Args:
        frames: frames of a folder, of lists with paths, or of KITTI raw.
        data_path: root of the paths; None for absolute paths.

    Raises:
        InputError: a frame has no image there; the sentence names it.
    """
    root = Path(data_path) if data_path is not None else Path()
    files = []
    for frame, file in zip(frames.frames, frames.files or [None] * len(frames)):
        found = root / file if file else _kitti_image(root, frame)
        if found is None or not found.is_file():
            where = "" if data_path is not None else "; give the root of the images with --data_path"
            raise InputError(f"{frames.source}: no image of '{frame}' at {found or root}{where}")
        files.append(str(found))
    return list(dict.fromkeys(files))


def _kitti_image(root: Path, frame: Frame) -> Path | None:
    """Path of an image of KITTI raw; None for a frame of another dataset."""
    if "_drive_" not in frame.scene or frame.number == ALL:
        return None
    camera = KITTI_CAMERAS.get(frame.camera, "image_02")
    stem = f"{frame.scene[:10]}/{frame.scene}_sync/{camera}/data/{frame.number:010d}"
    return next((path for end in (".jpg", ".png") if (path := root / f"{stem}{end}").is_file()), root / stem)


def hash_images(files: Sequence[str], workers: int = 1) -> dict[str, np.ndarray]:
    """File -> its hash as (SIZE x SIZE / 8,) uint8.

    Args:
        files: images.
        workers: processes that read them.

    Raises:
        InputError: an image cannot be read, or the package ImageHash is missing.
    """
    try:
        import imagehash  # noqa: F401
    except ImportError:
        raise InputError("--images needs the package ImageHash: pip install ImageHash") from None
    return dict(zip(files, run_tasks(functools.partial(perceptual_hash, size=SIZE), files, workers)))


def perceptual_hash(file: str, size: int) -> np.ndarray:
    """(size x size / 8,) uint8 of one image, upright as its EXIF entry says."""
    import imagehash
    from PIL import ImageOps

    from datasets._pillow import Unreadable, opened

    try:
        with opened(file) as image:
            bits = imagehash.phash(ImageOps.exif_transpose(image), hash_size=size).hash
    except InputError as error:
        raise InputError(f"{file} is {error}") from None
    except (OSError, Unreadable) as error:
        raise InputError(f"{file} cannot be read as an image ({error})") from None
    return np.packbits(bits.ravel())


def near_duplicates(
    train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], distance: int | None = None
) -> list[Pair]:
    """The nearest training image of each test image that has one within `distance` bits, nearest first.

    Args:
        train, test: from `hash_images`.
        distance: in bits; None for `DISTANCE`.
    """
    distance = DISTANCE if distance is None else distance
    ones = np.array([bin(value).count("1") for value in range(256)], np.uint8)
    train_files, hashes = list(train), np.stack(list(train.values()))
    pairs = []
    for file, own in test.items():
        bits = ones[hashes ^ own].sum(1, dtype=np.int32)
        nearest = int(bits.argmin())
        if bits[nearest] <= distance:
            pairs.append(Pair(train_files[nearest], file, int(bits[nearest])))
    return sorted(pairs, key=lambda pair: pair.distance)
