"""tools/sift_matches.py compared with a plain implementation of the published steps, on the same images.

    python -m benchmarks.sift_matches [--data_path DDAD --dataset ddad] [--samples 2]

The plain implementation is one process: SIFT on whole images, key points and descriptors written and read
back for each pair, a mask looked up point by point, brute-force matching, a loop over the matches. It runs
with OpenCV on one core and on all cores. All must find the same matches. Wall time excludes the start of
processes, which is shown separately and does not grow with the number of samples. Without data a rig is
rendered.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.prepare_cityscapes import timed
from datasets import open_dataset
from datasets.surround import SurroundDataset
from tools._rig_matches import labels, match_paths, neighbours, write_matches
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import run_main
from workers import run_tasks

DRAWN = (608, 968)  # height and width of drawn images: half of DDAD's


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ddad", help="dataset of a rig: ddad or nuscenes")
    parser.add_argument("--data_path", help="root of the dataset; else a rig is rendered")
    parser.add_argument("--part", default="val", help="part of the split")
    parser.add_argument("--samples", type=int, default=2, help="samples to match")
    parser.add_argument("--workers", type=int, default=2, help="processes of our tool")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.data_path:
            args.data_path = Path(folder) / "data"
            make(Plan(args.dataset, args.data_path, 2, max(3, args.samples), *DRAWN, seed=0, ext="jpg"))
        options = {"dataset": args.dataset, "data_path": args.data_path}
        dataset = open_dataset(options, "inspect", part=args.part, frame_ids=(0,))
        indices = range(min(args.samples, len(dataset)))
        ways = {}
        for cores, threads in (("one core", 1), ("every core", cv2.getNumberOfCPUs())):
            cv2.setNumThreads(threads)
            plain: list[list[np.ndarray]] = []
            work = functools.partial(add_plain, plain, dataset, indices, Path(folder))
            ways[f"published, {cores}"] = (*timed(work), 0.0)
        starting, _ = timed(lambda: list(run_tasks(noop, range(args.workers), args.workers)))
        dataset.matches = Path(folder) / "ours"
        clock, computing = timed(lambda: write_matches(dataset, indices, args.workers, published_grey=True))
        ways[f"ours, {args.workers} processes"] = (clock - starting, computing, starting)
        ours = [
            [np.load(path, allow_pickle=False) for path in match_paths(dataset, index)] for index in indices
        ]
    for expected, found in zip(plain, ours, strict=True):
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.astype(np.float32), b)
    count = sum(len(rows) for sample in ours for rows in sample)
    print(f"{len(indices)} samples, {count} rows, equal in both")
    print(f"{'':<24}{'clock':>8}{'ratio':>8}{'computing':>12}{'ratio':>8}{'starting':>12}")
    base = ways["published, one core"]
    for way, (clock, computing, starting) in ways.items():
        print(
            f"{way:<24}{clock:>6.1f} s{base[0] / clock:>7.1f}x"
            f"{computing:>10.1f} s{base[1] / computing:>7.1f}x{starting:>10.1f} s"
        )


def noop(task: object) -> None:
    """A task without work, to measure the start of a process."""


def add_plain(found: list, dataset: SurroundDataset, indices: Iterable[int], folder: Path) -> None:
    """The published steps for every sample, appended to `found`."""
    found.extend(plain_matches(dataset, index, folder) for index in indices)


def plain_matches(dataset: SurroundDataset, index: int, folder: Path) -> list[np.ndarray]:
    """The published steps for one sample: (K, 6) float64 a camera."""
    line = dataset.samples[index]
    paths = dataset.paths(line, 0)
    sizes = []
    for camera, path in enumerate(paths):  # the first tool
        grey = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_RGB2GRAY)
        sizes.append(grey.shape)
        detector = cv2.SIFT_create(edgeThreshold=8, contrastThreshold=0.01)
        keypoints, descriptors = detector.detectAndCompute(grey, None)
        np.savez(folder / f"{camera}.npz", kp=[taken_apart(point) for point in keypoints], des=descriptors)
    rows: list[list[np.ndarray]] = [[] for _ in paths]
    rig = dataset.rig_from_camera(line)
    for camera, left in neighbours(dataset.camera_names):  # the second tool
        height, width = sizes[camera]
        reach = dataset.overlap * width
        source, target = (read_features(folder / f"{name}.npz") for name in (camera, left))
        source_region, target_region = np.zeros((2, height, width), np.uint8)
        source_region[:, : int(np.ceil(reach))] = 1
        target_region[:, int(np.ceil(width - reach)) :] = 1
        a, source_descriptors = in_region(*source, source_region)
        b, target_descriptors = in_region(*target, target_region)
        found = cv2.BFMatcher().knnMatch(source_descriptors, target_descriptors, k=2)
        kept, last = [], None
        for first, second in found:
            if first.distance < 0.75 * second.distance:
                if last is None or a[last.queryIdx].pt != a[first.queryIdx].pt:
                    kept.append(first)
                elif last.distance > first.distance:
                    kept[-1] = first
                last = first
        places = np.array([a[m.queryIdx].pt for m in kept]), np.array([b[m.trainIdx].pt for m in kept])
        K = [dataset.intrinsics(line, n, *sizes[n]) for n in (camera, left)]
        T = np.linalg.inv(rig[left]) @ rig[camera]
        for place, found_rows in zip((camera, left), labels(*places, *K, T)):
            rows[place].append(found_rows)
    return [np.concatenate(parts) for parts in rows]


def taken_apart(point: cv2.KeyPoint) -> tuple[float, ...]:
    """A key point as numbers."""
    return *point.pt, point.size, point.angle, point.response, point.octave, point.class_id


def read_features(path: Path) -> tuple[list[cv2.KeyPoint], np.ndarray]:
    """Key points and descriptors, read back."""
    with np.load(path, allow_pickle=False) as file:
        points = [cv2.KeyPoint(*row[:5], *map(int, row[5:])) for row in file["kp"].tolist()]
        return points, file["des"]


def in_region(
    points: list[cv2.KeyPoint], descriptors: np.ndarray, region: np.ndarray
) -> tuple[list[cv2.KeyPoint], np.ndarray]:
    """The features inside a (h, w) mask."""
    chosen = [n for n, point in enumerate(points) if region[int(point.pt[1]), int(point.pt[0])]]
    return [points[n] for n in chosen], descriptors[chosen]


if __name__ == "__main__":
    run_main(main)
