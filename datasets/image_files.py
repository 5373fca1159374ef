"""Image files: the one set of rules by which training, prediction, odometry and the doctor read them.

    orientation   an image is turned as its EXIF entry says; cameras and phones store it as the sensor lies
    one per name  0001.jpg and 0001.png are one frame; the first of `FORMATS` is read
    order         natural: frame9 before frame10
    gaps          a missing number or another prefix ends a run; no sample reaches across

Orientations are those of the EXIF standard (CIPA DC-008, tag 0x0112).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import statistics
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from kornia_rs import io as kornia_io
from PIL import Image
from torch import Tensor

from datasets._pillow import (
    FORMATS,
    IMAGES,
    MAX_PIXELS,
    UPRIGHT,
    Unreadable,
    opened,
    orientation,
    reason_of,
)
from files import HEAD, kind_of
from utils import InputError

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # announced for removal; Pillow reads the same files more slowly
    decode_image = None
# torchvision 0.29 warns at each call; the fallback above is what it asks to prepare.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", DeprecationWarning)

_DECODED_WHOLE = {".jpg", ".jpeg", ".png"}  # by kornia_rs or torchvision, from the bytes of the file
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_LYING = (5, 6, 7, 8)  # orientations that swap height and width
_GAP = 1.5  # steps between two numbers, beyond which frames are missing


def read_image(path: str | Path) -> Tensor:
    """An image as (3, h, w) uint8 RGB, upright.

    Raises:
        InputError: missing, truncated, not an image, of floating-point numbers, or of more than
            `MAX_PIXELS`.
    """
    path = Path(path)
    with reading(path):
        if path.suffix.lower() in _DECODED_WHOLE:
            encoded = np.fromfile(path, np.uint8)
            if (image := _decode(encoded)) is not None:
                return _turned(image, _orientation_in(encoded))
        with opened(path) as image:
            return _turned(as_rgb(image), orientation(image))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A block that reads an image; whatever its decoder raises becomes one sentence.

    Raises:
        InputError: names the file and the reason.
    """
    try:
        yield
    except FileNotFoundError:
        missing = f"; it is a link to {os.readlink(path)}, which is not there" if path.is_symlink() else ""
        raise InputError(f"there is no image at {path}{missing}") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except Exception as error:
        with path.open("rb") as file:
            kind, _, fix = kind_of(file.read(HEAD)).partition("; ")
        if kind:
            raise InputError(f"{path} is {kind}, not an image; {fix}") from None
        reason = reason_of(error)
        raise InputError(f"{path} cannot be read as an image ({reason}); is it truncated?") from None


def as_rgb(image: Image.Image) -> Tensor:
    """A PIL image as (3, h, w) uint8 RGB.

    Raises:
        InputError: its values are floating-point numbers, whose range is not known, or need 32 bits.
    """
    if image.mode == "F":
        raise InputError("an image of floating-point numbers; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):  # grey of 16 bits: the upper eight are the image
        values = np.array(image)
        if values.size and not 0 <= values.min() <= values.max() < 2**16:
            low, high = values.min(), values.max()
            raise InputError(
                f"an image of values from {low} to {high}; save it with 8 or 16 bits per channel"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` returns it, from its header.

    Raises:
        InputError: missing, not an image, or of more than `MAX_PIXELS`.
    """
    with reading(Path(path)), opened(path) as image:
        lying = orientation(image) in _LYING
        return (image.width, image.height) if lying else (image.height, image.width)


def list_images(folder: Path) -> list[str]:
    """Names of the images in a folder, in natural order, each frame once; hidden files are left out."""
    return sorted(one_per_name(filter(is_image, visible_files(folder))), key=natural_key)


def visible_files(folder: Path) -> list[str]:
    """Names of the files in a folder, except hidden ones, in no order.

    A link whose target is missing, as in data that were not fetched, is a file too: reading it is refused.
    """
    entries = (entry for entry in os.scandir(folder) if entry.name[0] != ".")
    return [entry.name for entry in entries if entry.is_file() or (entry.is_symlink() and not entry.is_dir())]


def is_image(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return Path(name).suffix.lower() in IMAGES


def one_per_name(names: Iterable[str]) -> list[str]:
    """One of the names that differ only in their format: the one that comes first in `FORMATS`."""
    best: dict[str, str] = {}
    for name in names:
        stem = Path(name).stem
        if stem not in best or _rank(name) < _rank(best[stem]):
            best[stem] = name
    return list(best.values())


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sorting key that puts frame9 before frame10."""
    return [
        (not word.isdecimal(), int(word) if word.isdecimal() else 0, word)
        for word in re.split(r"(\d+)", name)
    ]


def frame_runs(names: Sequence[str]) -> list[range]:
    """Runs of consecutive frames among image names in natural order.

    Names are split at their last number. A run ends where the text before that number changes, and where the
    number grows by more than 1.5 times its usual step; numbers in steps of 5 and time stamps are fine.

    Returns:
        Ranges of indices into `names`, in order; together they hold every index once.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", Path(name).stem) for name in names]
    if not all(parts):
        return [range(len(names))]
    numbers = np.array([int(part[2]) for part in parts], dtype=object)
    steps = [
        int(numbers[n] - numbers[n - 1]) if parts[n][1] == parts[n - 1][1] else None
        for n in range(1, len(names))
    ]
    usual = statistics.median_low([step for step in steps if step is not None] or [1])
    ends = [n for n, step in enumerate(steps, 1) if step is None or step > _GAP * usual]
    return [range(start, stop) for start, stop in zip([0, *ends], [*ends, len(names)])]


def _decode(encoded: np.ndarray) -> Tensor | None:
    """(3, h, w) uint8 of the bytes of a JPEG or PNG; None for files that Pillow reads, or refuses."""
    if encoded[:4].tobytes() == _PNG:
        return _decode_png(encoded)
    if decode_image is None or encoded[:3].tobytes() != _JPEG:
        return None
    if not 0 < _jpeg_pixels(encoded) <= MAX_PIXELS:
        return None
    return decode_image(torch.from_numpy(encoded), ImageReadMode.RGB)


def _decode_png(encoded: np.ndarray) -> Tensor | None:
    """(3, h, w) uint8 of a PNG with 8 bits, RGB or grey; None for other kinds and for damaged files.

    kornia_rs is the fastest decoder that we found (docs/performance.md). It checks every checksum and reads
    no alpha and no palettes.
    """
    head = encoded[:26].tobytes()
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    mode = {b"\x08\x02": "rgb", b"\x08\x00": "mono"}.get(head[24:26])  # bits per channel, kind of colour
    if mode is None or not 0 < width * height <= MAX_PIXELS:
        return None
    try:
        pixels = kornia_io.decode_image_png_u8(encoded.tobytes(), (height, width), mode)
    except Exception:  # the class that kornia_rs raises for every damage
        return None
    return torch.from_numpy(pixels).permute(2, 0, 1).expand(3, height, width)


def _jpeg_pixels(encoded: np.ndarray) -> int:
    """Height times width of a JPEG, from its start-of-frame segment; 0 if there is none."""
    position = 2
    while position + 9 < len(encoded) and encoded[position] == 0xFF:
        kind = int(encoded[position + 1])
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            size = encoded[position + 5 : position + 9].tobytes()
            return int.from_bytes(size[:2], "big") * int.from_bytes(size[2:], "big")
        position += 2 + int.from_bytes(encoded[position + 2 : position + 4].tobytes(), "big")
    return 0


def _orientation_in(encoded: np.ndarray) -> int:
    """The EXIF orientation of an encoded JPEG or PNG; most have none, so Pillow opens only the others."""
    if not any(mark in encoded[:65536].tobytes() for mark in (b"Exif\0", b"eXIf")):
        return UPRIGHT
    try:
        with opened(io.BytesIO(encoded.tobytes())) as image:
            return orientation(image)
    except (InputError, Unreadable):  # the pixels are decoded already
        return UPRIGHT


def _turned(image: Tensor, orientation: int) -> Tensor:
    """A decoded image (3, h, w) as its EXIF orientation says."""
    if orientation in _LYING:
        image = image.transpose(1, 2)
    # Rows (1) and columns (2) that are reversed after the transposition.
    reverse = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation, [])
    return image.flip(reverse) if reverse else image


def _rank(name: str) -> int:
    return FORMATS.index(Path(name).suffix.lower())
