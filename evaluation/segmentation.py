"""Evaluate segmentation: a whole dataset against its label files, as table, JSON, CSV and image.

    predict(batch).logits → resized to the labels → arg max → confusion matrix of all pixels

The protocol and the metrics are in segmentation_metrics.py.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.loading import outlive_sigterm
from images import colourise, save_image, writing
from segmentation_metrics import SUMMARY, Confusion, SegmentationProtocol
from structures import Batch, Prediction
from utils import InputError

Predict = Callable[[Batch], Prediction]
_CELL, _LINE = 26, 14  # pixels: side of a cell, height of a line of text


@dataclass
class SegmentationResult:
    """The confusion matrix of a dataset and the protocol it was counted by.

    Attributes:
        protocol: the protocol as printed on its card.
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

    def save(self, folder: str | Path) -> None:
        """Write results.json, per_class.csv and confusion.png.

        Raises:
            InputError: a file cannot be written.
        """
        folder = Path(folder)
        with writing(folder / "results.json") as file:
            file.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        with writing(folder / "per_class.csv") as file, open(file, "w", newline="") as stream:
            rows = self.per_class()
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        save_image(folder / "confusion.png", self.image())


@torch.no_grad()
def evaluate_segmentation(
    predict: Predict,
    dataset: Any,
    protocol: SegmentationProtocol | None = None,
    *,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = False,
    facts: Mapping[str, str] | None = None,
    indices: Sequence[int] | None = None,
) -> SegmentationResult:
    """Predict every image of a labelled dataset and count its pixels.

    Args:
        predict: a float Batch on `device` to a Prediction with `logits`. The caller puts networks into eval
            mode.
        dataset: samples with `train_ids(line)`, labels at their own size, and a `label_table`.
        protocol: bilinear logits over the classes of the dataset's table, if not given.
        batch_size: images at a time.
        device: where to predict and count.
        workers: processes that read images and labels.
        progress: show a bar.
        facts: further lines of the protocol card.
        indices: only these samples. Under torchrun each rank gives its own; `gather` adds them up.

    Raises:
        InputError: the dataset has no labels, an image cannot be read, the method predicts no logits.
    """
    protocol = protocol or default_protocol(dataset)
    confusion = Confusion.empty(len(protocol.classes), device)
    for batch, labels in _batches(dataset, indices, batch_size, workers, progress):
        logits = predict(batch.to(device)).logits
        if logits is None:
            raise InputError("the model predicts no segmentation; train one with --method sgdepth")
        for image, ids in zip(logits.split(1), labels):
            confusion.add(protocol.labels(image, *ids.shape), ids[None].to(device))
    return SegmentationResult(protocol, confusion, dict(facts or {}))


def gather(result: SegmentationResult) -> SegmentationResult:
    """Add up the counts of all processes; every rank gets the whole."""
    if dist.is_initialized():
        dist.all_reduce(result.confusion.counts)
    return result


def default_protocol(dataset: Any, **settings: Any) -> SegmentationProtocol:
    """A protocol over the classes of a dataset's label table.

    Raises:
        InputError: the dataset has no label table.
    """
    table = getattr(dataset, "label_table", None)
    if table is None or not hasattr(dataset, "train_ids"):
        raise InputError(
            f"{type(dataset).__name__.lower()} has no labels to compare with; evaluate on cityscapes or "
            "label_folder"
        )
    name = type(dataset).__name__
    return SegmentationProtocol(**{"name": name, "classes": table.names, **settings})


class _Labelled(Dataset):
    """Samples with their labels at their own size; an error travels as an item, see datasets/loading.py."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Batch, Tensor] | InputError:
        try:
            labels = self.dataset.train_ids(self.dataset.samples[index])
            return self.dataset[index], torch.from_numpy(labels)
        except InputError as error:
            return error


def _batches(
    dataset: Any, indices: Sequence[int] | None, batch_size: int, workers: int, progress: bool
) -> Iterator[tuple[Batch, list[Tensor]]]:
    loader = DataLoader(
        _Labelled(dataset),
        batch_size,
        sampler=range(len(dataset)) if indices is None else indices,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=outlive_sigterm,
        generator=torch.Generator(),  # its own, so that evaluation does not change what is trained next
    )
    for samples in tqdm(loader, "evaluate", disable=not progress, unit="batch", leave=False):
        for sample in samples:
            if isinstance(sample, InputError):
                raise sample
        images, labels = zip(*samples)
        yield Batch.cat(list(images)), list(labels)


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
