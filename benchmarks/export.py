"""Samples per second of our ground-truth exporter and of the published ones in one process; equal output.

    python -m benchmarks.export [--datasets kitti ddad nuscenes] [--samples 300] [--plain 40] [--workers 2]

Draws calibrations and LiDAR scans of each dataset's size (images are empty files, since no export opens them)
and writes their depth maps with our export and with a plain one. The plain exports are written from their
descriptions: KITTI's searches points that share a pixel in a loop and compresses full maps; SurroundDepth's
save each full float32 map as .npy. Our time includes starting processes and joining chunks. Every map of the
plain export is compared with ours. Processor time sums all processes and does not depend on other load; on
two free cores the speed-up is twice its ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets import open_dataset
from datasets.kitti import Kitti
from datasets.sequence import SequenceDataset
from evaluation.export import export
from tools.layouts import LAYOUTS
from tools.layouts._base import Plan, save_text
from tools.layouts.nuscenes import SENSORS
from utils import run_main

SIZES = {"kitti": (375, 1242), "ddad": (1216, 1936), "nuscenes": (900, 1600)}
POINTS = {"kitti": 120_000, "ddad": 49_000, "nuscenes": 34_700}  # points per scan, as in real recordings
FRAMES = 100  # frames per drive


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--datasets", nargs="+", default=list(SIZES), choices=list(SIZES), help="what to measure"
    )
    parser.add_argument("--samples", type=int, default=300, help="samples that our exporter writes")
    parser.add_argument("--plain", type=int, default=40, help="samples of these that the plain export writes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of our exporter")
    args = parser.parse_args()
    print(f"{args.workers} processes of ours against one plain; a sample is all its cameras\n")
    head = ("plain", "ours", "ratio", "plain ms", "ours ms", "ratio", "plain MB", "ours MB")
    print(f"{'':<10}{'samples a second':^30}{'processor, a sample':^30}{'on disk, a sample':^20}")
    print(f"{'':<10}" + "".join(f"{word:>10}" for word in head))
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as folder:
            race(name, Path(folder), args)


def race(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Export one dataset with ours and the plain export, compare, and print a line of the table."""
    dataset = DRAW[name](folder / "data", args.samples)
    plain_folder = folder / "plain"
    plain_folder.mkdir()
    checked = range(min(args.plain, len(dataset)))

    with Clock(len(checked)) as plain:
        for index in checked:
            PLAIN[name](dataset, index, plain_folder)
    plain_size = sum(path.stat().st_size for path in plain_folder.iterdir()) / len(checked)

    with contextlib.redirect_stderr(io.StringIO()), Clock(len(dataset)) as ours:  # without a progress bar
        path, written, _ = export(dataset, workers=args.workers)

    dataset.exported.refresh()
    for index in checked:
        same = np.array_equal(dataset.exported.get(dataset.name(index)), read_plain(plain_folder, index))
        assert same, f"{name}, sample {index}: the two exports differ"
    faster, lighter = ours.rate / plain.rate, plain.processor / ours.processor
    columns = [
        f"{plain.rate:>10.1f}{ours.rate:>10.1f}{faster:>9.1f}x",
        f"{1e3 * plain.processor:>10.1f}{1e3 * ours.processor:>10.1f}{lighter:>9.1f}x",
        f"{plain_size / 1e6:>10.2f}{path.stat().st_size / written / 1e6:>10.2f}",
    ]
    print(f"{name:<10}" + "".join(columns))


class Clock:
    """Samples per second, and processor seconds per sample of this process and its finished children."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Clock:
        self._started, self._used = time.perf_counter(), sum(os.times()[:4])
        return self

    def __exit__(self, *error: object) -> None:
        self.rate = self.count / (time.perf_counter() - self._started)
        self.processor = (sum(os.times()[:4]) - self._used) / self.count


def read_plain(folder: Path, index: int) -> np.ndarray:
    """(N, h, w) as a plain export wrote them."""
    packed = folder / f"{index}.npz"
    if packed.is_file():
        return np.load(packed)["data"][None]
    return np.stack([np.load(path) for path in sorted(folder.glob(f"{index}_*.npy"))])


# ------------------------------------------------------------------------------------------- plain exports


def plain_kitti(dataset: Kitti, index: int, folder: Path) -> None:
    """Monodepth2's export: calibration of each image, shared pixels one by one, full maps deflated.

    The published file holds all maps at once, each deflated; here each is a file of its own.
    """
    sample = dataset.samples[index]
    date = dataset.data_path / sample.folder.split("/")[0]
    cameras, velodyne = (
        read_calibration(date / "calib_cam_to_cam.txt"),
        read_calibration(date / "calib_velo_to_cam.txt"),
    )
    camera_from_velodyne, rectified = np.eye(4), np.eye(4)
    camera_from_velodyne[:3] = np.hstack([velodyne["R"].reshape(3, 3), velodyne["T"][:, None]])
    rectified[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
    projection = cameras["P_rect_02"].reshape(3, 4) @ rectified @ camera_from_velodyne
    width, height = cameras["S_rect_02"].astype(int)

    scan = dataset.data_path / sample.folder / f"velodyne_points/data/{sample.frame:010d}.bin"
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    points[:, 3] = 1
    points = points[points[:, 0] >= 0]
    image = (projection @ points.T).T
    u, v = np.round(image[:, 0] / image[:, 2]) - 1, np.round(image[:, 1] / image[:, 2]) - 1
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    u, v, forward = u[inside].astype(int), v[inside].astype(int), points[inside, 0]
    depth = np.zeros((height, width))
    depth[v, u] = forward
    place = v * (width - 1) + u - 1
    for shared in [value for value, count in Counter(place).items() if count > 1]:
        meeting = np.where(place == shared)[0]
        depth[v[meeting[0]], u[meeting[0]]] = forward[meeting].min()
    depth[depth < 0] = 0
    np.savez_compressed(folder / f"{index}.npz", data=depth.astype(np.float32))


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """The numeric entries of a calibration file."""
    entries = {}
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if set(value) <= set("0123456789.e+- "):
            entries[key] = np.array([float(word) for word in value.split()])
    return entries


def plain_ddad(dataset: SequenceDataset, index: int, folder: Path) -> None:
    """SurroundDepth's export by the DGP library's rules; calibrations and poses come from our reader."""
    sample, lidar = dataset.samples[index], len(dataset.sensors)
    scene = dataset.scenes[sample.scene]
    points = np.load(scene.file(sample.number, lidar))["data"][:, :3]
    points = np.hstack([points, np.ones((len(points), 1))])
    world = scene.world_from_sensor(sample.number, lidar) @ points.T
    for camera, sensor in enumerate(dataset.sensors):
        seen = np.linalg.inv(scene.world_from_sensor(sample.number, camera)) @ world
        K = scene.calibration(sample.number).K(sensor).astype(np.float64)
        save_seen(seen, K, SIZES["ddad"], np.trunc, folder / f"{index}_{camera}.npy")


def plain_nuscenes(dataset: SequenceDataset, index: int, folder: Path) -> None:
    """SurroundDepth's export of a key frame; calibrations and poses come from our reader."""
    sample = dataset.samples[index]
    row = dataset._scans[sample.number]
    points = np.fromfile(dataset.data_path / dataset._index.filename(row), np.float32).reshape(-1, 5)[:, :3]
    points = np.hstack([points, np.ones((len(points), 1))])
    world = dataset._index.world_from_sensor(row) @ points.T
    for camera, world_from_camera in enumerate(dataset._world_from_camera(sample, 0)):
        K = dataset._recorded_intrinsics(sample, camera)
        seen = np.linalg.inv(world_from_camera) @ world
        save_seen(seen, K, SIZES["nuscenes"], np.round, folder / f"{index}_{camera}.npy")


def save_seen(points: np.ndarray, K: np.ndarray, size: tuple[int, int], whole, path: Path) -> None:
    """Points (4, P) of a camera as a full float32 map; the last of several points in a pixel is kept."""
    points = points[:3, points[2] > 0]
    pixels = K @ points
    u, v = whole(pixels[:2] / pixels[2])
    inside = (u >= 0) & (v >= 0) & (u < size[1]) & (v < size[0])
    depth = np.zeros(size, np.float32)
    depth[v[inside].astype(int), u[inside].astype(int)] = points[2, inside]
    np.save(path, depth)


# -------------------------------------------------------------------------------------------- drawn scans


def scan(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 4) float32: rings around the sensor over a ground that rises to walls; x, y, z, reflectance."""
    rings = 64
    azimuth = np.linspace(-np.pi, np.pi, count // rings, endpoint=False)[None] + np.zeros((rings, 1))
    elevation = np.radians(np.linspace(-24.8, 2, rings))[:, None]
    walls = 12 + 8 * np.sin(3 * azimuth + rng.uniform(0, 6)) ** 2 + rng.normal(0, 0.02, azimuth.shape)
    ground = 1.73 / np.maximum(np.sin(-elevation), 1e-3)
    distance = np.minimum(walls / np.cos(elevation), ground)
    flat = distance * np.cos(elevation)
    points = [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation), 0 * flat]
    return np.stack(points, -1).reshape(-1, 4).astype(np.float32)


def drives(samples: int) -> Iterator[tuple[int, int]]:
    """Number of frames in each drive."""
    return -(-samples // FRAMES), min(samples, FRAMES)


def draw_kitti(root: Path, samples: int) -> Kitti:
    sequences, frames = drives(samples)
    layout = LAYOUTS.get("kitti")(Plan("kitti", root, sequences, frames, *SIZES["kitti"], 0, "png"))
    rng = np.random.default_rng(0)
    for name, text in layout.rig.calibration_files().items():
        save_text(root / layout.date / name, text)
    lines = [(n, frame) for n in range(sequences) for frame in range(frames)][:samples]
    for sequence, frame in lines:
        drive = root / layout.drive(sequence)
        save_text(drive / f"image_02/data/{frame:010d}.png", "")
        points = drive / f"velodyne_points/data/{frame:010d}.bin"
        points.parent.mkdir(parents=True, exist_ok=True)
        scan(POINTS["kitti"], rng).tofile(points)
    save_text(root / "lists/test_files.txt", "".join(f"{layout.drive(n)} {frame} l\n" for n, frame in lines))
    lists = str(root / "lists")
    return Kitti(root, lists, "test", (0,), ground_truth="velodyne_published", intrinsics="fixed")


def draw_ddad(root: Path, samples: int) -> SequenceDataset:
    sequences, frames = drives(samples)
    layout = LAYOUTS.get("ddad")(Plan("ddad", root, 2 * sequences, frames, *SIZES["ddad"], 0, "png"))
    layout.held_out = lambda: list(range(sequences))
    layout.write_splits()
    rng = np.random.default_rng(0)
    for sequence in range(sequences):
        layout.write_sequence(sequence)
        for frame in range(frames):
            stamp, late = (layout.stamp(sequence, frame / 10 + lag) for lag in (0, 0.0137))
            folder = root / layout.scene(sequence)
            for sensor in layout.calibration()["names"][1:]:
                save_text(folder / f"rgb/{sensor}/{stamp}.png", "")
            points = folder / f"point_cloud/LIDAR/{late}.npz"
            points.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(points, data=scan(POINTS["ddad"], rng).astype(np.float64))
    return open_dataset({"dataset": "ddad", "data_path": root}, "inspect", part="val", frame_ids=(0,))


def draw_nuscenes(root: Path, samples: int) -> SequenceDataset:
    sequences, frames = drives(samples)
    plan = Plan("nuscenes", root, sequences, 5 * frames, *SIZES["nuscenes"], 0, "png")
    layout = LAYOUTS.get("nuscenes")(plan)
    layout.held_out = lambda: list(range(sequences))
    layout.write_splits()
    rng = np.random.default_rng(0)
    for sequence in range(sequences):
        for frame in filter(layout.is_key, range(5 * frames)):
            *shots, lidar = [layout.shot(channel, frame) for channel in SENSORS]
            for shot in shots:
                save_text(root / layout.filename(sequence, shot), "")
            points = root / layout.filename(sequence, lidar)
            points.parent.mkdir(parents=True, exist_ok=True)
            drawn = scan(POINTS["nuscenes"], rng)
            np.column_stack([drawn, drawn[:, 3]]).tofile(points)
    return open_dataset({"dataset": "nuscenes", "data_path": root}, "inspect", part="val", frame_ids=(0,))


DRAW = {"kitti": draw_kitti, "ddad": draw_ddad, "nuscenes": draw_nuscenes}
PLAIN = {"kitti": plain_kitti, "ddad": plain_ddad, "nuscenes": plain_nuscenes}

if __name__ == "__main__":
    run_main(main)
