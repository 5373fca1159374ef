"""Lists of SGDepth's data library as JSON: `kitti_zhou_split/train.json`, `cityscapes/validation.json`.

    names       categories: color, color_right, depth, segmentation, ...
    files       for each category its files, relative to the dataset's folder
    positions   for each file: number of the frame in the whole dataset, frames before and after it in its
                sequence, number in its own category

Source: ifnspaml/SGDepth and ifnspaml/IFN_Dataloader. Images of the left camera come first, then those of the
right one. In training only frames with a neighbour on both sides are listed, and of a set with segmentation
only labelled frames: this is what the published loaders keep.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from utils import InputError, read_text

PARTS = {"train": "train", "validation": "val", "test": "test"}  # name of a file → part
COLOURS = {"color": "l", "color_right": "r"}  # category → camera
LABELS = "segmentation"
KITTI = re.compile(
    r"(?:.*/)?(\d{4}_\d\d_\d\d/\d{4}_\d\d_\d\d_drive_\d{4}_sync)/image_0([23])/data/(\d{10})\.\w+"
)
CITYSCAPES = re.compile(r"(?:.*/)?([a-z]+_\d{6})_(\d{6})_leftImg8bit\.\w+")
_KITTI_SIDES = {"2": "l", "3": "r"}

Line = tuple[str, int, "str | None", str]  # folder, frame, side, source


def read_json_list(path: Path, part: str, name: str) -> list[Line]:
    """The samples of one list: folder, frame, side and source of each, as in `splits.SplitLine`.

    Args:
        path: the JSON file.
        part: train, val or test.
        name: the file as errors name it.

    Raises:
        InputError: not such a list, or a file that is of neither KITTI nor Cityscapes.
    """
    categories = _categories(path, name)
    labelled = {row[0] for _, row in categories.get(LABELS, ())}
    lines = []
    for category in COLOURS:
        for number, (file, row) in enumerate(categories.get(category, ())):
            source = f"{name}, {category} {number}"
            line = _line(file, source)
            alone = part == "train" and line[2] is not None and min(row[1:3]) < 1
            if not alone and (LABELS not in categories or row[0] in labelled):
                lines.append(line)
    return lines


def _categories(path: Path, name: str) -> dict[str, list[tuple[str, list[int]]]]:
    """Category → its files, each with its position; only categories of images and labels are checked."""
    try:
        content: Any = json.loads(read_text(path))
        names, files, positions = (content[key] for key in ("names", "files", "positions"))
        entries = list(zip(names, files, positions, strict=True))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{name} is not a list of SGDepth's data library ({reason}); it needs names, files and positions "
            "of equal length; IFN_Dataloader's dataset_index.py writes it again"
        ) from None
    found = {}
    for category, paths, rows in entries:
        if category not in (*COLOURS, LABELS):
            continue
        fits = isinstance(paths, list) and isinstance(rows, list) and len(paths) == len(rows)
        if not (fits and all(map(_is_position, rows)) and all(isinstance(one, str) for one in paths)):
            raise InputError(
                f"{name}: category '{category}' needs a file and a position of four whole numbers for each "
                "frame; IFN_Dataloader's dataset_index.py writes it again"
            )
        found[category] = list(zip(paths, rows))
    if not set(COLOURS) & set(found):
        raise InputError(f"{name} has no category color; its categories are {', '.join(map(str, names))}")
    return found


def _is_position(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 4 and all(type(number) is int for number in row)


def _line(file: str, source: str) -> Line:
    if match := KITTI.fullmatch(file):
        return match[1], int(match[3]), _KITTI_SIDES[match[2]], source
    if match := CITYSCAPES.fullmatch(file):
        return match[1], int(match[2]), None, source
    raise InputError(
        f"{source}: '{file}' is neither an image of KITTI raw nor of Cityscapes; write train_files.txt for "
        "other data (docs/datasets.md)"
    )
