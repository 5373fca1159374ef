"""Datasets, one file each. `DATASETS.get(name)` finds one by the name of its file.

A dataset extends `SequenceDataset` (one camera) or `SurroundDataset` (a rig of cameras); both can be imported
from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.sequence import SequenceDataset
from datasets.surround import SurroundDataset
from utils import Registry

__all__ = ["DATASETS", "SequenceDataset", "SurroundDataset", "build_dataset"]

DATASETS = Registry("datasets")


def build_dataset(options: Mapping[str, Any], **overrides: Any) -> Any:
    """The dataset that `options["dataset"]` names; overrides win. See `Registry.build`."""
    return DATASETS.build("dataset", options, **overrides)
