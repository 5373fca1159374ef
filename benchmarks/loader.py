"""Samples per second of our loader and of the published pipeline, from the same files, on one core.

    python -m benchmarks.loader [--height 192 --width 640 --seconds 8]

Draws images of KITTI's size as JPEG and PNG and reads samples of three frames. Our loader and the
published pipeline alternate, so that other load slows both. The published pipeline returns float pyramids
with jitter. Our loader returns uint8 at the network size; its jitter runs on the device in training and is
timed on the same core here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.published import load_sample
from datasets.augmentation import Augment
from datasets.folder import Folder
from structures import Batch
from utils import run_main

FRAMES = 14
SIZE = (375, 1242)  # KITTI's


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=192, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the network input, pixels")
    parser.add_argument("--seconds", type=float, default=8, help="seconds to measure each way and format")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"three frames of {SIZE[1]}x{SIZE[0]} to {args.width}x{args.height}, one core; samples / second\n")
    print(f"{'':<6}{'published':>12}{'ours':>10}{'ratio':>8}{'with jitter':>14}{'ratio':>8}")
    for extension in ("jpg", "png"):
        with tempfile.TemporaryDirectory() as folder:
            published, ours, jittered = measure(Path(folder), extension, args)
        ratios = ours / published, jittered / published
        print(
            f"{extension:<6}{published:>12.1f}{ours:>10.1f}{ratios[0]:>7.1f}x{jittered:>14.1f}{ratios[1]:>7.1f}x"
        )


def measure(folder: Path, extension: str, args: argparse.Namespace) -> tuple[float, float, float]:
    """Samples per second: published, ours, ours with jitter on this core."""
    draw(folder, extension)
    dataset = Folder(folder, part="all", height=args.height, width=args.width, intrinsics="720 720 620 187")
    augment = Augment()

    def published(index: int) -> None:
        frames = {f: folder / f"{index + 1 + f:04d}.{extension}" for f in (0, -1, 1)}
        load_sample(frames, args.height, args.width)

    def ours(index: int) -> Batch:
        return dataset[index]

    def jittered(index: int) -> Batch:
        return augment(dataset[index].to("cpu"), epoch=index)

    return race([published, ours, jittered], len(dataset), args.seconds)


def race(ways: list[Callable[[int], object]], count: int, seconds: float) -> tuple[float, ...]:
    """Calls per second of each way, in turns of one round through the samples."""
    spent, calls = [0.0] * len(ways), [0] * len(ways)
    for way in ways:
        way(0)  # opens files and fills caches
    while min(spent) < seconds:
        for n, way in enumerate(ways):
            started = time.perf_counter()
            for index in range(count):
                way(index)
            spent[n] += time.perf_counter() - started
            calls[n] += count
    return tuple(n / s for n, s in zip(calls, spent))


def draw(folder: Path, extension: str) -> None:
    """Draw images of noise at several scales, which compress like photographs."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    for frame in range(FRAMES):
        canvas = np.zeros((height, width, 3))
        for size, strength in ((4, 60), (16, 40), (64, 25), (256, 12)):
            coarse = rng.uniform(-strength, strength, (size, size * 3, 3))
            layer = [
                Image.fromarray(c.astype(np.float32)).resize((width, height))
                for c in coarse.transpose(2, 0, 1)
            ]
            canvas += np.stack(layer, -1)
        image = Image.fromarray(np.clip(canvas + 128, 0, 255).astype(np.uint8))
        options = {"quality": 92, "subsampling": 2} if extension == "jpg" else {}
        image.save(folder / f"{frame:04d}.{extension}", **options)


if __name__ == "__main__":
    run_main(main)
