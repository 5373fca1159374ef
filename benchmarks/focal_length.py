"""The focal length of uncalibrated phone videos from their motion: true, estimated, and how long it takes.

    python -m benchmarks.focal_length [--walks 6 --frames 200 --height 360 --width 640 --seed 0]

Each walk is a hand-held video through a synthetic room with a focal length of its own, as
`tools/make_synthetic.py --layout phone` writes it. Only the frames that the estimate reads are rendered. The
seconds are processor time of one thread, without rendering.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np

from matching.focal import recorded_focal
from tools.layouts._base import Plan
from tools.layouts.phone import PhoneVideos
from utils import run_main

CLAIM = 0.02  # largest relative error
QUALITY = 95  # of the JPEG images, as `datasets.video` extracts them


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--walks", type=int, default=6, help="videos")
    parser.add_argument("--frames", type=int, default=200, help="frames of each, 15 per second")
    parser.add_argument("--height", type=int, default=360, help="height of the frames, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the frames, pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the rooms and focal lengths")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    size = args.height, args.width
    layout = PhoneVideos(Plan("phone", Path(), args.walks, args.frames, *size, args.seed, "jpg"))
    print("| walk | true, px | estimated, px | error, % | seconds |")
    print("|---:|---:|---:|---:|---:|")
    errors = [measure(layout, walk) for walk in range(args.walks)]
    within = sum(error <= CLAIM for error in errors)
    print(f"\nwithin {CLAIM:.0%}: {within} of {len(errors)}; largest error {max(errors):.1%}")


def measure(layout: PhoneVideos, walk: int) -> float:
    """Print the row of one walk; returns the relative error, infinite if the motion gives no estimate."""
    rendering = 0.0

    def read(frame: int) -> np.ndarray:
        nonlocal rendering
        started = time.process_time()
        image = layout.view(walk, frame).image
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        rendering += time.process_time() - started
        return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])

    started = time.process_time()
    found = recorded_focal(read, [range(layout.plan.frames)])
    seconds = time.process_time() - started - rendering
    true = layout.camera(walk).intrinsics[0, 0]
    if found is None:
        print(f"| {walk} | {true:.1f} | not determined | | {seconds:.1f} |", flush=True)
        return math.inf
    focal = found.share * layout.plan.width
    error = focal / true - 1
    print(f"| {walk} | {true:.1f} | {focal:.1f} | {100 * error:+.2f} | {seconds:.1f} |", flush=True)
    return abs(error)


if __name__ == "__main__":
    run_main(main)
