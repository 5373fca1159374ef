"""The synthetic world on disk, in the layout of a real dataset, with ground truth and splits beside it.

    python tools/make_synthetic.py --layout kitti --out data/synthetic --sequences 8 --frames 40

One sequence is one world, drawn from `--seed` and its number. Equal commands write equal bytes.
"""

from __future__ import annotations

import argparse
import errno
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.synthetic import Camera, View, World, rotation
from utils import InputError, atomic_path, nearest_name, run_main

RATE = 10.0  # frames a second
CITYSCAPES_COLOURS = np.array(  # of the 19 train ids
    [
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ],
    np.uint8,
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is to be written. Sizes in pixels; `ext` is png or jpg."""

    layout: str
    out: Path
    sequences: int
    frames: int
    height: int
    width: int
    seed: int
    ext: str

    def world(self, sequence: int) -> World:
        return _world(self.seed * 1000 + sequence, self.frames / RATE)


@functools.lru_cache(maxsize=4)
def _world(seed: int, seconds: float) -> World:
    return World(seed, seconds)


# Layouts: each writes one frame of one sequence, then what a sequence and the whole set have once.


class Layout:
    """A dataset's place on disk. A further layout is a subclass and its name in LAYOUTS."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def write_frame(self, sequence: int, frame: int) -> None:
        raise NotImplementedError

    def write_sequence(self, sequence: int) -> None:
        """Calibration, poses, time stamps."""

    def write_splits(self) -> None:
        """Lists of training and evaluation frames."""

    def gallery_view(self, sequence: int) -> View:
        """The view in the middle of a sequence, for the contact sheet."""
        raise NotImplementedError

    def held_out(self) -> list[int]:
        """The last quarter of the sequences, at least one where there are two."""
        count = self.plan.sequences
        return list(range(count - max(count // 4, int(count > 1)), count))


class KittiRaw(Layout):
    """KITTI raw: a stereo pair, a LiDAR and an inertial unit, with their calibration files.

    Beside what the real recordings hold: dense `proj_depth/groundtruth` (uint16, depth * 256), `semantics`
    (train ids) and `poses.txt` (camera-02-to-world, rows of 12) in each drive.
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
            if camera == 2:
                save_depth(folder / f"proj_depth/groundtruth/image_02/{name}.png", view.depth)
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


class SceneFolders(Layout):
    """SC-Depth's folders: training/<scene>/*.jpg with cam.txt and depth/*.png (uint16, depth * 256)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.camera = Camera.like_kitti(plan.height, plan.width)

    def scene(self, sequence: int) -> str:
        return f"scene_{sequence:03d}"

    def view(self, sequence: int, frame: int) -> View:
        world, time = self.plan.world(sequence), frame / RATE
        return world.render(self.camera, world.ego_pose(time) @ looking_ahead(0, 0, 1.65), time)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, view = self.plan.out / "training" / self.scene(sequence), self.view(sequence, frame)
        save_image(folder / f"{frame:06d}.{self.plan.ext}", view.image)
        save_depth(folder / f"depth/{frame:06d}.png", view.depth)

    def write_sequence(self, sequence: int) -> None:
        rows = "".join(numbers(row) + "\n" for row in self.camera.intrinsics)
        save_text(self.plan.out / "training" / self.scene(sequence) / "cam.txt", rows)

    def write_splits(self) -> None:
        held_out = self.held_out()
        training = [n for n in range(self.plan.sequences) if n not in held_out]
        for name, sequences in (("train", training), ("val", held_out or training)):
            lines = "".join(f"{self.scene(n)}\n" for n in sequences)
            save_text(self.plan.out / f"training/{name}.txt", lines)

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)


LAYOUTS: dict[str, type[Layout]] = {"kitti": KittiRaw, "kitti_odom": KittiOdometry, "folder": SceneFolders}


# KITTI's rig.


def looking_ahead(x: float, y: float, z: float) -> np.ndarray:
    """(4, 4) rig_from_camera of a camera at (x, y, z) on the rig that looks along its x axis."""
    rig_from_camera = np.eye(4)
    rig_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    rig_from_camera[:3, 3] = x, y, z
    return rig_from_camera


class KittiRig:
    """Where KITTI's sensors sit, in numbers close to those of 2011_09_26; the rig's origin is on the ground.

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
        """(4, 4), of the rectified camera 0 to 3."""
        camera_from_velo = self.camera_from_rectified(camera) @ self.rectified_from_velo
        return self.rig_from_velo @ np.linalg.inv(camera_from_velo)

    def projection(self, camera: int) -> np.ndarray:
        """(3, 4) P_rect: rectified camera 0, metres, to pixels of a camera."""
        return self.camera.intrinsics @ self.camera_from_rectified(camera)[:3]

    def view(self, world: World, camera: int, time: float) -> View:
        return world.render(self.camera, world.ego_pose(time) @ self.rig_from_camera(camera), time)

    def calibration_files(self) -> dict[str, str]:
        """Name to text of the three calibration files of a day."""
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
    cut = 1 + len(inner) * 3 // 4
    training = [
        (n, i) for n in range(plan.sequences) if n not in held_out for i in inner if held_out or i < cut
    ]
    rest = [(n, i) for n in held_out for i in inner] or [(0, i) for i in inner if i >= cut]
    lists = {
        "train": [f"{folder_of(n)} {i} {side}\n" for n, i in training for side in "lr"],
        "val": [f"{folder_of(n)} {i} l\n" for n, i in rest[2::4] or rest],
        "test": [f"{folder_of(n)} {i} l\n" for n, i in rest[::4]],
    }
    for name, lines in lists.items():
        save_text(plan.out / f"splits/{name}_files.txt", "".join(lines))


# Files.


def numbers(values: np.ndarray | Iterable[float]) -> str:
    """Values as calibration files write them, row by row."""
    return " ".join(f"{value:.12e}" for value in np.ravel(values))


def pose_row(pose: np.ndarray) -> str:
    return numbers(pose[:3]) + "\n"


def save_array(path: Path, array: np.ndarray) -> None:
    """A picture as OpenCV orders it; PNG or JPEG by the path's ending."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_PNG_COMPRESSION, 2]
    encoded = cv2.imencode(path.suffix, array, quality)[1]
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)


def save_image(path: Path, image: np.ndarray) -> None:
    """(H, W, 3) uint8 RGB."""
    save_array(path, np.ascontiguousarray(image[..., ::-1]))


def save_depth(path: Path, depth: np.ndarray) -> None:
    """(H, W) metres as uint16 of depth * 256; 0 where there is none."""
    save_array(path, (depth * 256).round().astype(np.uint16))


def save_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def contact_sheet(views: list[View]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: picture, inverse depth and semantics of each view, side by side."""
    rows = []
    for view in views:
        near = np.where(view.depth > 0, 4 / np.maximum(view.depth, 4), 0)
        depth = cv2.applyColorMap((near**0.7 * 255).astype(np.uint8), cv2.COLORMAP_MAGMA)[..., ::-1]
        rows.append(np.hstack([view.image, depth, CITYSCAPES_COLOURS[view.semantics]]))
    return np.vstack(rows)


# The command.


def check(plan: Plan, gallery: Path, overwrite: bool) -> None:
    """Refuse what cannot be written, before the first ray is cast.

    Raises:
        InputError: an unknown layout or ending, a size or count out of range, a folder in use.
    """
    if plan.layout not in LAYOUTS:
        raise InputError(f"there is no layout '{plan.layout}'{nearest_name(plan.layout, LAYOUTS)}")
    if plan.ext not in ("png", "jpg"):
        raise InputError(f"--ext is png or jpg, got '{plan.ext}'")
    if gallery.suffix not in (".png", ".jpg"):
        raise InputError(f"--gallery is a .png or .jpg file, got {gallery}")
    for name, least in (("sequences", 1), ("frames", 3), ("height", 32), ("width", 32), ("seed", 0)):
        if getattr(plan, name) < least:
            raise InputError(f"--{name} must be at least {least}, got {getattr(plan, name)}")
    if plan.out.exists() and not plan.out.is_dir():
        raise InputError(f"{plan.out} is a file; give a folder with --out")
    if plan.out.is_dir() and any(plan.out.iterdir()) and not overwrite:
        raise InputError(f"{plan.out} is not empty; give another --out, or --overwrite to write into it")


def write_frame(plan: Plan, sequence: int, frame: int) -> None:
    """One frame of one sequence, in the layout of the plan; a worker's task."""
    LAYOUTS[plan.layout](plan).write_frame(sequence, frame)


def make(plan: Plan, workers: int = 1, gallery: Path | None = None, overwrite: bool = False) -> None:
    """Write the whole set.

    Raises:
        InputError: see `check`; or the disk is full or not writable.
    """
    gallery = gallery or plan.out / "gallery.png"
    check(plan, gallery, overwrite)
    layout = LAYOUTS[plan.layout](plan)
    tasks = [(plan, sequence, frame) for sequence in range(plan.sequences) for frame in range(plan.frames)]
    try:
        with tqdm(total=len(tasks), unit="frame", desc=f"rendering {plan.layout}") as bar:
            for _ in _run(tasks, workers):
                bar.update()
        for sequence in range(plan.sequences):
            layout.write_sequence(sequence)
        layout.write_splits()
        views = [layout.gallery_view(sequence) for sequence in range(plan.sequences)]
        save_image(gallery, contact_sheet(views))
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise InputError(f"{plan.out} cannot be written: {reason}") from error
    except BrokenProcessPool:
        raise InputError(
            f"a worker was killed, perhaps for memory; try fewer than --workers {workers}"
        ) from None


def _run(tasks: list[tuple[Plan, int, int]], workers: int) -> Iterable[None]:
    """Do every task, in this process or in several; yields as each is done."""
    if workers <= 1:
        for task in tasks:
            yield write_frame(*task)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a worker, read when a worker starts
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(write_frame, *task) for task in tasks]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--layout", default="kitti", help=f"one of {', '.join(LAYOUTS)} (default: kitti)")
    add("--out", type=Path, required=True, help="folder to write; must be new or empty")
    add("--sequences", type=int, default=8, help="worlds to render (default: 8)")
    add("--frames", type=int, default=40, help="frames of each, ten a second (default: 40)")
    add("--height", type=int, default=128, help="of the pictures, pixels (default: 128)")
    add("--width", type=int, default=416, help="of the pictures, pixels (default: 416)")
    add("--seed", type=int, default=0, help="which worlds (default: 0)")
    add("--ext", default="png", help="png or jpg (default: png)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    add("--gallery", type=Path, help="contact sheet of every sequence (default: <out>/gallery.png)")
    add("--overwrite", action="store_true", help="write into a folder that is not empty")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    names = ("layout", "out", "sequences", "frames", "height", "width", "seed", "ext")
    plan = Plan(**{name: getattr(given, name) for name in names})
    make(plan, given.workers, given.gallery, given.overwrite)
    print(f"wrote {plan.sequences} sequences of {plan.frames} frames to {plan.out}")


if __name__ == "__main__":
    run_main(main)
