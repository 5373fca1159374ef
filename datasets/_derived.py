"""Masks and matches are read only if they were made from the images and calibration that are there.

The tools write the origin (provenance.py) into each file: into a text chunk of a mask, and as a second array
of a match file. A file without an origin, of an earlier version or of another tool, is read as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets._pillow import Unreadable, opened
from files import DAMAGED_ARRAY
from provenance import difference
from utils import InputError

MASK_ORIGIN = "parallax"  # key of the text chunk in which a mask carries its origin


def matches_origin(path: Path) -> dict[str, Any] | None:
    """The origin in a match file; None if it has none."""
    try:
        with open(path, "rb") as file:
            np.load(file, allow_pickle=False)
            return json.loads(str(np.load(file, allow_pickle=False)))
    except DAMAGED_ARRAY:
        return None


def mask_origin(path: Path) -> dict[str, Any] | None:
    """The origin in a mask; None if it has none."""
    try:
        with opened(path) as image:
            return json.loads(image.text[MASK_ORIGIN])
    except (OSError, InputError, Unreadable):
        return None


def check_matches(
    path: Path, root: Path, camera_names: Sequence[str], intrinsics: np.ndarray, extrinsics: np.ndarray
) -> None:
    """Refuse matches of other images, or triangulated with another calibration.

    Args:
        path: a match file.
        root: the dataset's root.
        camera_names: the N cameras that are read.
        intrinsics: (N, 3, 3) pixels of the recordings.
        extrinsics: (N, 4, 4) rig_from_camera, metres.

    Raises:
        InputError: the file and what has changed.
    """
    made = matches_origin(path)
    if made is None:
        return
    settings = made.get("settings", {})
    reason = difference(made, root, **settings)
    known = list(settings.get("cameras", ()))
    for number, name in enumerate(camera_names):
        for key, values, unit in (("intrinsics", intrinsics, 1e-3), ("extrinsics", extrinsics, 1e-6)):
            if name in known and key in settings:
                then = np.asarray(settings[key][known.index(name)])
                if not np.allclose(then, values[number], rtol=0, atol=unit):
                    reason = reason or f"the {key} of {name} have changed"
    if reason:
        raise InputError(
            f"the matches {path} were made from other data: {reason}; run tools/sift_matches.py again, which "
            "replaces them"
        )


def check_mask(path: Path, root: Path) -> None:
    """Refuse an ego mask of other images.

    Raises:
        InputError: the file and what has changed.
    """
    made = mask_origin(path)
    reason = difference(made, root, **made.get("settings", {})) if made else None
    if reason:
        raise InputError(
            f"the mask {path} was made from other data: {reason}; run tools/make_masks.py with --overwrite, "
            "which replaces it"
        )
