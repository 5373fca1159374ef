"""Seconds to prepare a training sample: our tool in several processes, the published way in one.

    python -m benchmarks.prepare_cityscapes [--recordings 2 --frames 16 --workers 2]

Draws recordings of Cityscapes' size (2048 x 1024 PNG) and prepares them at 1024 x 512. The published way
decodes and resizes all three frames of every sample and stores them as one PNG. Ours decodes each frame once;
its triples are compared with the published ones pixel by pixel.

Wall time is from the first image written to the last; the start of processes is shown separately. With
other load, processor seconds say more: they sum all processes, with their start.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tools._cityscapes_frames import Plan, prepare_all
from utils import InputError, run_main

FOLDER = "aachen_{:06d}"
CAMERA = {
    "intrinsic": {"fx": 2262.52, "fy": 2265.3017905988554, "u0": 1096.98, "v0": 513.137},
    "extrinsic": {"baseline": 0.209313},
}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=2, help="recordings to draw (default: 2)")
    parser.add_argument(
        "--frames",
        type=int,
        default=16,
        help="frames of each recording, 5 or more (default: 16)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes of our tool (default: 2)")
    args = parser.parse_args(arguments)
    if args.recordings < 1 or args.frames < 5 or args.workers < 1:
        raise InputError("--recordings and --workers must be 1 or more, --frames 5 or more")
    if args.recordings * (args.frames - 4) < 2:  # the clock runs from the first image to the last
        raise InputError("one sample cannot be timed; give --recordings 2, or --frames 6 or more")
    with tempfile.TemporaryDirectory() as folder:
        cityscapes(Path(folder), args.recordings, args.frames, args.workers)


def cityscapes(folder: Path, recordings: int, frames: int, workers: int) -> dict[str, float]:
    """Print the table; returns seconds per sample of each way."""
    root = folder / "raw"
    draw(root, recordings, frames)
    samples = recordings * (frames - 4)
    megabytes = sum(path.stat().st_size for path in root.rglob("*.png")) / recordings / frames / 1e6
    print(f"{samples} samples of {recordings * frames} frames of {megabytes:.1f} MB; seconds a sample\n")
    print(f"{'':<32}{'clock':>8}{'ratio':>8}{'computing':>12}{'ratio':>8}{'starting':>12}{'MB a sample':>14}")
    theirs = folder / "published"
    ways = {"published, 1 process": (theirs, lambda: prepare_as_published(root, theirs, recordings, frames))}
    for layout, ext in (("triples", "png"), ("sequences", "jpg")):
        for processes in sorted({1, workers}):
            out = folder / f"{layout}{processes}"
            work = functools.partial(quietly, Plan(layout, ext=ext), root, out, processes)
            ways[f"ours, {layout}, {processes} process{'es' * (processes > 1)}"] = out, work
    seconds: dict[str, np.ndarray] = {}
    for way, (out, work) in ways.items():
        total, computing = timed(work)
        clock = writing(out)
        seconds[way] = np.array([clock, computing]) / samples
        ratio = seconds["published, 1 process"] / seconds[way]
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / samples / 1e6
        print(
            f"{way:<32}{seconds[way][0]:>8.3f}{ratio[0]:>7.1f}x{seconds[way][1]:>12.3f}{ratio[1]:>7.1f}x"
            f"{total - clock:>10.1f} s{size:>14.2f}"
        )
    for path in theirs.rglob("*.png"):
        other = folder / f"triples{workers}" / path.relative_to(theirs)
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(other))), f"{path.name} differs"
    print("\nevery triple has the published pixels")
    return {way: float(clock) for way, (clock, _) in seconds.items()}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds, and processor seconds of this process and its children."""
    before, started = os.times(), time.perf_counter()
    work()
    clock, after = time.perf_counter() - started, os.times()
    return clock, sum(after[:4]) - sum(before[:4])


def writing(out: Path) -> float:
    """Wall seconds from the first image to the last, by their times on disk."""
    images = (path for path in out.rglob("*") if path.suffix in (".png", ".jpg"))
    times = sorted(path.stat().st_mtime for path in images)
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


def quietly(plan: Plan, root: Path, out: Path, processes: int) -> None:
    """Our tool without its progress bar."""
    with contextlib.redirect_stderr(io.StringIO()):
        prepare_all(plan, root, out, ["train"], processes)


def prepare_as_published(root: Path, out: Path, recordings: int, frames: int) -> None:
    """Prepare each sample: decode three frames, resize to 1024 x 512, crop, stack, store as PNG."""
    (out / "aachen").mkdir(parents=True)
    for recording in range(recordings):
        for target in range(2, frames - 2):
            small = []
            for frame in (target - 2, target, target + 2):
                with Image.open(image_path(root, recording, frame)) as image:
                    resized = image.convert("RGB").resize((1024, 512), Image.Resampling.LANCZOS)
                small.append(np.array(resized)[:384])
            name = f"{FOLDER.format(recording)}_{target:06d}.png"
            Image.fromarray(np.concatenate(small)).save(out / "aachen" / name)


def image_path(root: Path, recording: int, frame: int) -> Path:
    name = f"{FOLDER.format(recording)}_{frame:06d}_leftImg8bit.png"
    return root / "leftImg8bit_sequence/train/aachen" / name


def draw(root: Path, recordings: int, frames: int) -> None:
    """Draw images of noise at several scales, which compress like photographs."""
    rng = np.random.default_rng(0)
    canvas = np.zeros((1024, 2048 + 8 * frames * recordings, 3))
    for size, strength in ((4, 60), (16, 40), (64, 25), (256, 10), (512, 3)):
        for channel in range(3):
            coarse = rng.uniform(-strength, strength, (size, 3 * size)).astype(np.float32)
            layer = Image.fromarray(coarse).resize(canvas.shape[1::-1], Image.Resampling.BICUBIC)
            canvas[..., channel] += np.asarray(layer)
    panorama = np.clip(canvas + 128, 0, 255).astype(np.uint8)
    for recording in range(recordings):
        camera = root / "camera/train/aachen" / f"{FOLDER.format(recording)}_000019_camera.json"
        camera.parent.mkdir(parents=True, exist_ok=True)
        camera.write_text(json.dumps(CAMERA))
        for frame in range(frames):
            left = 8 * (recording * frames + frame)
            path = image_path(root, recording, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(panorama[:, left : left + 2048]).save(path, compress_level=6)


if __name__ == "__main__":
    run_main(main)
