"""Labelled images of any dataset: a folder with one `labels.yaml`, such as the companion of SGDepth.

    images: images/{part}/{name}.jpg            # in addition to the table of datasets/_labels.py
    labels: labels/{part}/{name}.png
    parts: {val: validation}                    # names of the parts on disk, where they differ

Each field in braces is any text without a slash, `{name}` may also have slashes; an image and a label file
with the same fields belong together. Without the field `{part}` a share of the images is held back for val.
The images are single: frame_ids is (0,), and intrinsics are nominal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import DATASETS
from datasets._labels import LabelTable, read_label_settings, table_of
from datasets.image_files import image_size
from datasets.sequence import SequenceDataset, check_folder
from metrics import Protocol
from structures import Frame
from utils import InputError

TABLE = "labels.yaml"
PARTS = ("train", "val", "test", "all")
DEFAULTS = {"images": "images/{part}/{name}.png", "labels": "labels/{part}/{name}.png"}


class Pair(NamedTuple):
    """A sample: an image and its label file."""

    image: Path
    labels: Path


@DATASETS.register
class LabelFolder(SequenceDataset):
    """Images with a label file each.

    Args:
        data_path: folder with the images and label files.
        part: train, val, test or all.
        frame_ids: only 0, since the images are single.
        skip_missing: leave out images without a label file instead of refusing to start.
        table: the label table: `labels.yaml` of the folder if not given, another file, or a name of
            configs/labels/.
        val_fraction: share of the images that is held back for val if the paths have no `{part}`; 0 makes
            every part all of them.

    Raises:
        InputError: a table that does not fit (datasets/_labels.py), no pairs, label files of another size.
    """

    protocol = Protocol("labelled images", "none")

    def __init__(
        self,
        data_path: str | Path,
        part: str = "train",
        frame_ids: Sequence[Frame] = (0,),
        skip_missing: bool = False,
        table: str | Path | None = None,
        val_fraction: float = 0.1,
        **settings: Any,
    ) -> None:
        if part not in PARTS:
            raise InputError(f"a label folder has the parts {', '.join(PARTS)}, got '{part}'")
        if tuple(frame_ids) != (0,):
            raise InputError(
                f"labelled images are single: frame_ids is 0, got {' '.join(map(str, frame_ids))}"
            )
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction is in [0, 1), got {val_fraction}")
        root = Path(data_path)
        check_folder(root)
        source = str(table or root / TABLE)
        described = read_label_settings(source)
        self.label_table: LabelTable = table_of(described, source)
        self.samples = _find_pairs(root, described, part, val_fraction, skip_missing, source)
        super().__init__(root, frame_ids=frame_ids, skip_missing=skip_missing, **settings)

    def paths(self, sample: Pair, frame: Frame) -> list[Path]:
        return [sample.image]

    def intrinsics(self, sample: Pair, camera: int, height: int, width: int) -> np.ndarray:
        """A nominal camera whose focal length is the width; label files come without intrinsics."""
        return np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])

    def maps(self, sample: Pair) -> dict[str, Tensor]:
        """`labels` (1, 1, height, width) uint8 train ids, by the nearest pixel."""
        ids = torch.from_numpy(self.train_ids(sample))[None, None]
        return {"labels": F.interpolate(ids, (self.height, self.width), mode="nearest-exact")}

    def train_ids(self, sample: Pair) -> np.ndarray:
        """(h, w) uint8, the labels of an image at their own size.

        Raises:
            InputError: a label file of another size than its image, or what the table refuses.
        """
        labels = self.label_table.read(sample.labels)
        size = image_size(sample.image)
        if labels.shape != size:
            raise InputError(
                f"{sample.labels} is {labels.shape[1]}x{labels.shape[0]} and its image {sample.image} is "
                f"{size[1]}x{size[0]}; both must have one size"
            )
        return labels

    def name(self, index: int) -> str:
        return self.samples[index].image.relative_to(self.data_path).as_posix()


def _find_pairs(
    root: Path, settings: dict[str, Any], part: str, val_fraction: float, skip_missing: bool, source: str
) -> list[Pair]:
    patterns = {key: str(settings.get(key, default)) for key, default in DEFAULTS.items()}
    fields = {key: set(re.findall(r"{(\w+)}", pattern)) for key, pattern in patterns.items()}
    if fields["images"] != fields["labels"] or not fields["images"]:
        raise InputError(
            f"{source}: images and labels need the same fields in braces, got {patterns['images']} and "
            f"{patterns['labels']}"
        )
    on_disk = (settings.get("parts") or {}).get(part, part)
    images = _matching(root, patterns["images"])
    by_part = "part" in fields["images"]
    if by_part and part != "all":
        images = [(path, found) for path, found in images if found["part"] == on_disk]
    if not images:
        raise InputError(
            f"there are no images {patterns['images']} for part '{part}' in {root}; set `images` in {source}"
        )
    pairs = [Pair(path, root / patterns["labels"].format(**found)) for path, found in images]
    missing = [pair for pair in pairs if not pair.labels.is_file()]
    if missing and not (skip_missing and len(missing) < len(pairs)):
        raise InputError(
            f"{missing[0].image} has no labels {missing[0].labels}; {len(missing)} of {len(pairs)} images "
            "lack them (--skip_missing leaves these out)"
        )
    pairs = [pair for pair in pairs if pair not in set(missing)]
    if by_part or part == "all" or not val_fraction:
        return pairs
    held_back = max(1, round(val_fraction * len(pairs)))
    return pairs[: len(pairs) - held_back] if part == "train" else pairs[len(pairs) - held_back :]


def _matching(root: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files below `root` that match a pattern with fields, sorted; each with the values of its fields."""
    seen: set[str] = set()
    expression = ""
    for text in re.split(r"({\w+})", pattern):
        field = text[1:-1]
        if not re.fullmatch(r"{\w+}", text):
            expression += re.escape(text)
        elif field in seen:
            expression += f"(?P={field})"
        else:
            seen.add(field)
            expression += f"(?P<{field}>.+)" if field == "name" else f"(?P<{field}>[^/]+)"
    depth = re.sub(r"{name}", "**/*", re.sub(r"{(?!name)\w+}", "*", pattern))
    files = sorted(root.glob(depth))
    found = ((path, re.fullmatch(expression, path.relative_to(root).as_posix())) for path in files)
    return [(path, match.groupdict()) for path, match in found if match]
