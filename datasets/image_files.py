"""Image files: the one set of rules by which training, prediction, odometry and the doctor read them.

    orientation   an image is turned as its EXIF entry says; cameras and phones store it as the sensor lies
    one per name  0001.jpg and 0001.png are one frame; the first of `FORMATS` is read
    order         natural: frame9 before frame10
    gaps          a missing number or another prefix ends a run; no sample reaches across

Orientations are those of the EXIF standard (CIPA DC-008, tag 0x0112).
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from utils import InputError

try:
    from torchvision.io import ImageReadMode, decode_image
except ImportError:  # announced for removal; Pillow reads the same files more slowly
    decode_image = None
# torchvision 0.29 warns at each call; the fallback above is what it asks to prepare.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", DeprecationWarning)

FORMATS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
IMAGES = set(FORMATS)
MAX_PIXELS = 2**27  # 134 megapixels; beyond it a header is more likely damaged than true
_DECODED_BY_TORCHVISION = {".jpg", ".jpeg", ".png"}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_UPRIGHT = 1
_LYING = (5, 6, 7, 8)  # orientations that swap height and width
_GAP = 1.5  # steps between two numbers, beyond which frames are missing


def read_image(path: str | Path) -> Tensor:
    """An image as (3, h, w) uint8 RGB, upright.

    Raises:
        InputError: missing, truncated, not an image, of floating-point numbers, or of more than
            `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in _DECODED_BY_TORCHVISION:
            encoded = np.fromfile(path, np.uint8)
            if _torchvision_reads(encoded):
                image = decode_image(torch.from_numpy(encoded), ImageReadMode.RGB)
                return _turned(image, _orientation_in(encoded))
        with _open(path) as opened:
            return _turned(as_rgb(opened), _orientation(opened))
    except FileNotFoundError:
        raise InputError(f"there is no image at {path}") from None
    except PermissionError:
        raise InputError(f"{path} cannot be read: permission denied") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except (OSError, RuntimeError, ValueError, SyntaxError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = re.sub(r".*\.cpp:\d+, ", "", reason)  # torchvision names the line of its own source
        raise InputError(f"{path} cannot be read as an image ({reason}); is it truncated?") from None


def as_rgb(image: Image.Image) -> Tensor:
    """A PIL image as (3, h, w) uint8 RGB.

    Raises:
        InputError: its values are floating-point numbers, whose range is not known.
    """
    if image.mode == "F":
        raise InputError("an image of floating-point numbers; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):  # grey of 16 bits: the upper eight are the image
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` returns it, from its header.

    Raises:
        InputError: missing, not an image, or of more than `MAX_PIXELS`.
    """
    try:
        with _open(Path(path)) as image:
            lying = _orientation(image) in _LYING
            return (image.width, image.height) if lying else (image.height, image.width)
    except FileNotFoundError:
        raise InputError(f"there is no image at {path}") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as an image ({error}); is it truncated?") from None


def list_images(folder: Path) -> list[str]:
    """Names of the images in a folder, in natural order, each frame once; hidden files are left out."""
    return sorted(one_per_name(filter(is_image, visible_files(folder))), key=natural_key)


def visible_files(folder: Path) -> list[str]:
    """Names of the files in a folder, except hidden ones, in no order."""
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != "."]


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
    usual = float(np.median([step for step in steps if step is not None] or [1]))
    ends = [n for n, step in enumerate(steps, 1) if step is None or step > _GAP * usual]
    return [range(start, stop) for start, stop in zip([0, *ends], [*ends, len(names)])]


def _open(path: Path) -> Image.Image:
    """An image whose header is read, refused if it claims more than `MAX_PIXELS`."""
    try:
        image = Image.open(path)
    except Image.DecompressionBombError:
        raise InputError(f"an image of more than {MAX_PIXELS} pixels; make it smaller") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(
            f"an image of {image.width}x{image.height}, more than {MAX_PIXELS} pixels; make it smaller"
        )
    return image


def _torchvision_reads(encoded: np.ndarray) -> bool:
    """Whether torchvision decodes these bytes: a JPEG or a whole PNG of 8 bits, of at most `MAX_PIXELS`."""
    if decode_image is None:
        return False
    head = encoded[:26].tobytes()
    if head[:4] == _PNG:
        # torchvision reads PNGs of 16 bits per channel only since 0.20.
        size = int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")
        return head[24:25] != b"\x10" and size <= MAX_PIXELS and _png_is_whole(encoded)
    return head[:3] == _JPEG and 0 < _jpeg_pixels(encoded) <= MAX_PIXELS


def _png_is_whole(encoded: np.ndarray) -> bool:
    """Whether every chunk of a PNG is there and has its checksum.

    An error within libpng ends the process in torchvision (0.29: a segmentation fault); Pillow names it.
    """
    data, position = memoryview(encoded), 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation in the header of an opened image; 1 is upright."""
    if image.format == "PNG" and "exif" not in image.info:  # `getexif` would decode all of it to look behind
        return _UPRIGHT
    return image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)


def _orientation_in(encoded: np.ndarray) -> int:
    """The EXIF orientation of an encoded JPEG or PNG; most have none, so Pillow opens only the others."""
    if not any(mark in encoded[:65536].tobytes() for mark in (b"Exif\0", b"eXIf")):
        return _UPRIGHT
    with Image.open(io.BytesIO(encoded.tobytes())) as image:
        return _orientation(image)


def _turned(image: Tensor, orientation: int) -> Tensor:
    """A decoded image (3, h, w) as its EXIF orientation says."""
    if orientation in _LYING:
        image = image.transpose(1, 2)
    # Rows (1) and columns (2) that are reversed after the transposition.
    reverse = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation, [])
    return image.flip(reverse) if reverse else image


def _rank(name: str) -> int:
    return FORMATS.index(Path(name).suffix.lower())
