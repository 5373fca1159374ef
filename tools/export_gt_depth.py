"""Write the true depth of a split into one file, so that evaluation needs no LiDAR scans (175 GB for KITTI).

    python tools/export_gt_depth.py --data_path data/kitti --split eigen
    python tools/export_gt_depth.py --data_path data/kitti --split eigen_benchmark
    python tools/export_gt_depth.py --data_path data/ddad --dataset ddad
    python tools/export_gt_depth.py --data_path data/synthetic --split data/synthetic/splits --part val test

The file lies in `<data_path>/gt_depths`, where the dataset finds it by itself; datasets/_ground_truth.py
tells what is in it. Images without ground truth are left out. It can be stopped at any time: started again
it goes on where it was. To share the work among machines, give each a `--shard 1/4` to `--shard 4/4`, or
start it under torchrun.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS
from datasets.ground_truth import Export, Exportable, Member, encode, shard_path
from datasets.sequence import SequenceDataset
from datasets.splits import evaluated_part
from files import explained
from tools._options import add_dataset, add_workers, new_parser, open_dataset, place
from tools._shards import torchrun_shard
from tools._work import run_tasks
from utils import InputError, can_write, run_main

# A forked process is there at once, as a loader's are; a spawned one must import torch first.
START, WORTH_A_PROCESS = ("fork", 16) if sys.platform == "linux" else ("spawn", 200)  # samples


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    for part in given.part or [None]:
        dataset = open_exportable(given, part)
        path, written, asked = export(dataset, given.shard, given.workers)
        if not asked:
            print(f"{path.name}: nothing to write, there are fewer samples than shards")
            continue
        missing = f"; {asked - written} samples have no ground truth" if written < asked else ""
        print(f"wrote the depth of {written} samples to {path}{missing}")


def open_exportable(given: argparse.Namespace, part: str | None = None) -> SequenceDataset:
    """The dataset to export from; without a part, the one that is evaluated.

    Raises:
        InputError: it refuses a setting, or has no depth.
    """
    taken = inspect.signature(DATASETS.get(given.dataset)).parameters
    split = given.split or (taken["split"].default if "split" in taken else None)
    part = (part or evaluated_part(given.dataset, split)) if "part" in taken else None
    dataset = open_dataset(given, split=split, part=part, ground_truth=given.ground_truth, gt_path=given.out)
    if not isinstance(dataset, Exportable):
        raise InputError(f"dataset {given.dataset} has no depth, so there is nothing to export")
    return dataset


def export_at_first(dataset: SequenceDataset, workers: int) -> None:
    """Write a dataset's exported ground truth before its first evaluation, where there is none yet.

    Where the folder cannot be written, ground truth is measured on the fly each time, and so it is in all
    processes but the first under torchrun.
    """
    if not isinstance(dataset, Exportable):
        return
    exported = dataset.exported
    if not exported.at_first or exported.paths or torchrun_shard()[0] > 1:
        return
    if not has_ground_truth(dataset):
        return  # which evaluation says better
    if not can_write(exported.path.parent):
        print(f"ground truth: measured on the fly, since {exported.path.parent} cannot be written")
        return
    print(f"ground truth: measured once and kept in {exported.path}")
    export(dataset, workers=workers)
    exported.refresh()


def has_ground_truth(dataset: SequenceDataset) -> bool:
    """Whether the ground truth of any sample can be measured."""
    return any(dataset.depth_from_raw(index) is not None for index in range(len(dataset)))


def export(
    dataset: SequenceDataset, shard: tuple[int, int] = (1, 1), workers: int = 1
) -> tuple[Path, int, int]:
    """Write a dataset's measured depth, or one shard of it; goes on where an earlier call was stopped.

    Args:
        dataset: an `Exportable` one.
        shard: (which, of how many), counted from 1.
        workers: processes.

    Returns:
        The file, how many samples' maps it holds, and how many samples were asked for.

    Raises:
        InputError: no sample has ground truth, a measurement is broken, or the disk is full.
    """
    which, shards = shard
    indices = range(which - 1, len(dataset), shards)
    path = shard_path(dataset.exported.path, which, shards)
    if not indices:  # more processes than samples
        return path, 0, 0
    if not can_write(path.parent):
        raise InputError(f"{path.parent} cannot be written; give another folder with --out")
    task = Export(path, [dataset.name(index) for index in indices], source_of(dataset))
    left = [indices[position] for position in task.left]
    done = len(indices) - len(left)
    with tqdm(total=len(indices), initial=done, desc=path.name, unit="sample") as bar:
        try:
            for position, members in zip(task.left, measure(dataset, left, workers)):
                with explained(path.parent):
                    task.add(position, members)
                bar.update()
        finally:  # whatever stops it, what was measured is kept
            with explained(path.parent):
                task.save()
    with explained(path.parent):
        # Ground truth at regular intervals may lie in the other shards alone.
        return path, task.finish(may_be_empty=shards > 1 and has_ground_truth(dataset)), len(indices)


def source_of(dataset: SequenceDataset) -> str:
    """The settings that may decide what the maps hold, in words: an export goes on with equal ones only."""
    network = {"height", "width", "resize", "frame_ids"}
    settings = {
        key: value.resolve() if isinstance(value, Path) else value
        for key, value in vars(dataset).items()
        if isinstance(value, (str, int, float, Path, type(None))) and key not in network and key[0] != "_"
    }
    return f"{type(dataset).__name__} {sorted(settings.items())} {list(dataset.camera_names)}"


def measure(dataset: SequenceDataset, indices: Sequence[int], workers: int) -> Iterator[list[Member] | None]:
    """The ground truth of each index in order, encoded, from several processes where that pays.

    Workers encode: a hundredth of the bytes go through the pipe, and deflating is shared.
    """
    workers = min(workers, len(indices) // WORTH_A_PROCESS)
    return run_tasks(functools.partial(_encoded, dataset), indices, workers, START)


def _encoded(dataset: SequenceDataset, index: int) -> list[Member] | None:
    depth = dataset.read_raw_depth(index)
    return None if depth is None else encode(depth)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_dataset(parser, "kitti", parts="test, or val where there is no test")
    add = parser.add_argument
    add(
        "--ground_truth", help="which one, where there are several: velodyne, improved, ...; else the split's"
    )
    add("--out", type=place, metavar="FOLDER", help="where the file goes (default: <data_path>/gt_depths)")
    add_workers(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
