"""Evaluations of segmentation in the report: mean IoU, each class, confusion matrices, protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evaluation.segmentation_result import confusion_image
from segmentation_metrics import SUMMARY
from tools._page import Figure, figure_html
from tools._report.reading import Run, Segmentation
from tools._report.tables import notes, number_words, protocol, table

PER_ROW = 2  # confusion matrices next to each other
SUMMARY_WORDS = dict(
    zip(SUMMARY, ("mean IoU", "pixel accuracy", "mean recall", "mean precision", "weighted IoU"))
)
FACTS = ("dataset", "network size")  # lines of the protocol card in addition to those of the protocol


def segmentation_html(name: str, runs: Sequence[Run]) -> str:
    """One evaluation of segmentation, runs next to each other.

    Args:
        name: name of the evaluation.
        runs: the runs of the report; their position is their colour.
    """
    found = {n: run.segmentations[name] for n, run in enumerate(runs) if name in run.segmentations}
    rows = [
        (runs[n].name, *(number_words(one.results["summary"].get(key)) for key in SUMMARY))
        for n, one in found.items()
    ]
    text = table([("run", *SUMMARY_WORDS.values()), *rows], [None, *found])
    text += notes(
        [
            (runs[n].name, f"mean IoU over {one.results.get('mean_iou_over', 'the classes')}.")
            for n, one in found.items()
        ]
    )
    names = [runs[n].name for n in found]
    text += f"<h3>IoU of each class</h3>{table(_classes(list(found.values()), names))}"
    panels = [(runs[n].name, _confusion(one)) for n, one in found.items()]
    caption = "Confusion matrix, % of the pixels of each class; row: ground truth, column: prediction"
    text += figure_html(Figure(caption, panels, PER_ROW, sharp=True))
    cards = {
        runs[n].name: {
            **one.results["protocol"],
            **{key: one.results[key] for key in FACTS if key in one.results},
        }
        for n, one in found.items()
    }
    return text + protocol(cards)


def _classes(found: Sequence[Segmentation], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of the table of classes: IoU by each run, the class's share of the first run's pixels."""
    by_class = [{row["class"]: row for row in one.results["classes"]} for one in found]
    pixels = max(sum(row["pixels"] for row in by_class[0].values()), 1)
    rows: list[tuple[Any, ...]] = [("class", *names, "share of pixels")]
    for label in dict.fromkeys(label for one in by_class for label in one):
        values = [number_words(one[label]["iou"]) if label in one else "-" for one in by_class]
        share = f"{by_class[0][label]['pixels'] / pixels:.1%}" if label in by_class[0] else "-"
        rows.append((label, *values, share))
    return rows


def _confusion(one: Segmentation):
    return confusion_image(torch.from_numpy(one.confusion), [row["class"] for row in one.results["classes"]])
