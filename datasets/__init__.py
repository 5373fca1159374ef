"""Datasets, one file each. `DATASETS.get(name)` finds one by its file's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils import Registry

DATASETS = Registry("datasets")


def build_dataset(options: Mapping[str, Any], **overrides: Any) -> Any:
    """The dataset that `options["dataset"]` names; overrides win. See `Registry.build`."""
    return DATASETS.build("dataset", options, **overrides)
