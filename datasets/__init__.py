"""Datasets, one file each. `DATASETS.get(name)` finds one by the name of its file.

A dataset extends `SequenceDataset` (one camera) or `SurroundDataset` (a rig of cameras). `open_dataset` opens
the one that the options of a run name.
"""

from __future__ import annotations

from typing import Any

from utils import Registry, import_own

DATASETS = Registry("datasets")

# Loaded on first use, so that the registry is there before torch is imported.
_HOMES = {
    "SequenceDataset": "sequence",
    "SurroundDataset": "surround",
    "build_dataset": "opening",
    "network_size": "sizes",
    "open_dataset": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'datasets' has no attribute '{name}'")
    return getattr(import_own(f"datasets.{_HOMES[name]}"), name)
