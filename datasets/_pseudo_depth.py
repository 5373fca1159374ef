"""Pseudo-depth: the depth that a network trained on other data predicts for an image.

    <scene>/leres_depth/<image>.png  or  <scene>/pseudo_depth/...     16 bits, any positive scale, 0 unknown
    <scene>/leres_depth/pseudo_depth.json                             {"quantity": "inverse_depth", ...}

`tools/pseudo_depth.py` writes both. The second file states the convention, `depth` or `inverse_depth`.
Without it the files hold depth, as those of SC-Depth V3 do. Inverse depth is inverted when it is read. Files
belong to images by name or, if no name fits, by sorted order. 8-bit images are refused: their steps would
become edges of surfaces. A constant map has no information; it is read as unknown, with a warning.

Datasets other than `folder` find the files in a folder that mirrors their images:
`--pseudo_depth_files.path`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datasets._depth_files import read_depth
from datasets._mirrored_files import check_mirrored, check_whole_images, mirrored_file
from notices import notice
from structures import Batch
from utils import InputError, check_settings, nearest_name, read_text

FOLDERS = ("pseudo_depth", "leres_depth")
ENDINGS = (".png", ".npy", ".npz")
CONVENTION = "pseudo_depth.json"
QUANTITIES = ("depth", "inverse_depth")
_constant: set[Path] = set()  # folders with a constant file, as far as this process has seen


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
            f"{folder / FOLDERS[0]}, run tools/pseudo_depth.py, or leave out --dataset.pseudo_depth"
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
            f"{stored} has no file for {missing[0]}; {len(missing)} of {len(frames)} images lack "
            "pseudo-depth; tools/pseudo_depth.py predicts it"
        )
    return named


def read_convention(folder: Path) -> str:
    """`depth` or `inverse_depth`: what the convention file of a folder states; depth without one.

    Raises:
        InputError: the file is not JSON, or states another quantity.
    """
    path = folder / CONVENTION
    if not path.is_file():
        return "depth"
    try:
        record = json.loads(read_text(path))
        quantity = record.get("settings", record).get("quantity")
    except (ValueError, AttributeError) as error:
        raise InputError(f'{path} cannot be read ({error}); write {{"quantity": "depth"}} into it') from None
    if quantity not in QUANTITIES:
        raise InputError(f"{path} states the quantity '{quantity}'{nearest_name(quantity, QUANTITIES)}")
    return quantity


def read_pseudo_depth(path: Path, quantity: str, height: int, width: int) -> Tensor:
    """(1, 1, height, width) depth of any scale, 0 where unknown.

    Args:
        path: 16-bit .png, .npy or .npz.
        quantity: `depth` or `inverse_depth`, of the file's values.

    Raises:
        InputError: not readable, or an image of 8 bits.
    """
    values = read_depth(path, 1.0)
    known = values > 0
    largest = values[known].max() if known.any() else 0.0
    if known.any() and values[known].min() == largest:
        _warn_of_constant(path.parent, path.name, float(largest))
        known = np.zeros_like(known)
    if quantity == "inverse_depth":
        values = np.divide(largest, values, out=np.zeros_like(values), where=known)
    return resize_nearest(np.where(known, values, 0), height, width)


def _warn_of_constant(folder: Path, name: str, value: float) -> None:
    """Say it once for each folder: a whole folder of constant files would print thousands of lines."""
    if folder in _constant:
        return
    _constant.add(folder)
    notice(
        f"{folder / name} is constant ({value:g}); its pseudo-depth, and that of any other constant file of "
        "the folder, is taken as unknown; delete such files and run tools/pseudo_depth.py again"
    )


class WithPseudoDepth(Dataset):
    """A dataset of video whose targets carry the map `pseudo_depth`, from a folder that mirrors its images.

    Args:
        dataset: the video; it reads whole image files.
        path: folder of the 16-bit PNGs.

    Raises:
        InputError: a dataset that crops its images, a target without a file, an unknown convention.
    """

    def __init__(self, dataset: Any, path: str | Path) -> None:
        check_whole_images(dataset, "files of pseudo-depth")
        self.dataset, self.path = dataset, Path(path).expanduser()
        fix = "; tools/pseudo_depth.py --out makes it"
        check_mirrored(self.path, dataset, (0,), "pseudo-depth", fix)
        self.quantity = read_convention(self.path)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        batch = self.dataset[index]
        size = self.dataset.height, self.dataset.width
        images = self.dataset.paths(self.dataset.samples[index], 0)
        files = [mirrored_file(self.path, image, self.dataset) for image in images]
        batch.maps["pseudo_depth"] = torch.cat(
            [read_pseudo_depth(file, self.quantity, *size) for file in files]
        )
        return batch


def with_pseudo_depth(dataset: Any, options: Mapping[str, Any]) -> Any:
    """`dataset` with the files that the options' section `pseudo_depth_files` names; unchanged without one.

    Raises:
        InputError: a section without a path or with an unknown setting; errors of `WithPseudoDepth`.
    """
    section = options.get("pseudo_depth_files") or {}
    if not section:
        return dataset
    check_settings("pseudo_depth_files", WithPseudoDepth, section)
    if "path" not in section:
        raise InputError("pseudo_depth_files needs the folder of its files: --pseudo_depth_files.path FOLDER")
    return WithPseudoDepth(dataset, **section)


def resize_nearest(values: np.ndarray, height: int, width: int) -> Tensor:
    """(h, w) to (1, 1, height, width) float32; nearest, so that steps stay steps and 0 stays unknown."""
    map_ = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    return F.interpolate(map_, (height, width), mode="nearest-exact")
