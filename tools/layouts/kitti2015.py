"""KITTI 2015: scenes of the scene flow benchmark, a stereo pair and the left camera's next image each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.synthetic import View
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, save_array, save_image, save_text
from tools.layouts.kitti import KittiRig


@LAYOUTS.register("kitti2015")
class Kitti2015Scenes(Layout):
    """KITTI 2015: training/image_2, image_3, disp_occ_0, disp_noc_0, calib_cam_to_cam.

    Every frame of every sequence is a scene of its own.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rig = KittiRig(plan.height, plan.width)

    def stem(self, sequence: int, frame: int) -> str:
        return f"{sequence * self.plan.frames + frame:06d}"

    def view(self, sequence: int, frame: int, camera: int = 2) -> View:
        return self.rig.view(self.plan.world(sequence), camera, frame / RATE)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, stem = self.plan.out / "training", self.stem(sequence, frame)
        left, right = self.view(sequence, frame), self.view(sequence, frame, camera=3)
        save_image(folder / f"image_2/{stem}_10.png", left.image)
        save_image(folder / f"image_3/{stem}_10.png", right.image)
        save_image(folder / f"image_2/{stem}_11.png", self.view(sequence, frame + 1).image)
        disparity = self.disparity(left.depth)
        save_disparity(folder / f"disp_occ_0/{stem}_10.png", disparity)
        seen = visible(disparity, self.disparity(right.depth))
        save_disparity(folder / f"disp_noc_0/{stem}_10.png", np.where(seen, disparity, 0))
        calibration = self.rig.calibration_files()["calib_cam_to_cam.txt"]
        save_text(folder / f"calib_cam_to_cam/{stem}.txt", calibration)

    def disparity(self, depth: np.ndarray) -> np.ndarray:
        """(h, w) disparity in pixels, 0 without depth."""
        focal_times_baseline = self.rig.camera.intrinsics[0, 0] * self.rig.baseline
        return np.where(depth > 0, focal_times_baseline / np.where(depth > 0, depth, 1), 0)

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)


def visible(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(h, w) bool: the right camera sees the same surface, by both disparities in pixels."""
    rows, columns = np.indices(left.shape)
    there = np.round(columns - left).astype(int)
    inside = there >= 0
    return inside & (np.abs(right[rows, np.maximum(there, 0)] - left) < 1)


def save_disparity(path: Path, disparity: np.ndarray) -> None:
    """Write (H, W) pixels as uint16 of disparity * 256; 0 is unknown."""
    values = np.where(disparity > 0, (disparity * 256).round().clip(1, 65535), 0)
    save_array(path, values.astype(np.uint16))
