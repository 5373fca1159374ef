"""NYUv2's labelled images: the official MATLAB file, or converted files of one image each.

nyu_depth_v2_labeled.mat     images, depths, scenes: HDF5 (MATLAB 7.3)
nyu_test/00001.h5            rgb (3, 480, 640) uint8 and depth (480, 640) metres
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils import InputError

SIZE = (480, 640)  # height and width of every image, pixels


class LabelledFile:
    """The official `nyu_depth_v2_labeled.mat`, read image by image: it is HDF5 (MATLAB 7.3).

    MATLAB stores columns first, so HDF5 sees `images` as (1449, 3, 640, 480), `depths` as (1449, 640, 480).

    Args:
        path: path of the file; it may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = None
        self._process = -1

    def __getstate__(self) -> dict:
        return {"path": self.path, "_file": None, "_process": -1}

    def image(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(3, 480, 640) uint8 and (480, 640) metres of image `number`, counted from 1 as MATLAB does.

        Raises:
            InputError: not HDF5, other contents, fewer images.
        """
        file = self._open()
        images, depths = (_variable(file, name, self.path) for name in ("images", "depths"))
        fits = images.shape[1:] == (3, 640, 480) and depths.shape == (len(images), 640, 480)
        if not (fits and images.dtype == np.uint8):
            raise InputError(
                f"{self.path} is not the labelled set: expected images (n, 3, 640, 480) of uint8 and depths "
                f"(n, 640, 480), got {images.shape} of {images.dtype} and {depths.shape}"
            )
        if not 1 <= number <= len(images):
            raise InputError(f"{self.path} holds {len(images)} images; there is no number {number}")
        image, depth = _rows(images, number - 1, self.path), _rows(depths, number - 1, self.path)
        return image.transpose(0, 2, 1), depth.T

    def scenes(self, numbers: Sequence[int]) -> list[str]:
        """Names of the scenes of images, by number; numbers beyond the file are left out."""
        file = self._open()
        references = np.ravel(_variable(file, "scenes", self.path))
        within = [number for number in numbers if number <= len(references)]
        return ["".join(map(chr, np.ravel(file[references[number - 1]]))) for number in within]

    def _open(self):  # an h5py.File
        if self._file is None or self._process != os.getpid():  # forked workers must not share a position
            self._file, self._process = _open_hdf5(self.path), os.getpid()
        return self._file


def read_converted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One converted .h5: (3, 480, 640) uint8 and (480, 640) metres.

    Raises:
        InputError: not readable, or with other contents.
    """
    with _open_hdf5(path) as file:
        rgb, depth = (_rows(_variable(file, name, path), ..., path) for name in ("rgb", "depth"))
    if rgb.shape != (3, *SIZE) or rgb.dtype != np.uint8 or depth.shape != SIZE:
        raise InputError(
            f"{path} is not an NYUv2 image: expected rgb (3, 480, 640) of uint8 and depth (480, 640), "
            f"got {rgb.shape} of {rgb.dtype} and {depth.shape}"
        )
    return rgb, depth


def _open_hdf5(path: Path):  # an h5py.File
    import h5py

    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        head = path.read_bytes()[:116] if path.is_file() else b""
        if head.startswith(b"MATLAB 5.0"):
            raise InputError(
                f"{path} is a MATLAB file of version 5; the official one is of version 7.3 (save it again "
                "with -v7.3, or download it again)"
            ) from None
        raise InputError(f"{path} cannot be read as HDF5 ({error}); is it truncated?") from None


def _variable(file, name: str, path: Path):  # an h5py.Dataset
    if not hasattr(file.get(name), "shape"):  # a group has none
        raise InputError(f"{path} has no variable '{name}', only {', '.join(sorted(file)) or 'none'}")
    return file[name]


def _rows(variable, rows, path: Path) -> np.ndarray:
    try:
        return np.asarray(variable[rows])
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); is it truncated?") from None
