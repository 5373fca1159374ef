"""tools/sift_matches.py against a plain implementation of the published steps, on the same pictures.

    python -m benchmarks.sift_matches [--data_path DDAD --dataset ddad] [--samples 2]

The plain one is one process that does what the published tools do: SIFT on whole pictures, features written
to disk and read back for either pair, brute-force matching, a loop over the matches. Both must find the same
matches. OpenCV may use every core in the plain one, as it does by default. Without data a rig is drawn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from datasets import build_dataset
from datasets._surround import SurroundDataset
from tools.layouts._base import Plan
from tools.make_synthetic import make
from tools.sift_matches import labels, match_paths, neighbours, write_matches
from utils import run_main

DRAWN = (608, 968)  # height and width of drawn pictures: half of DDAD's


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ddad", help="ddad or nuscenes")
    parser.add_argument("--data_path", help="root of the dataset; drawn where not given")
    parser.add_argument("--part", default="val", help="of its split")
    parser.add_argument("--samples", type=int, default=2, help="how many; processes take one each")
    parser.add_argument("--workers", type=int, default=2, help="processes of ours")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.data_path:
            args.data_path = Path(folder) / "data"
            make(Plan(args.dataset, args.data_path, 2, max(3, args.samples), *DRAWN, seed=0, ext="jpg"))
        options = {"dataset": args.dataset, "data_path": args.data_path}
        dataset = build_dataset(options, part=args.part, frame_ids=(0,))
        indices = range(min(args.samples, len(dataset)))
        start = time.perf_counter()
        plain = [plain_matches(dataset, index, Path(folder)) for index in indices]
        seconds_plain = time.perf_counter() - start
        dataset.matches = Path(folder) / "ours"
        start = time.perf_counter()
        write_matches(dataset, indices, args.workers, published_grey=True)
        seconds_ours = time.perf_counter() - start
        ours = [
            [np.load(path, allow_pickle=False) for path in match_paths(dataset, index)] for index in indices
        ]
    for expected, found in zip(plain, ours, strict=True):
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a.astype(np.float32), b)
    count = sum(len(rows) for sample in ours for rows in sample)
    print(f"{len(indices)} samples, {count} rows, equal in both")
    print(
        f"published steps {seconds_plain:.1f} s, ours {seconds_ours:.1f} s: "
        f"{seconds_plain / seconds_ours:.1f}x"
    )


def plain_matches(dataset: SurroundDataset, index: int, folder: Path) -> list[np.ndarray]:
    """The published steps for one sample: (K, 6) float64 a camera."""
    line = dataset.lines[index]
    paths = dataset.paths(line, 0)
    sizes = []
    for camera, path in enumerate(paths):  # the first tool
        grey = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_RGB2GRAY)
        sizes.append(grey.shape)
        detector = cv2.SIFT_create(edgeThreshold=8, contrastThreshold=0.01)
        keypoints, descriptors = detector.detectAndCompute(grey, None)
        places = np.array([keypoint.pt for keypoint in keypoints])
        np.savez(folder / f"{camera}.npz", places=places, descriptors=descriptors)
    rows: list[list[np.ndarray]] = [[] for _ in paths]
    rig = dataset.rig_from_camera(line)
    for camera, left in neighbours(dataset.camera_names):  # the second tool
        source, target = np.load(folder / f"{camera}.npz"), np.load(folder / f"{left}.npz")
        reach, width = dataset.overlap * sizes[camera][1], sizes[left][1]
        left_edge = source["places"][:, 0] < reach
        right_edge = target["places"][:, 0] > width - dataset.overlap * width
        a, b = source["places"][left_edge], target["places"][right_edge]
        found = cv2.BFMatcher().knnMatch(
            source["descriptors"][left_edge], target["descriptors"][right_edge], k=2
        )
        kept, last = [], None
        for first, second in found:
            if first.distance < 0.75 * second.distance:
                if last is None or tuple(a[last.queryIdx]) != tuple(a[first.queryIdx]):
                    kept.append(first)
                elif last.distance > first.distance:
                    kept[-1] = first
                last = first
        places = a[[m.queryIdx for m in kept]], b[[m.trainIdx for m in kept]]
        K = [dataset.intrinsics(line, n, *sizes[n]) for n in (camera, left)]
        for place, found_rows in zip(
            (camera, left), labels(*places, *K, np.linalg.inv(rig[left]) @ rig[camera])
        ):
            rows[place].append(found_rows)
    return [np.concatenate(parts) for parts in rows]


if __name__ == "__main__":
    run_main(main)
