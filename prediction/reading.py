"""An image as prediction reads it: upright, with a sentence instead of an error if it cannot be read."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from datasets._pillow import opened
from datasets.image_files import read_image
from utils import InputError

BITS = (10, 12, 14)  # of cameras whose values are stored in 16 bits without being scaled


def read_or_reason(path: Path) -> Tensor | InputError:
    """(3, h, w) uint8 RGB, or the sentence that says why the file cannot be read.

    One odd file does not end the prediction of a folder, whatever a decoder raises.
    """
    try:
        return read_image(path)
    except InputError as error:
        return error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return InputError(f"{path} cannot be read as an image ({reason})")


def unscaled_bits(path: Path, image: Tensor) -> str | None:
    """Why an image is nearly black although its file is not: 10, 12 or 14 bits stored in 16, unscaled.

    Prediction reads the upper 8 of 16 bits, so values up to 4095 become at most 15.

    Args:
        path: the file.
        image: (3, h, w) uint8, as read from it.

    Returns:
        A sentence with the remedy; None if the image uses its range.
    """
    largest = int(image.max())
    bits = next((bits for bits in BITS if largest < 2 ** (bits - 8)), None)
    if bits is None or largest == 0 or _bits_per_channel(path) != 16:
        return None
    return (
        f"{path} holds {bits}-bit values in 16 bits, so it is nearly black (mean "
        f"{image.float().mean():.1f} of 255); multiply its values by {2 ** (16 - bits)}"
    )


def _bits_per_channel(path: Path) -> int:
    """16 for a PNG or TIFF of 16 bits per channel, from its header; otherwise 8."""
    with open(path, "rb") as file:
        head = file.read(26)
    if head[:4] == b"\x89PNG":
        return head[24]
    with opened(path) as image:
        if image.mode.startswith("I;16"):
            return 16
        bits = getattr(image, "tag_v2", {}).get(258, 8)  # BitsPerSample of a TIFF
    return max(bits) if isinstance(bits, tuple) else bits
