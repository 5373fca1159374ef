"""Write the true depth of a split into one file, so that evaluation needs no LiDAR scans (175 GB for KITTI).

    python tools/export_gt_depth.py --data_path data/kitti --split eigen
    python tools/export_gt_depth.py --data_path data/kitti --split eigen_benchmark
    python tools/export_gt_depth.py --data_path data/ddad --dataset ddad
    python tools/export_gt_depth.py --data_path data/synthetic --split data/synthetic/splits --part val test

The file lies in `<data_path>/gt_depths`, where the dataset finds it by itself; datasets/_ground_truth.py
tells what is in it. Pictures without ground truth are left out. It can be stopped at any time: started again
it goes on where it was. To share the work among machines, give each a `--shard 1/4` to `--shard 4/4`, or
start it under torchrun.
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS, build_dataset
from datasets._ground_truth import Export, Member, encode, shard_path
from datasets._sequence import SequenceDataset
from datasets._splits import judged_part
from tools._shards import own_cores, shard_of, torchrun_shard
from utils import InputError, read_yaml, run_main

# A forked process is there at once, as a loader's are; a spawned one must import torch first.
START, WORTH_A_PROCESS = ("fork", 16) if sys.platform == "linux" else ("spawn", 200)  # samples


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    for part in given.part or [None]:
        dataset = open_dataset(given, part)
        path, written, asked = export(dataset, given.shard, given.workers)
        lacking = f"; {asked - written} samples have no ground truth" if written < asked else ""
        print(f"wrote the depth of {written} samples to {path}{lacking}")


def open_dataset(given: argparse.Namespace, part: str | None = None) -> SequenceDataset:
    """The dataset to export from; without a part, the one that is evaluated.

    Raises:
        InputError: it refuses a setting, or does not read exported ground truth.
    """
    taken = inspect.signature(DATASETS.get(given.dataset)).parameters
    split = given.split or (taken["split"].default if "split" in taken else None)
    wanted = {
        "split": split,
        "part": (part or judged_part(given.dataset, split)) if "part" in taken else None,
        "ground_truth": given.ground_truth,
        "gt_path": given.out,
        **dict(given.set),
    }
    settings = {key: value for key, value in wanted.items() if value is not None}
    options = {
        "dataset": {"name": given.dataset, **settings},
        "data_path": given.data_path,
        "skip_missing": given.skip_missing,
    }
    dataset = build_dataset(options, frame_ids=(0,))
    if getattr(dataset, "exported", None) is None:
        raise InputError(
            f"dataset {given.dataset} reads its ground truth as it was published; there is nothing to export"
        )
    return dataset


def export_at_first(dataset: SequenceDataset, workers: int) -> None:
    """Write a dataset's exported truth before its first evaluation, where there is none yet.

    Where the folder cannot be written, truth is measured on the fly each time, and so it is in all processes
    but the first under torchrun.
    """
    exported = getattr(dataset, "exported", None)
    if exported is None or not exported.at_first or exported.paths or torchrun_shard()[0] > 1:
        return
    if all(dataset.measured_depth(index) is None for index in range(len(dataset))):
        return  # which evaluation says better
    if not can_write(exported.path.parent):
        print(f"ground truth: measured on the fly, since {exported.path.parent} cannot be written")
        return
    print(f"ground truth: measured once and kept in {exported.path}")
    export(dataset, workers=workers)
    exported.refresh()


def can_write(folder: Path) -> bool:
    """Whether files can be written in a folder, which need not be there yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def export(
    dataset: SequenceDataset, shard: tuple[int, int] = (1, 1), workers: int = 1
) -> tuple[Path, int, int]:
    """Write a dataset's measured depth, or one shard of it; goes on where an earlier call was stopped.

    Args:
        dataset: has `exported` and `measured_depth`.
        shard: (which, of how many), counted from 1.
        workers: processes.

    Returns:
        The file, how many samples' maps it holds, and how many samples were asked for.

    Raises:
        InputError: no sample has ground truth, or a measurement is broken.
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
                task.add(position, members)
                bar.update()
        finally:  # whatever stops it, what was measured is kept
            task.save()
    return path, task.finish(), len(indices)


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
    """`measured_depth` of each index in order, encoded, from several processes where that pays."""
    workers = min(workers, len(indices) // WORTH_A_PROCESS)
    if workers <= 1:
        for index in indices:
            yield _encoded(dataset, index)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context(START), initializer=_start_worker, initargs=(dataset,)
    )
    waiting: deque[Future] = deque()
    try:
        for index in indices:
            waiting.append(pool.submit(_measure, index))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a process of the export died, perhaps for want of memory; start it again with fewer --workers, "
            "it goes on from what it has"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _encoded(dataset: SequenceDataset, index: int) -> list[Member] | None:
    depth = getattr(dataset, "known_depth", dataset.measured_depth)(index)
    return None if depth is None else encode(depth)


_dataset: SequenceDataset | None = None  # a worker's own


def _start_worker(dataset: SequenceDataset) -> None:
    global _dataset
    _dataset = dataset
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends them in order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure(index: int) -> list[Member] | None:
    """Encoded here: a hundredth of the bytes go through the pipe, and deflating is shared."""
    return _encoded(_dataset, index)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data_path", required=True, metavar="FOLDER", help="root of the dataset")
    add("--dataset", default="kitti", help="a file of datasets/ (default: kitti)")
    add("--split", help="a split's name, or a folder of lists; else the dataset's own default")
    add("--part", nargs="+", help="parts of the split (default: test, or val where there is no test)")
    add(
        "--ground_truth", help="which one, where there are several: velodyne, improved, ...; else the split's"
    )
    add("--out", metavar="FOLDER", help="where the file goes (default: <data_path>/gt_depths)")
    add("--skip_missing", action="store_true", help="leave out samples whose picture is missing")
    add("--workers", type=int, default=own_cores(), help="processes (default: one for each core)")
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
