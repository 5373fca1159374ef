"""Pseudo-depth of a scene's images: the depth that a network trained on other data predicts for each.

    <scene>/pseudo_depth/<image>.png  or  <scene>/leres_depth/...     16 bits, any positive scale, 0 unknown

Files belong to images by name or, if no name fits, by sorted order, as in SC-Depth V3's layout. 8-bit images
are refused: their steps would become edges of surfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError

FOLDERS = ("pseudo_depth", "leres_depth")
ENDINGS = (".png", ".npy", ".npz")


def find_pseudo_depth(
    folder: Path, frames: Sequence[str], sort_key: Callable[[str], object]
) -> dict[str, Path]:
    """Frame → its file, for every frame of a scene.

    Args:
        folder: the scene.
        frames: names of its images.
        sort_key: natural order of names.

    Raises:
        InputError: there is no folder of pseudo-depth, or a frame without a file.
    """
    stored = next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)
    if stored is None:
        raise InputError(
            f"there is no pseudo-depth for {folder}: put one 16-bit .png or .npy for each image into "
            f"{folder / FOLDERS[0]}, or leave out --dataset.pseudo_depth"
        )
    names = (entry.name for entry in stored.iterdir() if entry.name[0] != ".")
    files = sorted((name for name in names if Path(name).suffix.lower() in ENDINGS), key=sort_key)
    by_stem = {Path(name).stem: stored / name for name in files}
    named = {frame: by_stem[Path(frame).stem] for frame in frames if Path(frame).stem in by_stem}
    if not named and len(files) == len(frames):
        return {frame: stored / name for frame, name in zip(frames, files)}
    missing = [frame for frame in frames if frame not in named]
    if missing:
        raise InputError(
            f"{stored} has no file for {missing[0]}; {len(missing)} of {len(frames)} images lack pseudo-depth"
        )
    return named


def resize_nearest(values: np.ndarray, height: int, width: int) -> Tensor:
    """(h, w) to (1, 1, height, width) float32; nearest, so that steps stay steps and 0 stays unknown."""
    map_ = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    return F.interpolate(map_, (height, width), mode="nearest-exact")
