"""Dynamic and static pixels: which pixels of an image show objects that move.

    a folder that mirrors the dataset's    <data_path>/a/b/7.jpg -> <masks>/a/b/7.png, or <masks>/7.png
        masks or instance numbers          above 0: moving
        label files of a table             moving: a class that `moves`; ignored pixels: neither region
        dynamic_colors.txt next to them    colours, moving if the file lists them (SC-Depth's test sets)
    no folder                              the labels that the dataset itself has

An image is aligned as a whole before its regions are compared, so that a region is not forgiven a wrong
scale. An image without such pixels has no error there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets._labels import IGNORED, LabelTable, load_label_table, read_label_image
from datasets.sequence import SequenceDataset
from datasets.testing_tree import COLOURS, read_colours
from metrics import GroundTruth
from utils import InputError

UNKNOWN = -1


class MovingMasks:
    """Reads which pixels of a dataset's images move.

    Args:
        dataset: the evaluated images.
        folder: masks, instance numbers or label files; None for the dataset's own labels.
        table: label table of the files, a labels.yaml or a name of configs/labels/; None for masks.

    Raises:
        InputError: no folder and a dataset without labels, no such folder, a table without a folder, colours
            that no mask has.
    """

    def __init__(
        self, dataset: SequenceDataset, folder: str | Path | None = None, table: str | Path | None = None
    ) -> None:
        self.dataset = dataset
        self.folder = None if folder is None else Path(folder).expanduser()
        if self.folder is None:
            if table is not None:
                raise InputError("--moving_labels is the table of label files; add --moving_masks FOLDER")
            if not hasattr(dataset, "train_ids"):
                raise InputError(
                    f"{type(dataset).__name__.lower()} has no labels that say what moves; give a folder of "
                    "masks, --moving_masks FOLDER"
                )
        elif not self.folder.is_dir():
            raise InputError(f"there is no folder {folder}, which --moving_masks names")
        self.table = None if table is None else load_label_table(table)
        self.colours = self._read_colours()
        if self.colours is not None and not any(
            (mask == 1).any() for index in range(len(dataset.samples)) for mask in self.read(index)
        ):
            listed = ", ".join(" ".join(map(str, colour)) for colour in self.colours[:4])
            raise InputError(
                f"no mask in {self.folder} has a colour of {self.folder / COLOURS} ({listed}); are they R "
                "G B?"
            )

    def read(self, index: int) -> list[np.ndarray]:
        """(h, w) int8 of each camera of a sample: 1 moving, 0 static, -1 unknown.

        Raises:
            InputError: an image without a mask, a mask that cannot be read.
        """
        sample = self.dataset.samples[index]
        if self.folder is None:
            return [_of_labels(self.dataset.train_ids(sample), self.dataset.label_table)]
        return [self._read_file(self._file(image)) for image in self.dataset.paths(sample, 0)]

    def at(self, index: int, ground_truth: GroundTruth) -> Tensor:
        """(N, K) int8 at the pixels of a sample's ground truth; a mask of another size is scaled to it."""
        values = torch.full(ground_truth.depth.shape, UNKNOWN, dtype=torch.int8)
        if not ground_truth.valid.any():
            return values
        for camera, mask in enumerate(self.read(index)):
            size = ground_truth.sizes[camera]
            rows, columns = (
                ((pixels[camera] + 0.5) * (length / new)).long()
                for pixels, length, new in zip((ground_truth.rows, ground_truth.columns), mask.shape, size)
            )
            values[camera] = torch.from_numpy(mask)[rows, columns]
        return values

    def _file(self, image: Path) -> Path:
        mirrored = self.folder / image.relative_to(self.dataset.data_path).with_suffix(".png")
        flat = self.folder / f"{image.stem}.png"
        if mirrored.is_file() or not flat.is_file():
            return mirrored
        return flat

    def _read_file(self, file: Path) -> np.ndarray:
        if not file.is_file():
            raise InputError(f"there is no mask {file}; --moving_masks mirrors the dataset's folder")
        if self.table is not None:
            return _of_labels(self.table.read(file), self.table)
        values = read_label_image(file)
        if self.colours is not None:
            if values.ndim != 3:
                raise InputError(f"{file} holds one channel, and {self.folder / COLOURS} lists colours")
            moving = (values[:, :, None, :3] == self.colours).all(-1).any(-1)
        elif values.ndim == 2:
            moving = values > 0
        else:
            raise InputError(
                f"{file} holds colours; list those of moving objects in {self.folder / COLOURS}, one "
                '"red green blue" a line, or name the table of the labels, --moving_labels TABLE'
            )
        return moving.astype(np.int8)

    def _read_colours(self) -> np.ndarray | None:
        if self.folder is None or self.table is not None or not (self.folder / COLOURS).is_file():
            return None
        return read_colours(self.folder / COLOURS)


def _of_labels(labels: np.ndarray, table: LabelTable) -> np.ndarray:
    moving = np.isin(labels, table.moves).astype(np.int8)
    return np.where(labels == IGNORED, np.int8(UNKNOWN), moving)
