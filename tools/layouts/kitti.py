"""KITTI: drives as in KITTI raw and sequences as in KITTI odometry, from one rig of cameras and a LiDAR."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar

import numpy as np

from datasets.synthetic import Camera, View, World, rotation
from tools.layouts import LAYOUTS
from tools.layouts._base import (
    RATE,
    Layout,
    Plan,
    numbers,
    pose_row,
    save_array,
    save_depth,
    save_image,
    save_text,
)
from utils import atomic_path


@LAYOUTS.register("kitti")
class KittiRaw(Layout):
    """KITTI raw: a stereo pair, a LiDAR and an inertial unit, with their calibration files.

    Beyond the real recordings, each drive has dense `proj_depth/groundtruth` of both cameras (uint16,
    depth * 256), `semantics` of camera 02 (train ids) and `poses.txt` (camera-02-to-world, rows of 12).
    """

    date: ClassVar[str] = "2011_09_26"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rig = KittiRig(plan.height, plan.width)

    def drive(self, sequence: int) -> str:
        return f"{self.date}/{self.date}_drive_{sequence + 1:04d}_sync"

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, name = self.plan.out / self.drive(sequence), f"{frame:010d}"
        world, time = self.plan.world(sequence), frame / RATE
        for camera in (2, 3):
            view = self.rig.view(world, camera, time)
            save_image(folder / f"image_0{camera}/data/{name}.{self.plan.ext}", view.image)
            save_depth(folder / f"proj_depth/groundtruth/image_0{camera}/{name}.png", view.depth)
            if camera == 2:
                save_array(folder / f"semantics/image_02/{name}.png", view.semantics)
        scan = folder / f"velodyne_points/data/{name}.bin"
        with atomic_path(scan) as path:
            world.scan(world.ego_pose(time) @ self.rig.rig_from_velo, time).tofile(path)
        save_text(folder / f"oxts/data/{name}.txt", oxts(world, self.rig.rig_from_imu, time))

    def write_sequence(self, sequence: int) -> None:
        world, folder = self.plan.world(sequence), self.plan.out / self.drive(sequence)
        poses = [world.ego_pose(i / RATE) @ self.rig.rig_from_camera(2) for i in range(self.plan.frames)]
        save_text(folder / "poses.txt", "".join(pose_row(pose) for pose in poses))
        start = datetime(2011, 9, 26, 13, 2, 25)
        stamps = [start + timedelta(seconds=i / RATE) for i in range(self.plan.frames)]
        lines = "".join(f"{stamp:%Y-%m-%d %H:%M:%S.%f}000\n" for stamp in stamps)
        for sensor in ("image_02", "image_03", "velodyne_points", "oxts"):
            save_text(folder / sensor / "timestamps.txt", lines)
        for name, text in self.rig.calibration_files().items():
            save_text(self.plan.out / self.date / name, text)

    def write_splits(self) -> None:
        write_kitti_splits(self.plan, self.held_out(), self.drive)

    def gallery_view(self, sequence: int) -> View:
        return self.rig.view(self.plan.world(sequence), 2, self.plan.frames // 2 / RATE)


@LAYOUTS.register("kitti_odom")
class KittiOdometry(Layout):
    """KITTI odometry: numbered sequences, poses of camera 0 relative to its first frame."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rig = KittiRig(plan.height, plan.width)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, name = self.plan.out / f"sequences/{sequence:02d}", f"{frame:06d}"
        world, time = self.plan.world(sequence), frame / RATE
        for camera in (2, 3):
            view = self.rig.view(world, camera, time)
            save_image(folder / f"image_{camera}/{name}.{self.plan.ext}", view.image)
        with atomic_path(folder / f"velodyne/{name}.bin") as path:
            world.scan(world.ego_pose(time) @ self.rig.rig_from_velo, time).tofile(path)

    def write_sequence(self, sequence: int) -> None:
        world, folder = self.plan.world(sequence), self.plan.out / f"sequences/{sequence:02d}"
        poses = [world.ego_pose(i / RATE) @ self.rig.rig_from_camera(0) for i in range(self.plan.frames)]
        first_from_world = np.linalg.inv(poses[0])
        rows = "".join(pose_row(first_from_world @ pose) for pose in poses)
        save_text(self.plan.out / f"poses/{sequence:02d}.txt", rows)
        save_text(folder / "times.txt", "".join(f"{i / RATE:e}\n" for i in range(self.plan.frames)))
        lines = [f"P{n}: {numbers(self.rig.projection(n))}" for n in range(4)]
        lines.append(f"Tr: {numbers(self.rig.rectified_from_velo[:3])}")
        save_text(folder / "calib.txt", "\n".join(lines) + "\n")

    def write_splits(self) -> None:
        write_kitti_splits(self.plan, self.held_out(), str)
        for sequence in self.held_out():  # the pairs (t, t + 1) that evaluate_pose reads
            lines = (f"{sequence} {frame} l\n" for frame in range(self.plan.frames - 1))
            save_text(self.plan.out / f"splits/test_files_{sequence:02d}.txt", "".join(lines))

    def gallery_view(self, sequence: int) -> View:
        return self.rig.view(self.plan.world(sequence), 2, self.plan.frames // 2 / RATE)


class KittiRig:
    """KITTI's sensors, calibrated similar to 2011_09_26; the origin of the rig is on the ground.

    Args:
        height: pixels.
        width: pixels.
    """

    baseline: ClassVar[float] = 0.54  # metres from camera 2 to camera 3, which is to its right

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.camera = Camera.like_kitti(height, width)
        self.rig_from_velo = np.eye(4)
        self.rig_from_velo[2, 3] = 1.73
        self.rectification = rotation(0.008, -0.010, 0.007)  # camera 0 to the rectified camera 0
        straight = np.eye(4)
        straight[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
        self.camera_from_velo = self.rectification.T @ rotation(0.004, 0.002, -0.003) @ straight
        self.camera_from_velo[:3, 3] = -0.0041, -0.0763, -0.2718
        self.rectified_from_velo = self.rectification @ self.camera_from_velo
        self.velo_from_imu = rotation(-0.0008, 0.0015, 0.0148)
        self.velo_from_imu[:3, 3] = -0.8087, 0.3196, -0.7997
        self.rig_from_imu = self.rig_from_velo @ self.velo_from_imu
        left = 0.0597
        # Where the rectified cameras 0 to 3 have the rectified origin, metres.
        self.offsets = np.array([(0, 0), (-0.5372, 0), (left, 0.0027), (left - self.baseline, 0.0027)])

    def camera_from_rectified(self, camera: int) -> np.ndarray:
        shift = np.eye(4)
        shift[[0, 2], 3] = self.offsets[camera]
        return shift

    def rig_from_camera(self, camera: int) -> np.ndarray:
        """(4, 4) rig_from_camera of the rectified camera 0 to 3."""
        camera_from_velo = self.camera_from_rectified(camera) @ self.rectified_from_velo
        return self.rig_from_velo @ np.linalg.inv(camera_from_velo)

    def projection(self, camera: int) -> np.ndarray:
        """P_rect, (3, 4): from metres in rectified camera 0 to pixels of a camera."""
        return self.camera.intrinsics @ self.camera_from_rectified(camera)[:3]

    def view(self, world: World, camera: int, time: float) -> View:
        return world.render(self.camera, world.ego_pose(time) @ self.rig_from_camera(camera), time)

    def calibration_files(self) -> dict[str, str]:
        """Name → text of the three calibration files of a day."""
        stamp = "calib_time: 09-Jan-2012 13:57:47"
        size = numbers([self.width, self.height])
        lines = [stamp, "corner_dist: 9.950000e-02"]
        for camera in range(4):
            unrectified = self.rectification.T @ self.camera_from_rectified(camera)
            lines += [
                f"S_0{camera}: {size}",
                f"K_0{camera}: {numbers(self.camera.intrinsics)}",
                f"D_0{camera}: {numbers(np.zeros(5))}",
                f"R_0{camera}: {numbers(np.eye(3))}",
                f"T_0{camera}: {numbers(unrectified[:3, 3])}",
                f"S_rect_0{camera}: {size}",
                f"R_rect_0{camera}: {numbers(self.rectification[:3, :3])}",
                f"P_rect_0{camera}: {numbers(self.projection(camera))}",
            ]
        velo, imu = self.camera_from_velo, self.velo_from_imu
        return {
            "calib_cam_to_cam.txt": "\n".join(lines) + "\n",
            "calib_velo_to_cam.txt": f"{stamp}\nR: {numbers(velo[:3, :3])}\nT: {numbers(velo[:3, 3])}\n"
            "delta_f: 0.000000e+00 0.000000e+00\ndelta_c: 0.000000e+00 0.000000e+00\n",
            "calib_imu_to_velo.txt": f"{stamp}\nR: {numbers(imu[:3, :3])}\nT: {numbers(imu[:3, 3])}\n",
        }


def oxts(world: World, rig_from_imu: np.ndarray, time: float) -> str:
    """One line of 30 values of KITTI's inertial unit; its Mercator convention gives back the positions."""

    def pose(at: float) -> np.ndarray:
        return world.ego_pose(at) @ rig_from_imu

    here, before, after = pose(time), pose(time - 0.01), pose(time + 0.01)
    radius, latitude, longitude = 6378137.0, 49.011212804408, 8.4228850417969
    shrink = np.cos(np.radians(latitude))  # of the Mercator projection at the first frame
    east, north, up = here[:3, 3] - pose(0)[:3, 3]
    mercator = np.log(np.tan(np.radians(90 + latitude) / 2)) + north / (shrink * radius)
    place = (
        np.degrees(2 * np.arctan(np.exp(mercator))) - 90,
        longitude + np.degrees(east / (shrink * radius)),
        112.834923 + up,
    )
    roll = np.arctan2(here[2, 1], here[2, 2])
    pitch = -np.arcsin(here[2, 0])
    yaw = np.arctan2(here[1, 0], here[0, 0])
    velocity = (after - before)[:3, 3] / 0.02  # east, north, up
    acceleration = (after + before - 2 * here)[:3, 3] / 0.01**2 + (0, 0, 9.81)
    spin = (here[:3, :3].T @ (after - before)[:3, :3]) / 0.02
    rates = np.array([spin[2, 1], spin[0, 2], spin[1, 0]])
    body_velocity, body_acceleration = velocity @ here[:3, :3], acceleration @ here[:3, :3]
    values = (
        *place, roll, pitch, yaw, velocity[1], velocity[0], *body_velocity,
        *body_acceleration, *body_acceleration, *rates, *rates, 0.05, 0.01,
    )  # fmt: skip
    return " ".join(f"{value:.14g}" for value in values) + " 4 10 4 4 0\n"


def write_kitti_splits(plan: Plan, held_out: list[int], folder_of: Callable[[int], str]) -> None:
    """train, val and test lists of the frames that have both neighbours; a lone sequence is cut in time."""
    inner = range(1, plan.frames - 1)
    cut = 1 + max(1, len(inner) * 3 // 4)
    training = [
        (n, i) for n in range(plan.sequences) if n not in held_out for i in inner if held_out or i < cut
    ]
    rest = [(n, i) for n in held_out for i in inner] or [(0, i) for i in inner if i >= cut] or training
    lists = {
        "train": [f"{folder_of(n)} {i} {side}\n" for n, i in training for side in "lr"],
        "val": [f"{folder_of(n)} {i} l\n" for n, i in rest[2::4] or rest],
        "test": [f"{folder_of(n)} {i} l\n" for n, i in rest[::4]],
    }
    for name, lines in lists.items():
        save_text(plan.out / f"splits/{name}_files.txt", "".join(lines))
