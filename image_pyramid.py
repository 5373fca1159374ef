"""Images at the coarser scales of a loss, by one of three filters.

area        mean over the pixels that a smaller pixel covers
bilinear    two samples along each axis, without antialiasing; skips pixels from scale 2 on (SGDepth)
lanczos     each scale from the next finer one by Pillow's Lanczos filter, rounded to 8 bit along each
            axis, as the loaders of Monodepth2 do it
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import resampling_matrix
from utils import InputError

FILTERS = ("area", "bilinear", "lanczos")


def check_filter(name: str, where: str) -> None:
    """Refuse a filter that does not exist.

    Raises:
        InputError: the sentence begins with `where`, such as "smoothness".
    """
    if name not in FILTERS:
        raise InputError(f"{where}: image_resize is one of {', '.join(FILTERS)}, got '{name}'")


def shrink(images: Tensor, size: Sequence[int], image_resize: str = "area") -> Tensor:
    """Images at the size of a coarser scale; those that have it are returned as they are.

    Args:
        images: (B, C, H, W) in [0, 1].
        size: h and w, pixels.
        image_resize: one of `FILTERS`.

    Returns:
        (B, C, h, w) in [0, 1].
    """
    size = tuple(size)
    if tuple(images.shape[-2:]) == size:
        return images
    if image_resize != "lanczos":
        return F.interpolate(images, size, mode=image_resize)
    counts = _to_8_bit(255 * images)
    while tuple(counts.shape[-2:]) != size:
        height, width = (max(new, old // 2) for new, old in zip(size, counts.shape[-2:]))
        counts = _to_8_bit(counts @ _halving(counts, counts.shape[-1], width).mT)
        counts = _to_8_bit(_halving(counts, counts.shape[-2], height) @ counts)
    return counts / 255


def _halving(like: Tensor, old: int, new: int) -> Tensor:
    """(new, old) Lanczos weights along one axis."""
    return resampling_matrix(like.new_tensor([new / old]), like.new_zeros(1), old, new)[0]


def _to_8_bit(values: Tensor) -> Tensor:
    """Rounded as Pillow rounds, halves up, and clipped to 0 and 255."""
    return torch.floor(values + 0.5).clamp_(0, 255)
