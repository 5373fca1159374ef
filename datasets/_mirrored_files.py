"""Files that belong to images, in a folder that mirrors a dataset: <data_path>/a/7.jpg → <path>/a/7.png."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datasets.sequence import SequenceDataset
from files import inside
from utils import InputError


def mirrored_file(path: Path, image: Path, dataset: Any) -> Path:
    """The file in the folder `path` that belongs to an image file of a dataset.

    Raises:
        InputError: a list or table of the dataset names an image outside of its folder.
    """
    if not image.is_relative_to(dataset.data_path):
        raise InputError(f"{image} lies outside of {dataset.data_path}, so no file in {path} belongs to it")
    return inside(path, str(image.relative_to(dataset.data_path).with_suffix(".png")))


def check_whole_images(dataset: Any, what: str) -> None:
    """Refuse a dataset that crops or unpacks its images, since files of `what` have the size of image files.

    Raises:
        InputError: it reads images in its own way.
    """
    if type(dataset).read_images is not SequenceDataset.read_images:
        raise InputError(
            f"{what} belong to whole image files, which {type(dataset).__name__.lower()} crops or "
            "unpacks; use them with kitti or folder"
        )


def check_mirrored(path: Path, dataset: Any, frames: Any, what: str, fix: str = "") -> None:
    """Refuse a dataset that has an image without its file. Each folder is listed once.

    Args:
        path: the folder that mirrors the dataset.
        frames: frames of a sample that need files.
        what: a file in words, such as "label file".
        fix: end of the sentence.

    Raises:
        InputError: names the first image without a file.
    """
    listed: dict[str, set[str]] = {}
    for sample in dataset.samples:
        for frame in frames:
            for image in dataset.paths(sample, frame):
                folder, name = os.path.split(mirrored_file(path, image, dataset))
                if folder not in listed:
                    listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
                if name not in listed[folder]:
                    raise InputError(f"{image} has no {what} {folder}/{name}{fix}")
