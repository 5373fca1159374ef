"""Several datasets as one training set: one after the other, each as often as its `repeat` says.

    dataset: {name: ddad, camera_names: [front]}
    joined: {others: [{name: ddad, camera_names: [back]}, {name: kitti, data_path: KITTI}], repeat: [5, 5, 1]}

A sample of the joined set is a sample of one of them, so all of them have one image size, the same number of
cameras and the same entries. Validation, evaluation and prediction are those of `dataset`, the first.

With lengths n_k and repetitions r_k, index i belongs to the first part k with i < r_1 n_1 + ... + r_k n_k and
is there the sample (i - r_1 n_1 - ...) mod n_k. A repeated sample is augmented again each time.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset

from datasets import DATASETS
from datasets._measured_depth import check_measured_depth
from datasets.loading import EpochIndex, epoch_of
from datasets.sizes import RUN_SETTINGS, section_of
from structures import Batch
from utils import InputError, check_settings


class Joined(Dataset):
    """Several datasets, one after the other.

    Args:
        dataset: the first.
        others: the others.
        repeat: passes over each in an epoch: one number for all, or one for each, the first included.

    Raises:
        InputError: a repeat below 1 or another number of them; samples that do not fit into one batch.
    """

    def __init__(self, dataset: Any, others: Sequence[Any] = (), repeat: int | Sequence[int] = 1) -> None:
        self.parts = [dataset, *others]
        self.provides = getattr(dataset, "provides", {})
        repeats = [repeat] * len(self.parts) if isinstance(repeat, int) else list(repeat)
        if len(repeats) != len(self.parts) or not all(isinstance(n, int) and n >= 1 for n in repeats):
            raise InputError(
                f"--joined.repeat is a whole number from 1 on, or one for each of the {len(self.parts)} "
                "joined "
                f"datasets, got {repeat}"
            )
        self._ends = list(itertools.accumulate(n * len(part) for n, part in zip(repeats, self.parts)))
        first = dataset[0]
        for number, part in enumerate(others):
            try:
                Batch.cat([first, part[0]])
            except ValueError as error:
                raise InputError(
                    f"joined.others[{number}] does not fit the first dataset: {error}; give both the same "
                    "cameras and the same settings of what is read"
                ) from None

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Batch:
        part, inner = self.locate(index)
        sample = self.parts[part][EpochIndex(inner, epoch_of(index))]
        # Random numbers of the augmentation are a function of this index, so repetitions differ.
        return replace(sample, index=torch.tensor([int(index)]))

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the part that holds a sample, and the sample's index there."""
        part = bisect.bisect_right(self._ends, int(index))
        before = self._ends[part - 1] if part else 0
        return part, (int(index) - before) % len(self.parts[part])

    @property
    def detail(self) -> int:
        """See `SequenceDataset.detail`; it is the same for all parts."""
        return _innermost(self.parts[0]).detail

    @detail.setter
    def detail(self, value: int) -> None:
        for part in self.parts:
            _innermost(part).detail = value


def with_joined(dataset: Any, options: Mapping[str, Any], part: str) -> Any:
    """`dataset` with those that the options' section `joined` names; unchanged without the section.

    Args:
        dataset: the run's own dataset.
        options: options of a run. Sizes, frames and resize of the others are the run's; so are folder and
            split of another of the same dataset, if it does not give its own.
        part: train, val or test, of all of them.

    Raises:
        InputError: an unknown setting, another without name or folder, or what it or `Joined` refuses.
    """
    section = options.get("joined") or {}
    if not section:
        return dataset
    check_settings("joined", Joined, section)
    others = section.get("others") or []
    if not isinstance(others, Sequence) or not all(isinstance(one, Mapping) for one in others):
        raise InputError(
            f"--joined.others is a list such as '[{{name: kitti, data_path: KITTI}}]', got {others}"
        )
    own_name, _ = section_of(options)
    opened = [_open(number, dict(one), own_name, options, part) for number, one in enumerate(others)]
    return Joined(dataset, opened, section.get("repeat") or 1)


def _open(number: int, section: dict[str, Any], own_name: str, options: Mapping[str, Any], part: str) -> Any:
    where = f"joined.others[{number}]"
    name = section.get("name")
    if not name:
        raise InputError(f"{where} names no dataset; write {{name: kitti, ...}}")
    for key in RUN_SETTINGS:
        if key in section:
            raise InputError(f"{where}.{key} is an option of the run; write --{key} {section[key]}")
    shared = {key: options.get(key) for key in RUN_SETTINGS}
    if name == own_name:
        shared |= {key: options.get(key) for key in ("data_path", "split")}
    elif "data_path" not in section:
        raise InputError(f"{where} needs a folder of its own: {{name: {name}, data_path: FOLDER}}")
    dataset = DATASETS.build(where, {**shared, where: section}, part=part)
    check_measured_depth(dataset)
    return dataset


def _innermost(dataset: Any) -> Any:
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset
