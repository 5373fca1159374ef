"""Samples per second of our loader without and with measured depth and speed, on one core.

    python -m benchmarks.measured_depth [--height 192 --width 640 --seconds 8]

Reads drawn JPEG images as KITTI, three frames a sample: images only, with the speed of the inertial unit,
with a LiDAR scan of 120,000 points as supervision, and as input depth. Scans are projected in the first
epoch and kept (datasets/_depth_cache.py). The last lines are a first epoch, and exported ground truth.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._turns import DRAWN, draw, race
from datasets.exporting import write_exported
from datasets.kitti import Kitti
from utils import run_main

POINTS = 120_000  # of a scan of KITTI's LiDAR
DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
CAMERA = (
    "R_rect_00: 1 0 0 0 1 0 0 0 1\nS_rect_02: 1242 375\n"
    "P_rect_02: 721.5 0 609.6 44.9 0 721.5 172.9 0.2 0 0 1 0\n"
)
MEASURED: dict[str, dict[str, Any]] = {
    "images": {},
    "+ speed": {"speed": "velocity"},
    "+ speed, supervision": {"speed": "velocity", "supervision": True},
    "+ speed, input depth": {"speed": "velocity", "input_depth": True},
    "+ both depths": {"speed": "velocity", "supervision": True, "input_depth": True},
    "+ both, first epoch": {
        "speed": "velocity", "supervision": True, "input_depth": True, "depth_cache": False
    },
}  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=192, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the network input, pixels")
    parser.add_argument("--seconds", type=float, default=8, help="seconds to measure each way")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'KITTI, jpg':<26}{'samples / s':>12}{'more time':>12}")
    with tempfile.TemporaryDirectory() as folder:
        draw_kitti(Path(folder))
        ways = {name: open_kitti(Path(folder), args, **settings) for name, settings in MEASURED.items()}
        plain, *_ = rates = race([part.__getitem__ for part in ways.values()], DRAWN - 2, args.seconds)
        exported = open_kitti(Path(folder), args, **MEASURED["+ both depths"])
        write_exported(
            exported.exported.path, [(exported.name(n), exported.measured(n)) for n in range(len(exported))]
        )
        exported.exported.refresh()
        once, last = race([ways["images"].__getitem__, exported.__getitem__], DRAWN - 2, args.seconds)
    rates, names = [*rates, last * plain / once], [*ways, "+ both depths, exported"]
    for name, rate in zip(names, rates):
        print(f"{name:<26}{rate:>12.1f}{100 * (plain / rate - 1):>10.0f} %")


def open_kitti(folder: Path, args: argparse.Namespace, **settings: Any) -> Kitti:
    """The drawn drive."""
    sizes = {"height": args.height, "width": args.width}
    return Kitti(folder, folder / "lists", "train", intrinsics="fixed", **sizes, **settings)


def draw_kitti(folder: Path) -> None:
    """A drive of drawn images with scans on a half sphere in front of the car, oxts and lists."""
    rng = np.random.default_rng(1)
    drive = folder / DRIVE
    parts = ("image_02/data", "velodyne_points/data", "oxts/data")
    images, scans, records = (drive / part for part in parts)
    for path in (images, scans, records, folder / "lists"):
        path.mkdir(parents=True)
    draw(images, "jpg")
    for number in range(DRAWN):
        (images / f"{number:04d}.jpg").rename(images / f"{number:010d}.jpg")
        azimuth = rng.uniform(-np.pi, np.pi, POINTS)
        elevation = np.radians(rng.uniform(-24.8, 2, POINTS))
        distance = rng.uniform(4, 60, POINTS)
        axes = (
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.zeros(POINTS),
        )
        (distance * np.stack(axes)).T.astype("<f4").tofile(scans / f"{number:010d}.bin")
        values = [49.0, 8.4, 110.0, *[0.0] * 5, 8.0, *[0.0] * 21]
        (records / f"{number:010d}.txt").write_text(" ".join(map(str, values)))
    times = [f"2011-09-26 13:02:{0.1 * number + 1:012.9f}" for number in range(DRAWN)]
    (drive / "oxts" / "timestamps.txt").write_text("\n".join(times))
    lines = [f"{DRIVE} {number} l" for number in range(1, DRAWN - 1)]
    (folder / "lists" / "train_files.txt").write_text("\n".join(lines))
    (drive.parent / "calib_cam_to_cam.txt").write_text(CAMERA)
    (drive.parent / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n")


if __name__ == "__main__":
    run_main(main)
