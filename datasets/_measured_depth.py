"""A look at the measured depth of a training set before its first step: is there any, and is it in metres?

A few samples from all over the set are read without their images. Depth that is missing everywhere would
train nothing, in silence; depth that many samples lack is pointed out; depth in millimetres would train a
wrong scale. A median outside 0.5 to 200 m is questioned, and not refused: a model railway or an aircraft may
have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from notices import notice
from utils import InputError

PLAUSIBLE = (0.5, 200.0)  # metres, of the median
LOOKED_AT = 16  # samples
MOST = 200  # samples, if the first ones have no depth
LACKING = 0.25  # share of samples without depth that is pointed out
SETTINGS = {"depth": "supervision", "input_depth": "input_depth"}  # map → the setting that reads it


def check_measured_depth(dataset: Any) -> None:
    """Refuse a dataset without any measured depth; warn if many samples lack it or it is hardly in metres.

    Args:
        dataset: a `SequenceDataset`; one that reads no measured depth is not looked at.

    Raises:
        InputError: no sample that was looked at has a known pixel of a map that the dataset reads.
    """
    off = (False, "none")
    wanted = [name for name, setting in SETTINGS.items() if getattr(dataset, setting, False) not in off]
    if not wanted:
        return
    known: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    looked: set[int] = set()
    for count in (LOOKED_AT, MOST):
        for index in _spread(len(dataset), count):
            if index not in looked:
                looked.add(index)
                for name, values in dataset.depth_maps(index).items():
                    known[name].append(values[values > 0].numpy())
        if all(any(map(len, values)) for values in known.values()):
            break
    for name, values in known.items():
        _check(dataset, name, values)


def _spread(number: int, count: int) -> list[int]:
    """Indices from all over a set, one drawn from each of `count` equal parts of it.

    Evenly spaced ones could all be of the same camera: splits often list left and right images in turn.
    """
    edges = np.linspace(0, number, min(count, number) + 1)
    return np.random.default_rng(0).uniform(edges[:-1], edges[1:]).astype(int).tolist()


def _check(dataset: Any, name: str, maps: list[np.ndarray]) -> None:
    """Look at the known values of the maps that were read, one array for each sample."""
    setting = f"--dataset.{SETTINGS[name]}"
    lacking = sum(not len(values) for values in maps)
    if lacking == len(maps):
        every = "none" if lacking == len(dataset) else f"none of {lacking} that were looked at"
        raise InputError(
            f"{dataset.data_path}: of {len(dataset)} samples, {every} has a known pixel of measured depth; "
            f"put the files of depth next to the images (docs/datasets.md), or leave out {setting}"
        )
    if lacking >= LACKING * len(maps):
        notice(
            f"{dataset.data_path}: {lacking} of {len(maps)} samples that were looked at have no known pixel "
            f"of measured depth ({setting}); nothing is learned from it there"
        )
    median = float(np.median(np.concatenate(maps)))
    if PLAUSIBLE[0] <= median <= PLAUSIBLE[1]:
        return
    fix = "convert the files to metres"
    if hasattr(dataset, "depth_scale"):
        fix = f"a .png is divided by --dataset.depth_scale, here {dataset.depth_scale:g}; set it"
    notice(
        f"{dataset.data_path}: the median of the measured depth is {median:.3g} m, outside "
        f"{PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} m; is it in another unit? {fix}"
    )
