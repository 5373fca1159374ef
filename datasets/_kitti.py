"""Shared by KITTI raw and KITTI odometry: a rectified stereo pair, numbered images, calibration files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.sequence import SequenceDataset
from datasets.splits import SplitLine
from structures import Frame
from utils import InputError, nearest_name

CAMERAS = {"l": 2, "r": 3}  # the colour cameras; 0 and 1 are the grey ones
OTHER_SIDE = {"l": "r", "r": "l"}


class KittiImages(SequenceDataset):
    """Numbered images of a stereo pair, png or jpg. A subclass gives the folders and reads calibration.

    Args:
        data_path: root folder of the dataset.
        frame_ids: 0 and the sources: offsets in frames, "s" for the other camera.
        intrinsics: `calibration`, the matrix in each drive's calibration file, or `fixed`, the one normalised
            matrix that Monodepth2 and its successors use for all of KITTI.
        baseline: distance of the stereo cameras in the unit of the learned depth. With the
            published 0.1, learned depth is metres / 5.4; with 0.54, it is metres.
    """

    samples: list[SplitLine]

    def __init__(
        self,
        data_path: str | Path,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        intrinsics: str = "calibration",
        baseline: float = 0.1,
        **settings: Any,
    ) -> None:
        if intrinsics not in ("calibration", "fixed"):
            raise InputError(f"--dataset.intrinsics is 'calibration' or 'fixed', got '{intrinsics}'")
        if baseline <= 0:
            raise InputError(
                f"--dataset.baseline must be positive, got {baseline}; 0.1 is the published one, 0.54 metres"
            )
        if "s" in frame_ids and any(sample.side is None for sample in self.samples):
            raise InputError("frame 's' needs a split that names a side, l or r, for every frame")
        self.fixed_intrinsics = intrinsics == "fixed"
        self.baseline = baseline
        self._suffixes: dict[str, tuple[str, frozenset[str]]] = {}
        super().__init__(data_path, frame_ids=frame_ids, **settings)

    def name(self, index: int) -> str:
        sample = self.samples[index]
        return f"{sample.folder} {sample.frame} {sample.side or ''}".rstrip()

    def pose(self, sample: SplitLine, frame: Frame) -> np.ndarray | None:
        """The pose of the stereo partner: one baseline sideways.

        The rig's baseline is 0.54 m; Monodepth2 sets it to 0.1. With `baseline=0.1`, depths learned from
        stereo are metres / 5.4, and the published stereo evaluation multiplies them by 5.4. With
        `baseline=0.54` they are metres. min_depth and max_depth are in the same unit as the baseline.
        """
        if frame != "s":
            return None
        T_source_from_target = np.eye(4)
        # The right camera is at +baseline, so a point's x is smaller there.
        T_source_from_target[0, 3] = -self.baseline if sample.side == "l" else self.baseline
        return T_source_from_target[None]

    def network_intrinsics(self, sample: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        if self.fixed_intrinsics and not self.crop_borders:
            return fixed_intrinsics(self.height, self.width)
        return super().network_intrinsics(sample, camera, height, width)

    def side_of(self, sample: SplitLine, frame: Frame) -> str | None:
        """The camera that took `frame`."""
        return OTHER_SIDE[sample.side] if frame == "s" else sample.side

    def image(self, folder: str, stem: str) -> Path:
        """An image's path with its ending; jpg if both exist, as published recipes train on jpg. Each folder
        is listed once."""
        if folder not in self._suffixes:
            self._suffixes[folder] = _list_suffixes(folder)
        usual, png_only = self._suffixes[folder]
        return Path(f"{folder}/{stem}{'.png' if stem in png_only else usual}")


def _list_suffixes(folder: str) -> tuple[str, frozenset[str]]:
    """The usual ending of a folder's images, and the stems that exist only as .png."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    jpg = {name[:-4] for name in names if name.endswith(".jpg")}
    png = {name[:-4] for name in names if name.endswith(".png")}
    return (".png", frozenset()) if png and not jpg else (".jpg", frozenset(png - jpg))


def fixed_intrinsics(height: int, width: int) -> np.ndarray:
    """Monodepth2's matrix for every KITTI drive, (3, 3) pixels: 0.58 W, 1.92 H, the middle of the image."""
    return np.array([[0.58 * width, 0, 0.5 * width], [0, 1.92 * height, 0.5 * height], [0, 0, 1]])


class CalibrationFile:
    """KITTI's `key: numbers` files.

    Raises:
        InputError: there is no such file; `way_out` ends the sentence.
    """

    def __init__(self, path: str | Path, way_out: str = "") -> None:
        self.path = Path(path)
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            raise InputError(f"there is no calibration file {path}{way_out}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a text file of calibration{way_out}") from None
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        self._values = {key.strip(): value.strip() for key, value in pairs}

    def matrix(self, key: str, *shape: int) -> np.ndarray:
        """The float64 array called `key`, row by row.

        Raises:
            InputError: no such key, not numbers, or another count of numbers.
        """
        if key not in self._values:
            raise InputError(f"{self.path} has no entry '{key}'{nearest_name(key, self._values)}")
        try:
            numbers = np.array([float(word) for word in self._values[key].split()])
        except ValueError:
            raise InputError(
                f"{self.path}, entry '{key}': expected numbers, got '{self._values[key]}'"
            ) from None
        if numbers.size != np.prod(shape):
            raise InputError(
                f"{self.path}, entry '{key}': expected {np.prod(shape)} numbers, got {numbers.size}"
            )
        return numbers.reshape(shape)
