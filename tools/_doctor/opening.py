"""Opening a dataset that may be faulty: if it refuses, further attempts work around what is wrong.

Attempts leave out samples that lack an image and, for a folder, use assumed intrinsics and hold nothing back
for validation, so that the rest can still be examined. Each refusal is a finding. A folder without intrinsics
is opened with guessed ones, as `parallax train` opens it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import DATASETS, SequenceDataset
from datasets._guessed_camera import ASSUMED
from datasets.image_files import IMAGES, read_image
from datasets.scenes import find_scenes
from intrinsics import FILES, GUESS, diagnose, parse_intrinsics, suggestion
from notices import collect_notices
from tools._doctor.reading import Figure, Finding
from utils import InputError, check_settings, read_text

GUESSED = "went on with guessed intrinsics"


def open_dataset(given: argparse.Namespace) -> tuple[list[Finding], SequenceDataset | None, bool]:
    """The dataset that the flags name.

    Returns:
        Findings about opening it; the dataset, None if all attempts fail; whether its intrinsics are assumed.

    Raises:
        InputError: an unknown dataset or setting. It is an error of the command line, not a finding.
    """
    named = ("split", "part", "frame_ids", "height", "width")
    settings = {name: getattr(given, name) for name in named if getattr(given, name) is not None}
    settings |= given.dataset_settings
    check_settings(f"dataset {given.dataset}", DATASETS.get(given.dataset), settings)
    repairs: list[tuple[str, Mapping[str, Any]]] = [
        ("went on without the samples that lack an image", {"skip_missing": True})
    ]
    about_file: list[Finding] = []
    if given.dataset == "folder":
        try:
            root, scenes = find_scenes(given.data_path)
        except InputError as error:
            return [Finding("problem", "opening", str(error))], None, False
        folder = next(iter(scenes.values()))
        size = first_size(folder)
        if size is not None:
            about_file = [] if "intrinsics" in settings else _diagnose_file(folder, root, *size)
            repairs.append((GUESSED, {"intrinsics": suggestion(*size)}))
        repairs.append(("went on with nothing held back for validation", {"val_fraction": 0}))
        settings.setdefault("intrinsics", GUESS)  # files take precedence over it
    return _attempts(given, settings, repairs, about_file)


def _attempts(
    given: argparse.Namespace,
    settings: dict[str, Any],
    repairs: list[tuple[str, Mapping[str, Any]]],
    about_file: list[Finding],
) -> tuple[list[Finding], SequenceDataset | None, bool]:
    """Open with the settings as given, then with one repair after another until the dataset opens.

    Args:
        repairs: sentence and settings of each repair; one that changes nothing is taken back.
        about_file: findings about the intrinsics file, which replace the refusal that guessing repairs.
    """
    findings: list[Finding] = []
    with collect_notices() as said:
        dataset, reason = _open(given, settings)
    findings += [Finding("note", "files", sentence) for sentence in dict.fromkeys(said)]
    if reason is not None:
        findings.append(Finding("problem", "opening", reason))
    guessed, told = False, []
    for words, repair in repairs:
        if dataset is not None:
            break
        dataset, left = _open(given, {**settings, **repair})
        if left == reason:
            continue
        settings, reason = {**settings, **repair}, left
        told.append(Finding("note", "opening", words))
        if words == GUESSED:
            guessed = True
            if any(finding.level == "problem" for finding in about_file):
                findings = [*findings[:-1], *about_file]
        if left is not None:
            findings.append(Finding("problem", "opening", left))
    guessed = guessed or any(
        getattr(scene, "source", "") == ASSUMED for scene in getattr(dataset, "scenes", [])
    )
    return [*findings, *(told if dataset is not None else [])], dataset, guessed


def _open(
    given: argparse.Namespace, settings: Mapping[str, Any]
) -> tuple[SequenceDataset, None] | tuple[None, str]:
    """The dataset and None, or None and the error that refused it."""
    section = {"name": given.dataset, **settings}
    try:
        return datasets.open_dataset({"dataset": section, "data_path": given.data_path}, "inspect"), None
    except InputError as error:
        return None, str(error)


def first_size(folder: Path) -> tuple[int, int] | None:
    """(height, width) of an image in the middle of a folder; None if it cannot be read."""
    images = [path for path in _images_below(folder) if path.parent == folder]  # without depth images
    try:
        return tuple(read_image(images[len(images) // 2]).shape[-2:])
    except InputError:
        return None


def _diagnose_file(folder: Path, root: Path, height: int, width: int) -> list[Finding]:
    """Findings about the numbers in an intrinsics file, which say more than the refusal of the dataset."""
    found = (place / name for place in (folder, root) for name in FILES)
    path = next((file for file in found if file.is_file()), None)
    try:
        K = None if path is None else parse_intrinsics(read_text(path), str(path))
    except InputError:
        return []
    implausible = [] if K is None else diagnose(K, height, width)
    return [Finding(level, "intrinsics", f"{path}: {text}") for level, text in implausible]


def loose_images(data_path: Path, most: int = 3) -> Figure | None:
    """Some images below a folder that does not open as a dataset; None if there is none."""
    panels = []
    for path in _images_below(data_path)[: 10 * most]:
        try:
            panels.append((path.name, read_image(path).permute(1, 2, 0).numpy()))
        except InputError:
            continue
        if len(panels) == most:
            break
    return Figure("some of the images", panels) if panels else None


def _images_below(data_path: Path, most: int = 1000) -> list[Path]:
    """Images of the first folders that hold some, sorted; a large dataset is not listed completely."""
    found: list[Path] = []
    for folder, folders, names in os.walk(data_path):
        folders.sort()
        found += [Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGES]
        if len(found) > most or (found and folders == []):
            break
    return found
