"""Batch entries that a method and its loss terms read, checked on the first sample before any step.

A loss term or method declares `needs`: paths into a `structures.Batch`, such as "maps.depth",
"points.matches", "companion.maps.labels", "T_source_from_target.s" or "rig_from_camera". "cameras" asks for
more than one camera. The sentence names the setting that provides the entry: the dataset's own `provides`
first, else `PROVIDES` below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from structures import Batch
from utils import InputError

PROVIDES = {
    "T_source_from_target.s": "--use_stereo adds the stereo partner",
    "rig_from_camera": "a dataset with extrinsics has it, such as --dataset ddad",
    "cameras": "a dataset of a camera rig has several, such as --dataset ddad",
    "points.matches": "--dataset.matches true reads them (tools/sift_matches.py makes them)",
    "maps.ego_mask": "--dataset.masks true reads them (tools/make_masks.py makes them)",
    **dict.fromkeys(
        ("maps.labels", "maps.source_labels"), "--label_files.path FOLDER reads them, see docs/datasets.md"
    ),
    **dict.fromkeys(
        ("maps.instances", "maps.source_instances"),
        "--label_files.path FOLDER with --label_files.instances true reads them",
    ),
    **dict.fromkeys(
        ("maps.depth", "maps.input_depth"), "a dataset with measured depth has it, such as --dataset kitti"
    ),
    "maps.pseudo_depth": "--pseudo_depth_files.path FOLDER reads what tools/pseudo_depth.py writes",
    **dict.fromkeys(
        ("speed", "time_step"),
        "--dataset kitti --dataset.speed velocity reads it, and --dataset folder from speed.csv",
    ),
    "companion": "--companion NAME adds a second dataset, such as --companion cityscapes",
    "companion.maps.labels": "--companion cityscapes --companion.labels true adds labelled images",
}


def check_needs(needed: Mapping[str, str], batch: Batch, provides: Mapping[str, str] | None = None) -> None:
    """Refuse a batch that lacks an entry.

    Args:
        needed: entry → who reads it, from `Method.needed_entries`.
        batch: the first sample of a run.
        provides: entry → the setting of this dataset that provides it.

    Raises:
        InputError: names the reader, the entry, and the setting to type.
    """
    for entry, reader in needed.items():
        if not has_entry(batch, entry):
            fix = {**PROVIDES, **(provides or {})}.get(entry, f"leave it out with --{reader}.weight 0")
            raise InputError(f"{reader} needs {entry}, which the samples of this dataset do not have; {fix}")


def has_entry(batch: Batch, entry: str) -> bool:
    """True if a batch has the entry of this path."""
    if entry == "cameras":
        return batch.cameras > 1
    value: Any = batch
    for name in entry.split("."):
        if isinstance(value, dict):
            value = {str(key): item for key, item in value.items()}.get(name)
        elif dataclasses.is_dataclass(value):
            value = getattr(value, name)
        if value is None:
            return False
    return not isinstance(value, dict) or bool(value)
