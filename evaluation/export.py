"""Ground truth measured once: the maps of a dataset, written to one file that the dataset finds by itself.

The first evaluation does this for ground truth that comes from LiDAR scans; tools/export_gt_depth.py does it
beforehand, and in shards. The format is described in `datasets/ground_truth.py`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.exported_depth import shard_path
from datasets.exporting import Export, Member, encode
from datasets.ground_truth import Exportable
from datasets.sequence import SequenceDataset
from files import explained
from progress import Bar
from shards import torchrun_shard
from utils import InputError, can_write
from workers import run_tasks

# A forked process is there at once, as a loader's are; a spawned one must import torch first.
START, WORTH_A_PROCESS = ("fork", 16) if sys.platform == "linux" else ("spawn", 200)  # samples


def export_at_first(dataset: SequenceDataset, workers: int) -> None:
    """Write a dataset's exported ground truth before its first evaluation, if there is none yet.

    If the folder cannot be written, ground truth is measured on the fly each time. Under torchrun the first
    process writes the file; the others measure on the fly.
    """
    if not isinstance(dataset, Exportable):
        return
    exported = dataset.exported
    stale = outdated_sample(dataset) if exported.paths else None
    if not exported.at_first or (exported.paths and stale is None) or torchrun_shard()[0] > 1:
        return
    if stale is not None:
        print(f"ground truth: {exported.path} was made from other raw data, such as those of {stale}")
    if not has_ground_truth(dataset):
        return  # `check_ground_truth` says so in words
    if not can_write(exported.path.parent):
        print(f"ground truth: measured on the fly, since {exported.path.parent} cannot be written")
        return
    print(f"ground truth: measured once and kept in {exported.path}")
    export(dataset, workers=workers)
    exported.refresh()


def outdated_sample(dataset: SequenceDataset, most: int = 50) -> str | None:
    """Name of a sample whose exported map does not belong to the present raw data; None if there is none.

    At most `most` samples are compared, evenly spread. Every other one is compared when it is read.
    """
    step = max(1, len(dataset) // most)
    stale = (index for index in range(0, len(dataset), step) if not dataset.is_current(index))
    return next((dataset.name(index) for index in stale), None)


def has_ground_truth(dataset: SequenceDataset) -> bool:
    """Whether the ground truth of any sample can be measured."""
    return any(dataset.depth_from_raw(index) is not None for index in range(len(dataset)))


def export(
    dataset: SequenceDataset, shard: tuple[int, int] = (1, 1), workers: int = 1
) -> tuple[Path, int, int]:
    """Write a dataset's measured depth, or one shard of it. An export that was stopped is continued.

    Args:
        dataset: an `Exportable` one.
        shard: (which, of how many), counted from 1.
        workers: processes.

    Returns:
        The file, the number of maps it holds, and the number of samples of the shard.

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
    names = [dataset.name(index) for index in indices]
    task = Export(path, names, source_of(dataset), lambda position: dataset.origin(indices[position]))
    left = [indices[position] for position in task.left]
    done = len(indices) - len(left)
    with Bar(total=len(indices), initial=done, desc=path.name, unit="sample") as bar:
        try:
            for position, measured in zip(task.left, measure(dataset, left, workers)):
                with explained(path.parent):
                    task.add(position, *measured)
                bar.update()
        finally:  # keep what was measured, also after an interruption
            with explained(path.parent):
                task.save()
    with explained(path.parent):
        # Ground truth at regular intervals may lie in the other shards only.
        return path, task.finish(may_be_empty=shards > 1 and has_ground_truth(dataset)), len(indices)


def source_of(dataset: SequenceDataset) -> str:
    """The settings that may change the maps, as text; an export is only continued under equal settings."""
    network = {"height", "width", "resize", "frame_ids"}
    settings = {
        key: value.resolve() if isinstance(value, Path) else value
        for key, value in vars(dataset).items()
        if isinstance(value, (str, int, float, Path, type(None))) and key not in network and key[0] != "_"
    }
    return f"{type(dataset).__name__} {sorted(settings.items())} {list(dataset.camera_names)}"


def measure(
    dataset: SequenceDataset, indices: Sequence[int], workers: int
) -> Iterator[tuple[list[Member] | None, str]]:
    """Encoded ground truth and origin of each index in order, by several processes for many samples.

    Workers encode, so that a hundredth of the bytes go through the pipe and compression is shared.
    """
    workers = min(workers, len(indices) // WORTH_A_PROCESS)
    return run_tasks(functools.partial(_measured, dataset), indices, workers, START)


def _measured(dataset: SequenceDataset, index: int) -> tuple[list[Member] | None, str]:
    return _encoded(dataset, index), dataset.origin(index)


def _encoded(dataset: SequenceDataset, index: int) -> list[Member] | None:
    depth = dataset.read_raw_depth(index)
    return None if depth is None else encode(depth)
