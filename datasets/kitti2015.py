"""KITTI 2015: the 200 training scenes of the scene flow benchmark, with dense disparity (Menze, Geiger 2015).

    <root>/training/image_2/000000_10.png       left; image_3 right; 000000_11.png is the frame set after
    <root>/training/disp_occ_0/000000_10.png    disparity of the left image, LiDAR and fitted car models
    <root>/training/calib_cam_to_cam/000000.txt

With the rectified focal length f and the distance b of the cameras, both from the projection matrices,

    depth = f b / d,   d = p / 256 for the value p of a disparity image, 0 for unknown.

It is an evaluation set without video and lists; every part holds all scenes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets import DATASETS
from datasets._kitti import CalibrationFile
from datasets.ground_truth import Exportable, check_ground_truth, read_values
from datasets.resizing import resize_intrinsics
from datasets.sequence import SequenceDataset
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError

FRAMES = {0: ("image_2", "10"), 1: ("image_2", "11"), "s": ("image_3", "10")}
# Values of `ground_truth`: their folder, and their words on the protocol card.
GROUND_TRUTHS = {
    "occ": ("disp_occ_0", "KITTI 2015 disparity, every pixel"),
    "noc": ("disp_noc_0", "KITTI 2015 disparity, pixels that both cameras see"),
}


class Scene(NamedTuple):
    """One of the 200, by its number."""

    number: int

    @property
    def stem(self) -> str:
        """`000000`, what its files begin with."""
        return f"{self.number:06d}"


@DATASETS.register
class Kitti2015(Exportable, SequenceDataset):
    """The training images of KITTI's scene flow benchmark, with depth from its disparity.

    Args:
        data_path: the folder that holds `training`.
        part: train, val or test; each is every scene.
        frame_ids: 0, with 1 for the next frame and "s" for the right camera.
        ground_truth: `occ` (every pixel), `noc` (those that both cameras see), or None for no depth.
    """

    samples: list[Scene]

    def __init__(
        self,
        data_path: str | Path,
        part: str = "test",
        frame_ids: Sequence[Frame] = (0,),
        ground_truth: str | None = "occ",
        **settings: Any,
    ) -> None:
        ground_truth = check_ground_truth(ground_truth, GROUND_TRUTHS)
        for frame in frame_ids:
            if frame not in FRAMES:
                raise InputError(
                    "KITTI 2015 has the frames 0, 1 (the frame set after) and s (the right camera), "
                    f"got {frame}; to train, take kitti"
                )
        if part not in ("train", "val", "test"):
            raise InputError(f"part is train, val or test, got '{part}'; each is every scene of KITTI 2015")
        self.ground_truth = ground_truth
        folder = Path(data_path) / "training" / "image_2"
        names = sorted(path.name for path in folder.glob("*_10.png")) if folder.is_dir() else []
        found = [re.fullmatch(r"(\d{6})_10\.png", name) for name in names]
        self.samples = [Scene(int(match[1])) for match in found if match]
        if Path(data_path).is_dir() and not self.samples:
            raise InputError(
                f"there are no images {folder}/000000_10.png, ...; "
                f"unpack data_scene_flow.zip into {data_path}"
            )
        self._cameras: dict[int, CalibrationFile] = {}
        super().__init__(data_path, frame_ids=frame_ids, **settings)
        self.find_exported(None, part)
        for scene in self.samples:
            self._projections(scene)

    @property
    def protocol(self) -> Protocol:
        """Whole images, up to 80 m."""
        words = GROUND_TRUTHS[self.ground_truth][1] if self.ground_truth else "none"
        return Protocol("KITTI 2015", words, max_depth=80.0, cap_ground_truth=True, crop="none")

    def name(self, index: int) -> str:
        return f"{self.samples[index].stem}_10"

    def paths(self, sample: Scene, frame: Frame) -> list[Path]:
        folder, frame_set = FRAMES[frame]
        return [self.data_path / "training" / folder / f"{sample.stem}_{frame_set}.png"]

    def pose(self, sample: Scene, frame: Frame) -> np.ndarray | None:
        """The right camera is one baseline to the right, in metres."""
        if frame != "s":
            return None
        P_left, P_right = self._projections(sample)
        T_source_from_target = np.eye(4)
        T_source_from_target[0, 3] = (P_right[0, 3] - P_left[0, 3]) / P_left[0, 0]
        return T_source_from_target[None]

    def intrinsics(self, sample: Scene, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the rectified camera, scaled if the images on disk were made smaller."""
        calibration = self._calibration(sample)
        P, _ = self._projections(sample)
        native_width, native_height = calibration.matrix("S_rect_02", 2).astype(int)
        return resize_intrinsics(P[:, :3], (native_height, native_width), (height, width))

    def read_raw_depth(self, index: int) -> np.ndarray | None:
        if self.ground_truth is None:
            return None
        scene = self.samples[index]
        folder = self.data_path / "training" / GROUND_TRUTHS[self.ground_truth][0]
        path = folder / f"{scene.stem}_10.png"
        if not path.is_file():
            return None
        disparity = read_disparity(path)
        P_left, P_right = self._projections(scene)
        known = disparity > 0
        depth = np.where(known, (P_left[0, 3] - P_right[0, 3]) / np.where(known, disparity, 1), 0)
        return depth[None].astype(np.float32)

    def raw_content(self, index: int) -> str:
        if self.ground_truth is None:
            return ""
        scene = self.samples[index]
        path = self.data_path / "training" / GROUND_TRUTHS[self.ground_truth][0] / f"{scene.stem}_10.png"
        return content([path], *self._projections(scene)) if path.is_file() else ""

    def _projections(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        calibration = self._calibration(scene)
        left, right = (calibration.matrix(f"P_rect_0{camera}", 3, 4) for camera in (2, 3))
        if not (left[0, 0] > 0 and left[1, 1] > 0):
            raise InputError(f"{calibration.path}: camera 2 must have a focal length, got {left[0, 0]}")
        if not right[0, 3] < left[0, 3]:
            raise InputError(f"{calibration.path}: camera 3 must be to the right of camera 2")
        return left, right

    def _calibration(self, scene: Scene) -> CalibrationFile:
        if scene.number not in self._cameras:
            path = self.data_path / "training" / "calib_cam_to_cam" / f"{scene.stem}.txt"
            way_out = f"; unpack data_scene_flow_calib.zip into {self.data_path}"
            self._cameras[scene.number] = CalibrationFile(path, way_out)
        return self._cameras[scene.number]


def read_disparity(path: str | Path) -> np.ndarray:
    """KITTI's 16-bit disparity images as (h, w) float64 pixels: value / 256, 0 where unknown.

    Raises:
        InputError: not readable, or not 16 bit.
    """
    return read_values(path, "disparity").astype(np.float64) / 256
