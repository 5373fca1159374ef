"""One point cloud of a sequence: points that neighbouring frames confirm, one for each voxel.

    A point of frame t lies at depth z in frame s, which predicts depth d there.
    s agrees   if  |z / d - 1| <= tolerance
    kept       if at least `agree` of the frames t - REACH ... t + REACH agree
    voxel      the mean of the kept points in it

This is the geometric check of multi-view stereo (Yao et al. 2018, MVSNet, section 4.2), with depth and motion
of the networks. Blurred edges and the sky (clouds.py) are left out first. Objects that move are not
recognised: their points remain where frames agree on them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from clouds import below_sky, point_cloud, write_cloud
from datasets.resizing import resize_intrinsics
from intrinsics import GUESSED_ANGLE
from prediction.images import GUESSED
from prediction.streaming import SequenceCamera, SequenceFrame
from prediction.voxels import VOXEL, VoxelMeans
from trajectories import write_kitti, write_tum
from utils import InputError

REACH = 3  # frames before and after that may confirm a point
AGREE, TOLERANCE = 3, 0.05


class Posed(NamedTuple):
    """Depth (H, W), image (H, W, 3) uint8 and world_from_camera (4, 4) of a frame."""

    depth: np.ndarray
    image: np.ndarray
    pose: np.ndarray


class SequenceCloud:
    """Fuses the frames of a sequence while they come; at most 2 REACH + 1 of them are held.

    Args:
        paths: the .ply and .glb to write; the camera's path is written next to the first, as <stem>_kitti.txt
            and <stem>_tum.txt.
        camera: the sequence's intrinsics.
        fps: frames per second, for the times of the path.
        unit: unit of depth in words, for the file's header.
        agree: number of neighbouring frames that must agree on a point.
        tolerance: largest relative difference of depth at which they agree.
        voxel: edge of a voxel in the unit of depth; None for VOXEL times the first frame's median depth, and
            at least a pixel's width there.
    """

    needs_poses: ClassVar[bool] = True

    def __init__(
        self,
        paths: Sequence[Path],
        camera: SequenceCamera,
        fps: float,
        unit: str = "",
        agree: int = AGREE,
        tolerance: float = TOLERANCE,
        voxel: float | None = None,
    ) -> None:
        self.paths, self.camera, self.fps, self.unit = paths, camera, fps, unit
        self.agree, self.tolerance, self.voxel = agree, tolerance, voxel
        self.poses, self.times = [], []
        self.seen = self.kept = 0  # points
        self._window: deque[Posed] = deque(maxlen=2 * REACH + 1)
        self._next = 0  # position in the window of the frame that is fused next
        self._K: np.ndarray | None = None
        self._voxels: VoxelMeans | None = None

    def add(self, frame: SequenceFrame) -> None:
        """Take one frame; a frame is fused once its REACH successors are there.

        Raises:
            InputError: intrinsics that cannot belong to the frames.
        """
        intrinsics = self.camera.at(frame.image)
        depth = (1 / frame.inverse_depth[0]).cpu().numpy()
        if self._K is None:
            self._K = resize_intrinsics(intrinsics, frame.image.shape[-2:], depth.shape)
            self.voxel = self.voxel or max(VOXEL, 1 / self._K[0, 0]) * float(np.median(depth))
            self._voxels = VoxelMeans(self.voxel)
        self.poses.append(frame.world_from_camera)
        self.times.append(frame.number / self.fps)
        image = (frame.network_image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        self._next -= len(self._window) == self._window.maxlen
        self._window.append(Posed(depth, image, self.poses[-1]))
        if len(self._window) - self._next > REACH:
            self._fuse()

    def finish(self) -> str:
        """Fuse the last frames and write all files; returns a sentence about them.

        Raises:
            InputError: no point was confirmed, or a file cannot be written.
        """
        while self._next < len(self._window):
            self._fuse()
        if not self.kept:
            raise InputError(
                f"no point of {len(self.poses)} frames was confirmed: fewer than {self.agree} of their "
                f"neighbours agree within {self.tolerance:.0%} of the depth; try --ply_agree 1 or a larger "
                "--ply_tolerance"
            )
        points, colours = self._voxels.means()
        for path in self.paths:
            write_cloud(path, points, colours, self.unit)
        first = self.paths[0]
        written = {name: first.with_name(f"{first.stem}_{name}.txt") for name in ("kitti", "tum")}
        write_kitti(written["kitti"], np.stack(self.poses))
        write_tum(written["tum"], np.stack(self.poses), np.array(self.times))
        return (
            f"wrote {' and '.join(map(str, self.paths))}, {len(points)} points, from "
            f"{self.kept / self.seen:.0%} of the pixels: edges are left out, and {self.agree} neighbouring "
            f"frames agree within {self.tolerance:.0%}; the camera's path is in {written['kitti']} and "
            f"{written['tum']}{self._about_intrinsics()}"
        )

    def _about_intrinsics(self) -> str:
        if self.camera.source != GUESSED:
            return ""
        return (
            "; nothing gives the intrinsics (--intrinsics, or cam.txt next to the frames), so the camera is "
            f"assumed to see {GUESSED_ANGLE:g} degrees along the longer side"
        )

    def _fuse(self) -> None:
        """Add the confirmed points of the next frame of the window."""
        frame = self._window[self._next]
        others = [other for n, other in enumerate(self._window) if 0 < abs(n - self._next) <= REACH]
        counts = agreement(frame, others, self._K, self.tolerance)
        near = below_sky(frame.depth)
        points, colours = point_cloud(frame.depth, self._K, frame.image, kept=near & (counts >= self.agree))
        self._voxels.add(points @ frame.pose[:3, :3].T + frame.pose[:3, 3], colours)
        self.seen += int(near.sum())
        self.kept += len(points)
        self._next += 1


def agreement(frame: Posed, others: list[Posed], K: np.ndarray, tolerance: float) -> np.ndarray:
    """Number of other frames that agree on the depth of each pixel, (H, W).

    Args:
        frame, others: frames with one size; others that do not see a point do not agree on it.
        K: (3, 3) pixels.
        tolerance: largest relative difference of depth.
    """
    import cv2

    height, width = frame.depth.shape
    y, x = np.mgrid[0:height, 0:width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T
    points = rays * frame.depth[..., None]
    counts = np.zeros((height, width), int)
    for other in others:
        T_other_from_frame = np.linalg.inv(other.pose) @ frame.pose
        seen = (points @ T_other_from_frame[:3, :3].T + T_other_from_frame[:3, 3]) @ K.T
        z = seen[..., 2]
        ahead = z > 1e-6 * frame.depth
        u, v = (np.where(ahead, seen[..., n] / np.where(ahead, z, 1), -9).astype(np.float32) for n in (0, 1))
        # Inverse depth is linear on planes; 0 outside of the image agrees with nothing.
        inverse = cv2.remap((1 / other.depth).astype(np.float32), u, v, cv2.INTER_LINEAR, borderValue=0)
        counts += ahead & (np.abs(z * inverse - 1) <= tolerance)
    return counts
