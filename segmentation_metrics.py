"""Segmentation errors: confusion matrix, intersection over union, recall and precision of each class.

    IoU_c = TP_c / (TP_c + FN_c + FP_c),   mIoU = mean over the classes that occur   (Everingham et al. 2010)

Pixels are summed over the whole dataset before any ratio is taken, so a large image counts more than a small
one. Pixels with an ignored label do not count. All counts are int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from utils import InputError

IGNORED = 255
RESIZES = ("bilinear", "nearest")
SUMMARY = ("mean_iou", "pixel_accuracy", "mean_recall", "mean_precision", "weighted_iou")
_CELL, _LINE = 26, 14  # pixels: side of a cell, height of a line of text


@dataclass(frozen=True)
class SegmentationProtocol:
    """How logits become labels and are compared with ground truth; printed beside every table.

    Attributes:
        name: the benchmark's name in papers.
        classes: names of the classes, in the order of their train ids.
        ground_truth: where the labels come from, in words.
        resize: how logits reach the size of the labels: `bilinear` (half-pixel centres), or `nearest` as
            SGDepth does.
        all_channels: take the arg max over channels beyond the classes as well, as SGDepth does with its
            untrained twentieth channel; pixels of such a label are then left out.

    Raises:
        InputError: no class, or an unknown way of resizing.
    """

    name: str
    classes: tuple[str, ...]
    ground_truth: str = "label files"
    resize: str = "bilinear"
    all_channels: bool = False

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a segmentation protocol needs at least one class, got none")
        if self.resize not in RESIZES:
            raise InputError(f"logits are resized {' or '.join(RESIZES)}, got '{self.resize}'")

    def card(self) -> dict[str, str]:
        """The protocol in words."""
        channels = "all channels; other labels do not count" if self.all_channels else "the classes"
        return {
            "protocol": self.name,
            "ground truth": self.ground_truth,
            "classes": f"{len(self.classes)} ({', '.join(self.classes)})",
            "resized": f"logits, {self.resize}, to the size of the labels",
            "arg max": f"over {channels}",
            "counts": f"pixels of the whole dataset with a label other than {IGNORED}",
        }

    def labels(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Predicted train ids (B, height, width) int64 from logits (B, channels, h, w).

        Raises:
            InputError: fewer channels than classes.
        """
        if logits.shape[1] < len(self.classes):
            raise InputError(
                f"the network predicts {logits.shape[1]} classes and {self.name} has {len(self.classes)}"
            )
        if not self.all_channels:
            logits = logits[:, : len(self.classes)]
        if logits.shape[-2:] != (height, width):
            corners = {"align_corners": False} if self.resize == "bilinear" else {}
            logits = F.interpolate(logits.float(), (height, width), mode=self.resize, **corners)
        return logits.argmax(1)


@dataclass
class Confusion:
    """Pixel counts of ground truth against prediction.

    Attributes:
        counts: (classes, classes) int64; row: ground truth, column: prediction.
    """

    counts: Tensor

    @staticmethod
    def empty(classes: int, device: torch.device | str = "cpu") -> Confusion:
        """A matrix of zeros."""
        return Confusion(torch.zeros(classes, classes, dtype=torch.int64, device=device))

    def add(self, prediction: Tensor, ground_truth: Tensor) -> None:
        """Count the pixels of two maps of train ids of one shape.

        Pixels whose ground truth or prediction is not a class, such as label 255, are left out.

        Raises:
            InputError: maps of different shapes.
        """
        if prediction.shape != ground_truth.shape:
            raise InputError(
                f"predicted labels have the shape {tuple(prediction.shape)}, ground truth "
                f"{tuple(ground_truth.shape)}; resize the logits first"
            )
        classes = len(self.counts)
        truth, predicted = ground_truth.flatten().long(), prediction.flatten().long()
        valid = (truth >= 0) & (truth < classes) & (predicted >= 0) & (predicted < classes)
        places = (truth * classes + predicted)[valid]
        self.counts += torch.bincount(places, minlength=classes**2).view(classes, classes)

    def iou(self) -> Tensor:
        """(classes,) float64; nan for a class that neither occurs nor is predicted."""
        both = self._right()
        return both / (self._occurs() + self._predicted() - both)

    def recall(self) -> Tensor:
        """(classes,) share of a class's pixels that are found; nan for a class that does not occur."""
        return self._right() / self._occurs()

    def precision(self) -> Tensor:
        """(classes,) share of the pixels predicted as a class that are right; nan if none is."""
        return self._right() / self._predicted()

    def summary(self) -> dict[str, float]:
        """The numbers of `SUMMARY`; means leave out the classes that are nan. nan without any pixel."""
        share = self._occurs() / self.counts.sum()
        values = (
            self.iou().nanmean(),
            self._right().sum() / self.counts.sum(),
            self.recall().nanmean(),
            self.precision().nanmean(),
            (share * self.iou())[share > 0].sum() if self.counts.any() else torch.tensor(torch.nan),
        )
        return {name: float(value) for name, value in zip(SUMMARY, values)}

    def _right(self) -> Tensor:
        return self.counts.diag().double()

    def _occurs(self) -> Tensor:
        return self.counts.sum(1).double()

    def _predicted(self) -> Tensor:
        return self.counts.sum(0).double()


@dataclass
class SegmentationResult:
    """The confusion matrix of a dataset and the protocol it was counted by.

    Attributes:
        protocol: as in its card.
        confusion: pixel counts.
        facts: anything else that belongs to the result: checkpoint, dataset, split.
    """

    protocol: SegmentationProtocol
    confusion: Confusion
    facts: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """Card, summary and a line for each class, as text for a terminal."""
        card = {**self.facts, **self.protocol.card()}
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
        columns = [x.tolist() for x in (self.confusion.iou(), self.confusion.recall())]
        columns += [self.confusion.precision().tolist(), self.confusion.counts.sum(1).tolist()]
        names = ("class", "iou", "recall", "precision", "pixels")
        return [dict(zip(names, row)) for row in zip(self.protocol.classes, *columns)]

    def to_json(self) -> dict:
        """Everything as plain values; nan becomes None, which JSON knows."""

        def plain(value: float) -> float | None:
            return None if value != value else value

        rows = [
            {k: plain(v) if isinstance(v, float) else v for k, v in row.items()} for row in self.per_class()
        ]
        return {
            "protocol": self.protocol.card(),
            **self.facts,
            "summary": {name: plain(value) for name, value in self.confusion.summary().items()},
            "classes": rows,
            "confusion": self.confusion.counts.tolist(),
        }

    def image(self) -> np.ndarray:
        """The confusion matrix in colours; see `confusion_image`."""
        return confusion_image(self.confusion.counts, self.protocol.classes)


def confusion_image(counts: Tensor, names: Sequence[str]) -> np.ndarray:
    """A confusion matrix as an image; each row is divided by its sum, so a cell shows a share of its class.

    Args:
        counts: (classes, classes); row: ground truth, column: prediction.
        names: of the classes.

    Returns:
        (h, w, 3) uint8 RGB: names, then a square for each pair with its share in percent.

    Raises:
        InputError: not one name for each class.
    """
    if len(names) != len(counts):
        raise InputError(f"{len(counts)} classes need as many names, got {len(names)}")
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).cpu().numpy()
    colours = (colormaps["viridis"](shares)[..., :3] * 255).astype(np.uint8)
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
