"""Write the true depth of a split into one file, so that evaluation needs no LiDAR scans (175 GB for KITTI).

    python tools/export_gt_depth.py --data_path data/kitti --split eigen
    python tools/export_gt_depth.py --data_path data/kitti --split eigen_benchmark
    python tools/export_gt_depth.py --data_path data/synthetic --split data/synthetic/splits --part val test

The file lies in `<data_path>/gt_depths`, where the dataset finds it by itself; datasets/_ground_truth.py
tells what is in it. Pictures without ground truth are left out. To share the work among machines, give each
a `--shard 1/4` to `--shard 4/4`, or start it under torchrun.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import build_dataset
from datasets._ground_truth import shard_path, write_exported
from datasets._sequence import SequenceDataset
from tools._shards import shard_of, torchrun_shard
from utils import InputError, read_yaml, run_main

WORTH_A_PROCESS = 100  # maps; starting one costs seconds


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    for part in given.part:
        dataset = open_dataset(given, part)
        path, written, asked = export(dataset, given.shard, given.workers)
        lacking = f"; {asked - written} pictures have no ground truth" if written < asked else ""
        print(f"wrote {written} depth maps to {path}{lacking}")


def open_dataset(given: argparse.Namespace, part: str) -> SequenceDataset:
    """The dataset to export from.

    Raises:
        InputError: it refuses a setting, or does not read exported ground truth.
    """
    settings = {"split": given.split, "ground_truth": given.ground_truth, "gt_path": given.out}
    settings = {key: value for key, value in settings.items() if value is not None}
    section = {"name": given.dataset, **settings, **dict(given.set)}
    options = {"dataset": section, "data_path": given.data_path, "skip_missing": given.skip_missing}
    dataset = build_dataset(options, part=part, frame_ids=(0,))
    if not hasattr(dataset, "exported"):
        raise InputError(f"dataset {given.dataset} does not read exported ground truth")
    return dataset


def export(
    dataset: SequenceDataset, shard: tuple[int, int] = (1, 1), workers: int = 1
) -> tuple[Path, int, int]:
    """Write a dataset's measured depth, or one shard of it.

    Args:
        dataset: has `exported` and `measured_depth`.
        shard: (which, of how many), counted from 1.
        workers: processes.

    Returns:
        The file, how many maps it holds, and how many samples were asked for.

    Raises:
        InputError: no sample has ground truth, or a measurement is broken.
    """
    which, shards = shard
    indices = range(which - 1, len(dataset), shards)
    path = shard_path(dataset.exported.path, which, shards)
    with tqdm(total=len(indices), desc=path.name, unit="map") as bar:

        def known_maps() -> Iterator[tuple[str, np.ndarray]]:
            for index, depth in zip(indices, measure(dataset, indices, workers)):
                bar.update()
                if depth is not None:
                    yield dataset.name(index), depth

        written = write_exported(path, known_maps())
    return path, written, len(indices)


def measure(dataset: SequenceDataset, indices: range, workers: int) -> Iterator[np.ndarray | None]:
    """`measured_depth` of each index in order, from several processes where that pays."""
    workers = min(workers, len(indices) // WORTH_A_PROCESS)
    if workers <= 1:
        yield from map(dataset.measured_depth, indices)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(dataset,)
    )
    waiting: deque[Future] = deque()  # few at a time: a map takes megabytes
    try:
        for index in indices:
            waiting.append(pool.submit(_measure, index))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_dataset: SequenceDataset | None = None  # a worker's own


def _start_worker(dataset: SequenceDataset) -> None:
    global _dataset
    _dataset = dataset


def _measure(index: int) -> np.ndarray | None:
    return _dataset.measured_depth(index)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data_path", required=True, metavar="FOLDER", help="root of the dataset")
    add("--dataset", default="kitti", help="a file of datasets/ (default: kitti)")
    add("--split", help="a split's name, or a folder of lists; else the dataset's own default")
    add("--part", nargs="+", default=["test"], help="parts of the split (default: test)")
    add(
        "--ground_truth", help="which one, where there are several: velodyne, improved, ...; else the split's"
    )
    add("--out", metavar="FOLDER", help="where the file goes (default: <data_path>/gt_depths)")
    add("--skip_missing", action="store_true", help="leave out samples whose picture is missing")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    add(
        "--shard", type=shard_of, default=torchrun_shard(), metavar="I/N", help="do the I-th of N shards only"
    )
    add("--set", nargs="+", type=setting, default=[], metavar="KEY=VALUE", help="further dataset settings")
    return parser.parse_args(arguments)


def setting(text: str) -> tuple[str, object]:
    """`depth_scale=256` as ("depth_scale", 256)."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got '{text}'")
    return key, read_yaml(value)


if __name__ == "__main__":
    run_main(main)
