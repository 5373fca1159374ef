"""Depth files of a scene, in the folder `depth` with its images, or next to a folder of them called `images`.

    .npy    (h, w) metres
    .npz    SciPy's sparse CSR or COO, metres; or an array `depth`; or a single array
    .png    16 bits, value / depth_scale metres

0 is unknown. A file belongs to the image of the same name or, if no name is that of an image and there are as
many files as images, to the image at the same position in natural order (the SC-Depth layout).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.ground_truth import read_values
from datasets.image_files import image_size, natural_key, visible_files
from files import DAMAGED_ARRAY, damage
from utils import InputError

ENDINGS = (".png", ".npy", ".npz")
PROPORTIONS = 0.05  # largest relative difference between the proportions of a depth map and of its image


def find_depths(folder: Path, frames: list[str]) -> dict[str, Path]:
    """Frame → its file in the scene's folder `depth`; frames without one are left out.

    Raises:
        InputError: no file has the name of an image, and their number differs from the images'.
    """
    depths = folder / "depth"
    if folder.name == "images" and not depths.is_dir():
        depths = folder.parent / "depth"
    return match_files(depths, frames, ENDINGS) if depths.is_dir() else {}


def match_files(folder: Path, frames: Sequence[str], endings: Sequence[str]) -> dict[str, Path]:
    """Image → the file of the same name in a folder or, if no name fits, at the same position.

    Args:
        folder: the folder of the files.
        frames: names of the images, in natural order.
        endings: suffixes of the files, in lower case.

    Raises:
        InputError: no file has the name of an image, and their number differs from the images'.
    """
    files = sorted(visible_files(folder), key=natural_key)
    files = [name for name in files if Path(name).suffix.lower() in endings]
    by_stem = {Path(name).stem: folder / name for name in files}
    named = {frame: by_stem[Path(frame).stem] for frame in frames if Path(frame).stem in by_stem}
    if named or not files:
        return named
    if len(files) != len(frames):
        raise InputError(
            f"{folder} holds {len(files)} files for {len(frames)} images, and no name of an image; "
            "name them like the images they belong to"
        )
    return {frame: folder / name for frame, name in zip(frames, files)}


def read_depth(path: Path, depth_scale: float) -> np.ndarray:
    """(h, w) float32 metres, 0 where unknown.

    Args:
        path: .npy, .npz or 16-bit .png.
        depth_scale: value of a .png that is one metre.

    Raises:
        InputError: not readable, not a map, or an image of 8 bits.
    """
    try:
        if path.suffix.lower() == ".png":
            return read_values(path, "depth").astype(np.float32) / np.float32(depth_scale)
        with open(path, "rb") as file:
            values = np.load(file)
            values = _dense(values) if isinstance(values, np.lib.npyio.NpzFile) else values
    except InputError:
        raise
    except DAMAGED_ARRAY as error:
        raise InputError(f"{path} cannot be read as depth ({error}); {damage(path)}") from None
    values = np.squeeze(values)
    if values.ndim != 2 or not values.size:
        raise InputError(f"{path} is not a depth map: expected (height, width), got {values.shape}")
    return np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)


def check_proportions(path: Path, depth: np.ndarray, image: Path) -> None:
    """Refuse a depth map that cannot show what its image shows; its size may differ.

    Args:
        path: file of the depth map, for the error.
        depth: (h, w).
        image: image file that it belongs to.

    Raises:
        InputError: its width differs by more than 5 % from that of the image at the same height.
    """
    (height, width), (image_height, image_width) = depth.shape, image_size(image)
    if abs(width / height * image_height / image_width - 1) > PROPORTIONS:
        raise InputError(
            f"{path} is {width}x{height} and {image.name} is {image_width}x{image_height}; a depth map has "
            "the proportions of its image"
        )


def _dense(arrays: np.lib.npyio.NpzFile) -> np.ndarray:
    """Dense array of a `scipy.sparse.save_npz` file (CSR or COO), without SciPy; else the depth, or the only
    array.
    """
    if "depth" in arrays:
        return arrays["depth"]
    if "shape" not in arrays:
        (name,) = arrays.files
        return arrays[name]
    dense = np.zeros(arrays["shape"], arrays["data"].dtype)
    if "indptr" in arrays:
        if arrays["format"].item() != b"csr":
            raise ValueError(f"sparse format {arrays['format'].item()!r}; csr and coo are read")
        rows = np.repeat(np.arange(len(dense)), np.diff(arrays["indptr"]))
        dense[rows, arrays["indices"]] = arrays["data"]
    else:
        dense[arrays["row"], arrays["col"]] = arrays["data"]
    return dense
