"""Cityscapes' label files: ids of 34 classes, or train ids of the 19 classes that are trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils import InputError

# Cityscapes' label ids that are trained on, in the order of their train ids 0 to 18; all others are ignored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
MAX_ID = 33  # the highest label id
IGNORED = 255


def to_train_ids(labels: np.ndarray, source: Path) -> np.ndarray:
    """Label ids (0 to 33) to train ids, uint8 of any shape; ids without a train id become 255.

    Raises:
        InputError: an id that Cityscapes does not have; the sentence names the file `source`.
    """
    _check_ids(labels, range(MAX_ID + 1), source)
    table = np.full(256, IGNORED, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table[labels]


def checked_train_ids(labels: np.ndarray, source: Path) -> np.ndarray:
    """Train ids (0 to 18) of a file that holds them.

    Raises:
        InputError: another value, except 255; the sentence names the file `source`.
    """
    _check_ids(labels, range(len(LABEL_IDS)), source)
    return labels


def _check_ids(labels: np.ndarray, known: range, source: Path) -> None:
    """Refuse values outside `known`. 255 is ignored, and is how an 8-bit file holds the id -1 as well."""
    found = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()
    unknown = [value for value in found if value not in known and value != IGNORED]
    if unknown:
        raise InputError(
            f"{source}: {unknown[0]} is not a label of Cityscapes (0 to {known[-1]}, or {IGNORED} for "
            "ignored "
            "pixels); read files of another dataset with --dataset label_folder, or --companion label_folder"
        )
