"""Samples per second of packed images, of our loader and of the published pipeline, on one core.

    python -m benchmarks.loader [--height 192 --width 640 --seconds 8]

Draws images of KITTI's size as JPEG and PNG and reads samples of three frames. All ways take turns, and the
clock is the processor time of this process, so that other load disturbs little. The published pipeline
returns float pyramids with jitter. Our loader returns uint8 at the network size; its jitter runs on the
device in training and is timed on the same core here. Packed images are mapped and not copied until samples
are joined, so they are timed with and without joining them to batches. One line for each format gives the
time in which loader processes start.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks._turns import SIZE, draw, race
from benchmarks.published import load_sample
from datasets.augmentation import Augment
from datasets.folder import Folder
from datasets.loading import EpochBatches, collate
from tools._packing import open_parts, pack
from training.loading import build_loader
from utils import run_main

FRAMES = 242  # files: packed, they do not fit into the processor's cache
BATCH = 12
INTRINSICS = "720 720 620 187"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=192, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the network input, pixels")
    parser.add_argument("--seconds", type=float, default=8, help="seconds to measure each way and format")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"three frames of {SIZE[1]}x{SIZE[0]} to {args.width}x{args.height}; samples / second and core\n")
    names = ("published", "files", "files, jitter", "packed", f"packed, batches of {BATCH}")
    print(f"{'':<5}" + "".join(f"{name:>24}" for name in names))
    for extension in ("jpg", "png"):
        with tempfile.TemporaryDirectory() as folder:
            speeds = measure(Path(folder), extension, args)
        cells = [f"{speed:.1f} ({speed / speeds[0]:.1f}x)" for speed in speeds]
        print(f"{extension:<5}" + "".join(f"{cell:>24}" for cell in cells))


def measure(place: Path, extension: str, args: argparse.Namespace) -> tuple[float, ...]:
    """Samples per second: published, from files, with jitter, packed, packed in batches."""
    folder = place / "images"
    folder.mkdir()
    draw(folder, extension, FRAMES)
    size = {"height": args.height, "width": args.width}
    dataset = Folder(folder, part="all", intrinsics=INTRINSICS, **size)
    packed = Folder(folder, part="all", intrinsics=INTRINSICS, packed=packed_folder(folder, size), **size)
    augment = Augment()

    def published(index: int) -> None:
        frames = {f: folder / f"{index + 1 + f:04d}.{extension}" for f in (0, -1, 1)}
        load_sample(frames, args.height, args.width)

    def ours(index: int) -> None:
        dataset[index]

    def jittered(index: int) -> None:
        augment(dataset[index].to("cpu"), epoch=index)

    def from_packed(index: int) -> None:
        packed[index]

    def in_batches(index: int) -> None:
        if index % BATCH == 0:
            collate([packed[n] for n in range(index, index + BATCH)])

    speeds = race([published, ours, jittered, from_packed, in_batches], len(dataset), args.seconds)
    print(f"{extension}: two loader processes deliver their first batch after {start_time(packed):.2f} s")
    return speeds


def packed_folder(folder: Path, size: dict[str, int]) -> Path:
    """The images of a folder, packed next to it."""
    out = folder.parent / "packed"
    given = argparse.Namespace(
        dataset="folder", data_path=folder, split=None, part=["all"], skip_missing=False, detail=1, out=out,
        dataset_settings={"intrinsics": INTRINSICS}, resize=None, frame_ids=[0, -1, 1], overwrite=False,
        workers=1, shard=(1, 1), **size,
    )  # fmt: skip
    pack(open_parts(given), given)
    return out


def start_time(dataset: Folder) -> float:
    """Seconds from the start of two loader processes to their first batch."""
    loader = build_loader(dataset, EpochBatches(len(dataset), BATCH), dataset[0], 2, pinned=False)
    started = time.perf_counter()
    next(iter(loader))
    return time.perf_counter() - started


if __name__ == "__main__":
    run_main(main)
