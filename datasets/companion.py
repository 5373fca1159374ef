"""Companion data: each sample is accompanied by one of another dataset, such as labelled images.

A method that learns from two domains at once (SGDepth: depth from KITTI video, segmentation from Cityscapes)
finds the second one in `batch.companion`, a Batch with the same number of samples. The section `companion`
names its dataset. It may have a size and an augmentation of its own:

    companion: {name: cityscapes, split: fine, labels: true, height: 512, width: 1024, augment: {jitter: 1}}

Companions are sampled without replacement over the whole training. With n samples and m companions, sample i
of epoch e takes position p = e n + i of an endless list of shuffles, the r-th being a function of (seed, r):

    companion = shuffle(seed, floor(p / m))[p mod m]

So all companions are used equally often, the pairs change from epoch to epoch, and a resumed run continues
with the same ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datasets import DATASETS
from datasets.loading import EpochIndex, epoch_of
from notices import notice
from structures import Batch
from utils import InputError

SHARED = ("height", "width", "resize")  # options of the run that a companion takes if it has none of its own


class WithCompanion(Dataset):
    """A dataset whose samples each carry one of another dataset as `companion`.

    Args:
        dataset: the main dataset; it gives the length and the indices.
        companion: the other dataset.
        seed: seed of the shuffles.
    """

    def __init__(self, dataset: Any, companion: Any, seed: int = 0) -> None:
        self.dataset, self.companion, self.seed = dataset, companion, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        other = EpochIndex(self.companion_of(index), epoch_of(index))
        return replace(self.dataset[index], companion=self.companion[other])

    def companion_of(self, index: int) -> int:
        """Index of the companion of a sample, in the epoch that `index` is read for."""
        position = epoch_of(index) * len(self.dataset) + int(index)
        shuffle, within = divmod(position, len(self.companion))
        return int(_shuffle(self.seed, shuffle, len(self.companion))[within])


@functools.lru_cache(maxsize=64)
def _shuffle(seed: int, number: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, number]).permutation(count)


def with_companion(dataset: Any, options: Mapping[str, Any], part: str) -> Any:
    """`dataset` with the companion that the options' section `companion` names; unchanged without one.

    Args:
        dataset: the main dataset.
        options: options of a run. The section holds settings of the companion's dataset; height, width and
            resize are the run's if it does not give them.
        part: train, val or test, of both datasets.

    Raises:
        InputError: the section names no dataset or has an unknown setting, or the companion refuses one.
    """
    companion = open_companion(options, part)
    if companion is None:
        return dataset
    if len(companion) < (batch := options.get("batch_size") or 0):
        notice(
            f"the companion {options['companion']['name']} has {len(companion)} samples and --batch_size is "
            f"{batch}, so each batch shows some of them twice"
        )
    return WithCompanion(dataset, companion, options.get("seed", 0))


def open_companion(options: Mapping[str, Any], part: str, evaluated: bool = False) -> Any:
    """The dataset that the options' section `companion` names; None without one.

    Args:
        options: options of a run.
        part: train, val or test; the section's own part wins.
        evaluated: leave out settings that only losses read, and the section's own part.

    Raises:
        InputError: the section names no dataset or has an unknown setting, or the companion refuses one.
    """
    section = {key: value for key, value in (options.get("companion") or {}).items() if key != "augment"}
    if not section:
        return None
    if "name" in section and "data_path" not in section:
        raise InputError("the companion needs a folder of its own: --companion.data_path FOLDER")
    shared = {key: options[key] for key in SHARED if options.get(key) is not None}
    settings = {"part": part, "frame_ids": (0,), **section}
    if evaluated:
        dropped = DATASETS.get(section["name"]).for_losses
        settings = {key: value for key, value in settings.items() if key not in dropped} | {"part": part}
    return DATASETS.build("companion", {**shared, "companion": settings})
