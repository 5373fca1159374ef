"""Images and their intrinsics at another size.

A pixel's centre is an integer, so an image spans -0.5 ... W - 0.5 and x becomes (x + 0.5) s - 0.5.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from utils import InputError

RESIZES = ("bicubic", "lanczos", "bilinear")


def check_size(height: int, width: int, multiple: int = 32) -> None:
    """Refuse a network size that cannot be halved five times, and name the nearest that can.

    Raises:
        InputError: height or width is not a positive multiple of `multiple`.
    """
    for name, value in (("height", height), ("width", width)):
        if value <= 0 or value % multiple:
            nearest = max(multiple, round(value / multiple) * multiple)
            raise InputError(
                f"--{name} must be a multiple of {multiple}, got {value}; try --{name} {nearest}"
            )


def resize_image(image: Tensor, height: int, width: int, resize: str = "bicubic") -> Tensor:
    """An image at another size, antialiased.

    Args:
        image: (3, h, w) uint8.
        height, width: size of the result, pixels.
        resize: `bicubic` or `bilinear` (torch), `lanczos` (Pillow).

    Returns:
        (3, height, width) uint8.
    """
    if image.shape[-2:] == (height, width):
        return image.contiguous()
    if resize == "lanczos":
        pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        resized = np.array(pixels.resize((width, height), Image.Resampling.LANCZOS))
        return torch.from_numpy(resized).permute(2, 0, 1).contiguous()
    inner = image[None].contiguous(memory_format=torch.channels_last)  # torch has a fast path for it
    return F.interpolate(inner, (height, width), mode=resize, antialias=True)[0].contiguous()


def resize_intrinsics(K: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Intrinsics of an image that is resized from `old` to `new`.

    Args:
        K: (3, 3) pixels at `old`.
        old, new: height and width, pixels.

    Returns:
        (3, 3) float64, pixels at `new`.
    """
    sy, sx = new[0] / old[0], new[1] / old[1]
    shift = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return shift @ np.asarray(K, np.float64)
