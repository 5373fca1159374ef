"""Predicted labels of an image: train ids, the classes' colours, and the colours laid over the image.

    logits (classes, H, W)  ->  enlarged to (h, w)  ->  arg max over the classes of the table  ->  train ids

The table is that of the labelled images that the model was trained on: Cityscapes' 19 classes, or the
`labels.yaml` of a label folder. Channels beyond the table, such as SGDepth's untrained twentieth, are left
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datasets._labels import LabelTable, cityscapes_table, load_label_table
from datasets.label_folder import TABLE
from predictor import Predictor
from segmentation_metrics import SegmentationProtocol
from utils import InputError

OPACITY = 0.5  # of the colours in an overlay


def table_of_model(predictor: Predictor, flag: str) -> LabelTable:
    """The classes that a model predicts, with their colours.

    Args:
        predictor: the model.
        flag: the flag that wants labels, for the error.

    Raises:
        InputError: a model without segmentation, or the table of its training is not there any more.
    """
    if not predictor.segments:
        method = predictor.options.get("method")
        name = method.get("name") if isinstance(method, Mapping) else method
        raise InputError(
            f"{flag} needs a model with segmentation, trained with --method sgdepth; this one"
            f"{f', {name},' if name else ''} predicts depth only"
        )
    return table_of_training(predictor.options)


def table_of_training(options: Mapping[str, Any]) -> LabelTable:
    """The table of a run's companion; Cityscapes' for a run or a checkpoint that does not name another.

    Raises:
        InputError: the table is not there any more.
    """
    companion = options.get("companion") or {}
    if companion.get("name") != "label_folder":
        return cityscapes_table()
    return load_label_table(companion.get("table") or Path(companion["data_path"]) / TABLE)


def label_map(logits: Tensor, table: LabelTable, height: int, width: int) -> np.ndarray:
    """Train ids (height, width) uint8 from class scores (channels, H, W).

    Raises:
        InputError: the scores have fewer channels than the table has classes.
    """
    protocol = SegmentationProtocol(table.source, table.names)
    return protocol.labels(logits[None], height, width)[0].cpu().numpy().astype(np.uint8)


def overlay(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colours of labels over an image; all (h, w, 3) uint8 RGB."""
    return np.rint((1 - OPACITY) * image + OPACITY * colours.astype(float)).astype(np.uint8)
