"""KITTI odometry: eleven sequences with ground-truth poses (Geiger et al. 2012).

    <root>/sequences/00/image_2/000000.jpg      left colour camera, image_3 the right; or .png
    <root>/sequences/00/calib.txt               P2 and P3, the projections of the two
    <root>/poses/00.txt                         twelve numbers a frame: camera to world

There is no depth here; training is evaluated by its trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets import DATASETS
from datasets._kitti import CAMERAS, CalibrationFile, KittiImages, fixed_intrinsics
from datasets._splits import SplitLine, load_split
from metrics import Protocol
from structures import Frame
from utils import InputError


@DATASETS.register
class KittiOdom(KittiImages):
    """KITTI odometry; split `odom` trains on sequences 0 to 8, parts `test_09` and `test_10` are the tests.

    Args:
        data_path: the folder that holds `sequences` and `poses`.
        split: a name under `splits/kitti`, or a folder with lists of your own in the published form
            (`train_files.txt`, ... of lines `<sequence> <frame> <l or r>`).
        part: train, val, test_09 or test_10.
        frame_ids: 0 and the sources: offsets in frames, "s" the other camera.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack an image.
        intrinsics: `calibration`, the matrix of the sequence, or `fixed`, the one that Monodepth2 uses
            for all of KITTI, raw and odometry alike.
        baseline: distance of the stereo cameras. The published 0.1 makes learned depths metres / 5.4,
            0.54 makes them metres.
    """

    protocol = Protocol("KITTI odometry", "none: this dataset has no depth")

    def __init__(
        self,
        data_path: str | Path,
        split: str = "odom",
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 192,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
        intrinsics: str = "calibration",
        baseline: float = 0.1,
    ) -> None:
        self._calibration: dict[str, CalibrationFile] = {}
        lines = load_split("kitti", str(split), part)
        for line in lines:
            if not line.folder.isdecimal() or line.side is None:
                raise InputError(
                    f"{line.source}: expected '<sequence> <frame> <l or r>', got folder '{line.folder}'; "
                    "splits with drives belong to dataset 'kitti'"
                )
        super().__init__(
            data_path, lines, intrinsics, baseline, frame_ids, height, width, resize, skip_missing
        )
        if not self.fixed_intrinsics:  # found now, not at step 30,000
            for line in {(line.folder, line.side): line for line in self.lines}.values():
                self.intrinsics(line, 0, self.height, self.width)

    def paths(self, line: SplitLine, frame: Frame) -> list[Path]:
        camera = CAMERAS[self.side_of(line, frame)]
        number = line.frame + (0 if frame == "s" else frame)
        return [self.image(f"{self._sequence(line.folder)}/image_{camera}", f"{number:06d}")]

    def intrinsics(self, line: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        if self.fixed_intrinsics:
            return fixed_intrinsics(height, width)
        if line.folder not in self._calibration:
            path = self._sequence(line.folder) / "calib.txt"
            self._calibration[line.folder] = CalibrationFile(
                path, "; intrinsics=fixed trains without, with the matrix Monodepth2 uses for all drives"
            )
        return self._calibration[line.folder].matrix(f"P{CAMERAS[line.side]}", 3, 4)[:, :3]

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
