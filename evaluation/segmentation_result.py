"""The result of a segmentation's evaluation: table, JSON, CSV and the confusion matrix as an image.

The confusion matrix of each image is kept, so that results of several processes join without counting an
image twice, and so that single images can be compared.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from evaluation.result import without_nan
from images import colourise, save_image, writing
from segmentation_metrics import SUMMARY, Confusion, SegmentationProtocol
from utils import InputError

_CELL, _LINE = 26, 14  # pixels: side of a cell, height of a line of text


@dataclass(frozen=True)
class LabelledImage:
    """Pixel counts of one image.

    Attributes:
        index: its index in the dataset.
        name: its name there.
        counts: (classes, classes) int64 on the CPU; row: ground truth, column: prediction.
    """

    index: int
    name: str
    counts: Tensor


@dataclass
class SegmentationResult:
    """Confusion matrices of a dataset's images and the protocol they were counted by.

    Attributes:
        protocol: the protocol as printed on its card.
        images: one record for each image.
        facts: further lines of the card: checkpoint, dataset, split.
    """

    protocol: SegmentationProtocol
    images: list[LabelledImage]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def confusion(self) -> Confusion:
        """Pixel counts of all images together."""
        total = Confusion.empty(len(self.protocol.classes))
        return Confusion(sum((image.counts for image in self.images), total.counts))

    @staticmethod
    def join(shards: Sequence[SegmentationResult]) -> SegmentationResult:
        """One result from several over different images of one dataset; an image given twice counts once."""
        images = {image.index: image for shard in shards for image in shard.images}
        return dataclasses.replace(shards[0], images=[images[index] for index in sorted(images)])

    def averaged(self) -> str:
        """The classes that the mean IoU is taken over, in words."""
        rows = self.per_class()
        absent = [row["class"] for row in rows if math.isnan(row["iou"])]
        only_predicted = [row["class"] for row in rows if not row["pixels"] and row["class"] not in absent]
        words = [f"{len(rows) - len(absent)} of {len(rows)} classes"]
        if absent:
            words.append(f"neither labelled nor predicted: {', '.join(absent)}")
        if only_predicted:
            words.append(f"predicted and never labelled, which is an IoU of 0: {', '.join(only_predicted)}")
        return "; ".join(words)

    def table(self) -> str:
        """Card, summary and a line for each class, as text for a terminal."""
        counted = {"mean IoU over": self.averaged(), "images": str(len(self.images))}
        card = {**self.facts, **self.protocol.card(), **counted}
        lines = [f"{name:>14}: {words}" for name, words in card.items()]
        lines += ["", "  ".join(f"{name:>14}" for name in SUMMARY)]
        lines += ["  ".join(f"{value:14.3f}" for value in self.confusion.summary().values()), ""]
        width = max(len(name) for name in (*self.protocol.classes, "class"))
        lines.append(f"{'class':>{width}}     iou  recall  precision      pixels")
        for row in self.per_class():
            lines.append(
                f"{row['class']:>{width}}  {row['iou']:6.3f}  {row['recall']:6.3f}  {row['precision']:9.3f}"
                f"  {row['pixels']:10d}"
            )
        return "\n".join(lines)

    def per_class(self) -> list[dict]:
        """A record of class, iou, recall, precision and pixels for each class."""
        confusion = self.confusion
        columns = [x.tolist() for x in (confusion.iou(), confusion.recall(), confusion.precision())]
        columns.append(confusion.counts.sum(1).tolist())
        names = ("class", "iou", "recall", "precision", "pixels")
        return [dict(zip(names, row)) for row in zip(self.protocol.classes, *columns)]

    def per_image(self) -> list[dict]:
        """A record of name, pixels and the numbers of `SUMMARY` for each image, over its own classes."""
        return [
            {"name": image.name, "pixels": int(image.counts.sum()), **Confusion(image.counts).summary()}
            for image in self.images
        ]

    def to_json(self) -> dict:
        """Everything as plain values; nan becomes None, which JSON knows."""
        confusion = self.confusion
        return {
            "protocol": self.protocol.card(),
            **self.facts,
            "mean_iou_over": self.averaged(),
            "summary": without_nan(confusion.summary()),
            "classes": [without_nan(row) for row in self.per_class()],
            "confusion": confusion.counts.tolist(),
        }

    def image(self) -> np.ndarray:
        """The confusion matrix in colours; see `confusion_image`."""
        return confusion_image(self.confusion.counts, self.protocol.classes)

    def save(self, folder: str | Path) -> None:
        """Write results.json, per_class.csv, per_image.csv and confusion.png.

        Raises:
            InputError: a file cannot be written.
        """
        folder = Path(folder)
        with writing(folder / "results.json") as file:
            file.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        for name, rows in (("per_class", self.per_class()), ("per_image", self.per_image())):
            with writing(folder / f"{name}.csv") as file, open(file, "w", newline="") as stream:
                table = csv.DictWriter(stream, list(rows[0]))
                table.writeheader()
                table.writerows(rows)
        save_image(folder / "confusion.png", self.image())


def confusion_image(counts: Tensor, names: Sequence[str]) -> np.ndarray:
    """A confusion matrix as an image; each row is divided by its sum, so a cell shows a share of its class.

    Args:
        counts: (classes, classes); row: ground truth, column: prediction.
        names: names of the classes.

    Returns:
        (h, w, 3) uint8 RGB: names, then a square for each pair with its share in percent.

    Raises:
        InputError: not one name for each class.
    """
    if len(names) != len(counts):
        raise InputError(f"{len(counts)} classes need {len(counts)} names, got {len(names)}")
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).cpu().numpy()
    colours = colourise(shares, 0.0, 1.0, "viridis")
    margin = 10 + max(int(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(name)) for name in names)
    side = _CELL * len(names)
    canvas = Image.new("RGB", (margin + side, margin + side), "white")
    cells = Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST)
    canvas.paste(cells, (margin, margin))
    draw = ImageDraw.Draw(canvas)
    above = Image.new("RGB", (side, margin), "white")
    for n, name in enumerate(names):
        middle = margin + n * _CELL + (_CELL - _LINE) // 2
        draw.text((margin - 5, middle), name, fill="black", anchor="ra")
        upright = Image.new("RGB", (margin, _LINE), "white")
        ImageDraw.Draw(upright).text((5, 1), name, fill="black")
        above.paste(upright.rotate(90, expand=True), (n * _CELL + (_CELL - _LINE) // 2, 0))
    canvas.paste(above, (margin, 0))
    for row, column in np.argwhere(shares >= 0.005):
        place = margin + column * _CELL + _CELL // 2, margin + row * _CELL + _CELL // 2
        shade = "black" if shares[row, column] > 0.6 else "white"
        draw.text(place, f"{100 * shares[row, column]:.0f}", fill=shade, anchor="mm")
    return np.array(canvas)
