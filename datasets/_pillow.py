"""Images that Pillow opens: its warnings, its limits and its errors in one place.

Pillow warns of damaged metadata and of large images, and a damaged file makes its decoders raise almost any
exception. Here a warning is left out, since the pixels are read; the size is refused before memory is
allocated; any error becomes an `Unreadable`, whose text completes the sentence of the caller. Without torch.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from utils import InputError

FORMATS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".ppm",
    ".pgm",
    ".tif",
    ".tiff",
)  # the first is preferred
IMAGES = set(FORMATS)
ANIMATED = {".gif", ".webp", ".png", ".apng", ".tif", ".tiff"}  # formats that may hold several frames
MAX_PIXELS = 2**27  # 134 megapixels; beyond it a header is more likely damaged than true
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit would refuse from 179 megapixels on
UPRIGHT = 1  # EXIF orientation


class Unreadable(Exception):
    """Why a file cannot be read as an image, in a few words."""


@contextlib.contextmanager
def opened(file: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """An image whose header is read, for the block; its pixels are decoded when they are used there.

    Raises:
        OSError: the file is missing, or the machine refuses it.
        InputError: it claims more than `MAX_PIXELS`; "an image of ...", for a sentence with its name.
        Unreadable: it is not an image, or damaged.
    """
    with quiet(), as_unreadable(), open_image(file) as image:
        yield image


def open_image(file: str | Path | BinaryIO) -> Image.Image:
    """An image whose header is read; errors as `opened`."""
    with quiet(), as_unreadable():
        image = Image.open(file)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(
            f"an image of {image.width}x{image.height}, more than {MAX_PIXELS} pixels; make it smaller"
        )
    return image


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block in which Pillow does not warn, also under `python -W error`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `opened` looks at the size
        yield


@contextlib.contextmanager
def as_unreadable() -> Iterator[None]:
    """A block whose errors, of whatever kind, become an `Unreadable`, except those that `opened` raises."""
    try:
        yield
    except Image.DecompressionBombError:
        raise InputError(f"an image of more than {MAX_PIXELS} pixels; make it smaller") from None
    except (InputError, Unreadable):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file system
        raise Unreadable(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """The first line of an error, without the names of a decoder's own files; its kind if it has no text."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    return words.partition(".cpp:")[2].partition(", ")[2] or words


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image; `UPRIGHT` if it has none, or none that can be read."""
    if image.format == "PNG" and "exif" not in image.info:  # `getexif` would decode all of it to look behind
        return UPRIGHT
    try:
        return image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # damaged metadata; the pixels may be whole
        return UPRIGHT
