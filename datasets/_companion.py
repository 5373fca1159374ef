"""Companion data: beside every sample a sample of another dataset, such as labelled images beside video.

A method that learns from two domains at once (SGDepth: depth from KITTI video, semantics from Cityscapes)
finds the second one in `batch.companion`, a Batch of its own with as many samples. It travels with the main
one, is collated and augmented with it, by draws of its own, and is named in the options:

    companion: {name: cityscapes, split: fine, labels: true, top_rows: 1}

Which companion a sample gets is a function of the seed and the sample's index alone, so it does not depend on
batches, processes or resuming. Companions are dealt out like cards: none comes again before each came once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datasets import DATASETS
from structures import Batch
from utils import InputError


class WithCompanion(Dataset):
    """A dataset whose samples each carry one of another dataset as `companion`.

    Args:
        dataset: the main one; lengths and indices are its.
        companion: the other one.
        seed: of the deal.
    """

    def __init__(self, dataset: Any, companion: Any, seed: int = 0) -> None:
        self.dataset, self.companion = dataset, companion
        rng = np.random.default_rng(seed)
        rounds = -(-len(dataset) // len(companion))
        self.deal = np.concatenate([rng.permutation(len(companion)) for _ in range(rounds)])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        return replace(self.dataset[index], companion=self.companion[int(self.deal[index])])


def with_companion(dataset: Any, options: Mapping[str, Any], part: str) -> Any:
    """`dataset` with the companion that the options' section `companion` names; as it is without one.

    Args:
        dataset: the main one.
        options: of a run. The section's settings are the companion's own; of the run's it takes height,
            width and resize.
        part: train, val or test of both.

    Raises:
        InputError: the section names no dataset or has an unknown setting; what the companion refuses.
    """
    section = options.get("companion") or {}
    if not section:
        return dataset
    if "name" in section and "data_path" not in section:
        raise InputError("the companion needs a folder of its own: --companion.data_path")
    shared = {key: options[key] for key in ("height", "width", "resize") if options.get(key) is not None}
    settings = {"part": part, "frame_ids": (0,), **section}
    companion = DATASETS.build("companion", {**shared, "companion": settings})
    return WithCompanion(dataset, companion, options.get("seed", 0))
