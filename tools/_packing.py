"""Images of a dataset, packed into shards; the work of tools/pack_dataset.py."""

from __future__ import annotations

import argparse
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from datasets.packed import NetworkImages, list_shards, read_shard, write_shard
from datasets.sequence import SequenceDataset, below
from files import explained
from progress import Bar
from provenance import difference, origin
from structures import Frame
from tools._options import open_dataset
from utils import InputError
from workers import run_tasks

SHARD_BYTES = 32 << 20  # a killed worker loses at most one shard


class FrameTask(NamedTuple):
    """One frame of a sample: its dataset's number, the sample's index, the frame."""

    dataset: int
    index: int
    frame: Frame


@dataclass
class Report:
    """Number of images in the share, of images that were there and that were written, and the reason for each
    frame that was left out."""

    count: int
    there: int = 0
    written: int = 0
    skipped: list[str] = field(default_factory=list)


def open_parts(given: argparse.Namespace) -> list[SequenceDataset]:
    """The dataset of each part, as a run reads it.

    Raises:
        InputError: the dataset cannot be opened.
    """
    names = ("height", "width", "resize", "frame_ids")
    settings = {name: getattr(given, name) for name in names}
    datasets = [open_dataset(given, part=part, **settings) for part in given.part]
    for dataset in datasets:
        dataset.detail = given.detail
    return datasets


def pack(datasets: Sequence[SequenceDataset], given: argparse.Namespace) -> Report:
    """Pack every image that is not packed yet.

    Raises:
        InputError: shards of other settings without `--overwrite`, an unreadable image without
            `--skip_missing`, a full disk.
    """
    images = tasks_of(datasets)
    done = packed_already(given.out, datasets[0], given.detail, given.overwrite)
    height, width = datasets[0].height, datasets[0].width
    each = 3 * height * width * (1 + (given.detail**2 if given.detail > 1 else 0))
    size = max(1, SHARD_BYTES // (each * datasets[0].cameras))
    which, shards = given.shard
    chunks = [images[start : start + size] for start in range(0, len(images), size)][which - 1 :: shards]
    left = [[task for task, keys in chunk if not keys.items() <= done.items()] for chunk in chunks]
    left = [chunk for chunk in left if chunk]
    total, count = (datasets[0].cameras * sum(map(len, part)) for part in (chunks, left))
    report = Report(total, total - count)
    _check_space(given.out, count * each)
    packer = Packer(datasets, given.out, split_flags(given), given.skip_missing)
    with explained(given.out), Bar(total=count, unit="image", desc="packing") as bar:
        for written, skipped in run_tasks(packer, left, given.workers):
            report.written += written
            report.skipped += skipped
            bar.update(written)
    return report


def tasks_of(datasets: Sequence[SequenceDataset]) -> list[tuple[FrameTask, dict[str, str]]]:
    """Each frame once, with key → file of its images, file below the root."""
    found: dict[tuple[str, ...], tuple[FrameTask, dict[str, str]]] = {}
    for number, dataset in enumerate(datasets):
        for index, sample in enumerate(dataset.samples):
            for frame in dataset.frame_ids:
                keys = tuple(dataset.image_keys(sample, frame))
                if keys not in found:
                    files = [below(path, dataset.data_path) for path in dataset.paths(sample, frame)]
                    found[keys] = FrameTask(number, index, frame), dict(zip(keys, files))
    return list(found.values())


def packed_already(out: Path, dataset: SequenceDataset, detail: int, overwrite: bool) -> dict[str, str]:
    """Key → file of every image in the folder that need not be packed again; removes shards with others.

    Raises:
        InputError: a shard of other settings, without `overwrite`.
    """
    done: dict[str, str] = {}
    for path in list_shards(out):
        shard = read_shard(path)
        made = {"settings": shard.settings, "sources": {}}
        reason = difference(made, dataset.data_path, **dataset.pixels())
        if reason and not overwrite:
            raise InputError(
                f"{out} holds images that were made otherwise: {reason}; --overwrite replaces them, or give "
                "another --out"
            )
        lacks_detail = detail > 1 and detail not in shard.details
        if reason or lacks_detail or shard.stale(dataset.data_path):
            path.unlink(missing_ok=True)
        else:
            done |= {key: name for key, (name, _) in shard.sources.items()}
    return done


def split_flags(given: argparse.Namespace) -> str:
    """The flags that choose the samples, to be appended to a command; they begin with a blank."""
    words = ["--split", given.split] if given.split else []
    return " " + shlex.join([*words, "--part", *given.part])


def _check_space(out: Path, needed: int) -> None:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"the images need {needed / 1e9:.1f} GB in {out}, which has {free / 1e9:.1f} GB free"
        )


@dataclass
class Packer:
    """Writes one shard; runs in the worker processes.

    Attributes:
        datasets: those of the tasks.
        out: folder of the shards.
        flags: flags that choose the samples.
        skip: leave out frames that cannot be read.
    """

    datasets: Sequence[SequenceDataset]
    out: Path
    flags: str
    skip: bool

    def __call__(self, tasks: Sequence[FrameTask]) -> tuple[int, list[str]]:
        """Pack the frames of one shard; the number of images, and why frames were left out."""
        root, settings = self.datasets[0].data_path, self.datasets[0].pixels()
        found: list[NetworkImages] = []
        keys: list[str] = []
        files: list[Path] = []
        skipped: list[str] = []
        # Fingerprints are taken first: a file that changes meanwhile is found changed later.
        made = origin({path for task in tasks for path in self._of(task)[1]}, root, **settings)
        for task in tasks:
            try:
                found.append(self.datasets[task.dataset].network_images(*self._sample(task)))
            except InputError as error:
                if not self.skip:
                    raise
                skipped.append(str(error))
                continue
            new_keys, new_files = self._of(task)
            keys += new_keys
            files += new_files
        if found:
            names = [below(path, root) for path in files]
            write_shard(self.out, found, keys, names, {**made, "flags": self.flags})
        return len(keys), skipped

    def _sample(self, task: FrameTask) -> tuple[object, Frame]:
        return self.datasets[task.dataset].samples[task.index], task.frame

    def _of(self, task: FrameTask) -> tuple[list[str], list[Path]]:
        dataset, sample = self.datasets[task.dataset], self._sample(task)
        return dataset.image_keys(*sample), dataset.paths(*sample)
