"""Segmentation errors: confusion matrix, intersection over union, recall and precision of each class.

    IoU_c = TP_c / (TP_c + FN_c + FP_c),   mIoU = mean over the classes that occur or are predicted
                                                                             (Everingham et al. 2010)

Pixels are summed over the whole dataset before any ratio is taken, so a large image counts more than a small
one. Pixels with an ignored label do not count. All counts are int64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError, nearest_name

IGNORED = 255
RESIZES = ("bilinear", "nearest")
SUMMARY = ("mean_iou", "pixel_accuracy", "mean_recall", "mean_precision", "weighted_iou")


@dataclass(frozen=True)
class SegmentationProtocol:
    """How logits become labels and are compared with ground truth; printed with every table.

    Attributes:
        name: the benchmark's name in papers.
        classes: names of the classes, in the order of their train ids.
        ground_truth: where the labels come from, in words.
        resize: how logits reach the size of the labels: `bilinear` (half-pixel centres), or `nearest` as
            SGDepth does.
        all_channels: take the arg max over channels beyond the classes as well, as SGDepth does with its
            untrained twentieth channel; pixels of such a label are then left out.
        goal: the metric of `SUMMARY` that selects the best checkpoint; a higher value is better.

    Raises:
        InputError: no class, or an unknown way of resizing.
    """

    name: str
    classes: tuple[str, ...]
    ground_truth: str = "label files"
    resize: str = "bilinear"
    all_channels: bool = False
    goal: str = "mean_iou"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("a segmentation protocol needs at least one class, got none")
        if self.resize not in RESIZES:
            raise InputError(f"logits are resized {' or '.join(RESIZES)}, got '{self.resize}'")
        if self.goal not in SUMMARY:
            raise InputError(f"there is no metric '{self.goal}'{nearest_name(self.goal, SUMMARY)}")

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
        actual, predicted = ground_truth.flatten().long(), prediction.flatten().long()
        valid = (actual >= 0) & (actual < classes) & (predicted >= 0) & (predicted < classes)
        cells = (actual * classes + predicted)[valid]
        self.counts += torch.bincount(cells, minlength=classes**2).view(classes, classes)

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
        """The numbers of `SUMMARY`. Means leave out classes that are nan. Without pixels, all are nan."""
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
