"""KITTI odometry: eleven sequences with ground-truth poses (Geiger et al. 2012).

    <root>/sequences/00/image_2/000000.jpg      left colour camera, image_3 the right; or .png
    <root>/sequences/00/calib.txt               P2 and P3, the projections of the two
    <root>/poses/00.txt                         twelve numbers a frame: camera to world

There is no ground-truth depth; models are evaluated by their trajectory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datasets import DATASETS
from datasets._kitti import CAMERAS, CalibrationFile, KittiImages, fixed_intrinsics
from datasets.resizing import resize_intrinsics
from datasets.splits import SplitLine, load_split
from intrinsics import check_intrinsics
from metrics import Protocol
from structures import Frame
from utils import InputError

# Focal length in calib.txt → height and width of the recording, pixels: calib.txt does not hold the size.
RECORDED = {718.856: (376, 1241), 721.5377: (375, 1242), 707.0912: (370, 1226)}


@DATASETS.register
class KittiOdom(KittiImages):
    """KITTI odometry; split `odom` trains on sequences 0 to 8, parts `test_09` and `test_10` are the tests.

    Args:
        data_path: the folder that holds `sequences` and `poses`.
        split: a name under `splits/kitti`, or a folder with lists of your own in the published form
            (`train_files.txt`, ... of lines `<sequence> <frame> <l or r>`).
        part: train, val, test_09 or test_10.
    """

    protocol = Protocol("KITTI odometry", "none: this dataset has no depth")

    def __init__(
        self,
        data_path: str | Path,
        split: str = "odom",
        part: str = "train",
        **settings: Any,
    ) -> None:
        self._calibration: dict[str, CalibrationFile] = {}
        self.samples = load_split("kitti", str(split), part)
        for sample in self.samples:
            if not sample.folder.isdecimal() or sample.side is None:
                raise InputError(
                    f"{sample.source}: expected '<sequence> <frame> <l or r>', got folder '{sample.folder}'; "
                    "splits with drives belong to dataset 'kitti'"
                )
        super().__init__(data_path, **settings)
        if not self.fixed_intrinsics:  # found now, not at step 30,000
            for sample in {(sample.folder, sample.side): sample for sample in self.samples}.values():
                self.intrinsics(sample, 0, *self.recorded_size(sample))

    def paths(self, sample: SplitLine, frame: Frame) -> list[Path]:
        camera = CAMERAS[self.side_of(sample, frame)]
        number = sample.frame + (0 if frame == "s" else frame)
        return [self.image(f"{self._sequence(sample.folder)}/image_{camera}", f"{number:06d}")]

    def intrinsics(self, sample: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics, scaled for smaller copies of KITTI's sequences; other sequences' must fit the size."""
        if self.fixed_intrinsics:
            return fixed_intrinsics(height, width)
        if sample.folder not in self._calibration:
            path = self._sequence(sample.folder) / "calib.txt"
            self._calibration[sample.folder] = CalibrationFile(
                path,
                "; --dataset.intrinsics fixed needs none: it is the matrix Monodepth2 uses for all drives",
            )
        calibration = self._calibration[sample.folder]
        K = calibration.matrix(f"P{CAMERAS[sample.side]}", 3, 4)[:, :3]
        if recorded := RECORDED.get(round(K[0, 0], 4)):
            return resize_intrinsics(K, recorded, (height, width))
        return check_intrinsics(K, str(calibration.path), height, width)

    def poses(self, sequence: int | str) -> np.ndarray:
        """(frames, 4, 4) world from camera, metres; the world is the sequence's first camera.

        Raises:
            InputError: no such file, or a line without twelve numbers.
        """
        path = self.data_path / "poses" / f"{int(sequence):02d}.txt"
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            raise InputError(f"there is no file {path}; poses are published for sequences 00 to 10") from None
        rows = []
        for number, text in enumerate(lines, 1):
            try:
                rows.append([float(word) for word in text.split()])
            except ValueError:
                rows.append([])
            if len(rows[-1]) != 12:
                raise InputError(f"{path}, line {number}: expected 12 numbers, got '{text[:60]}'")
        poses = np.tile(np.eye(4), (len(rows), 1, 1))
        poses[:, :3] = np.array(rows).reshape(-1, 3, 4)
        return poses

    def _sequence(self, folder: str) -> Path:
        return self.data_path / "sequences" / f"{int(folder):02d}"
