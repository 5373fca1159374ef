"""Seconds of whole training steps of Monodepth2, with loading: run.py next to the published trainer.

    python -m benchmarks.trainer --data_path data/kitti --split data/kitti/splits
    python -m benchmarks.trainer --data_path data/kitti --split data/kitti/splits --published monodepth2

`--published` is a checkout of the published repository; its trainer runs as it is, with the same images,
ResNet-18 from random weights, batch size and loader processes. What present libraries no longer have is
replaced while it runs (benchmarks/_published_trainer.py). The programs take turns; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._runs import call, flags
from tools._options import place
from utils import PROJECT, InputError, run_main

DRIVER = PROJECT / "benchmarks/_published_trainer.py"
OURS: dict[str, dict[str, str | None]] = {
    "float32": {"precision": "float32"},
    "float32, channels_last": {"precision": "float32", "channels_last": None},
    "bfloat16, channels_last": {"precision": "bfloat16", "channels_last": None},
}
WARM_UP = 2  # steps that are not timed


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.turns):
            if args.published:
                seconds.setdefault("published", []).append(published(args, Path(folder) / "published.json"))
            for name, own in OURS.items():
                run = Path(folder) / f"{name.replace(', ', '_')}_{turn}"
                seconds.setdefault(name, []).append(ours(args, own, run))
    size = f"{args.width}x{args.height}, batch {args.batch_size}, {args.threads} threads"
    print(f"\n{size}; seconds per step\n")
    first = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<26}{median:>8.2f}{first / median:>8.2f}x")


def ours(args: argparse.Namespace, own: dict[str, str | None], run: Path) -> float:
    """Median seconds of run.py's steps."""
    shared = {key: getattr(args, key) for key in ("data_path", "split", "height", "width", "batch_size")}
    length = {"num_epochs": 1, "steps_per_epoch": args.steps + WARM_UP, "num_workers": 1, "num_val": 1}
    where = {"dataset": "kitti", "weights_init": "scratch", "log_dir": run.parent, "model_name": run.name}
    call("run.py", *flags({**shared, **length, **where, "log_frequency": 1, **own}))
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    times = [args.batch_size / record["samples_per_second"] for record in records if "loss" in record]
    return statistics.median(times[WARM_UP:])


def published(args: argparse.Namespace, record: Path) -> float:
    """Median seconds of the published trainer's steps, in another process, since its modules have our names.

    Raises:
        InputError: the folder has no trainer, or the trainer failed.
    """
    checkout = args.published.absolute()
    if not (checkout / "trainer.py").is_file():
        raise InputError(f"--published {args.published} has no trainer.py; it is a checkout of Monodepth2")
    lists = [Path(args.split).absolute() / f"{part}_files.txt" for part in ("train", "val")]
    words = [
        *("--data_path", Path(args.data_path).absolute(), "--weights_init", "scratch", "--no_cuda"),
        *("--height", args.height, "--width", args.width, "--batch_size", args.batch_size),
        *("--num_workers", 1, "--num_epochs", 1000, "--log_dir", record.parent / "published"),
    ]
    if args.png:
        words.append("--png")
    command = [sys.executable, DRIVER, record, args.steps + WARM_UP, *lists, *words]
    done = subprocess.run([*map(str, command)], cwd=checkout, capture_output=True, text=True)
    if done.returncode or not record.is_file():
        last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise InputError(f"the published trainer stopped: {last[0]}")
    return statistics.median(json.loads(record.read_text())[WARM_UP:])


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data_path", type=place, required=True, help="folder in KITTI's layout")
    add("--split", type=place, required=True, help="folder with train_files.txt and val_files.txt")
    add("--published", type=place, metavar="DIR", help="checkout of Monodepth2, whose trainer is timed too")
    add("--png", action="store_true", help="the images are PNG files, for the published trainer")
    add("--height", type=int, default=192, help="height of the network input, pixels (default: 192)")
    add("--width", type=int, default=640, help="width of the network input, pixels (default: 640)")
    add("--batch_size", type=int, default=4, help="samples per step (default: 4)")
    add("--steps", type=int, default=8, help="timed steps of each turn (default: 8)")
    add("--turns", type=int, default=2, help="turns of each program (default: 2)")
    add("--threads", type=int, default=2, help="CPU threads (default: 2)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
