"""Evaluate segmentation: a whole dataset against its label files.

    predict(batch).logits -> resized to the labels -> arg max -> confusion matrix of each image

The protocol and the metrics are in segmentation_metrics.py, the result is in segmentation_result.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from evaluation.loop import Loading, Predict, Samples, predict_samples
from evaluation.segmentation_result import LabelledImage, SegmentationResult
from segmentation_metrics import Confusion, SegmentationProtocol
from utils import InputError


def evaluate_segmentation(
    predict: Predict,
    dataset: Any,
    protocol: SegmentationProtocol | None = None,
    loading: Loading | None = None,
    facts: Mapping[str, str] | None = None,
) -> SegmentationResult:
    """Predict every image of a labelled dataset and count its pixels.

    Args:
        predict: a float Batch on the device to a Prediction with `logits`. Networks must be in eval mode.
        dataset: single images with `train_ids(sample)`, labels at their own size, and a `label_table`.
        protocol: bilinear logits over the classes of the dataset's table, if not given.
        loading: batch size, device, workers, flip averaging, shard; None for `Loading()`.
        facts: further lines of the protocol card.

    Returns:
        The result. With `loading.indices` it holds these samples only; `result.gather` joins the shards of
        all ranks.

    Raises:
        InputError: the dataset has no labels, an image cannot be read, the method predicts no logits.
    """
    protocol, loading = protocol or default_protocol(dataset), loading or Loading()
    samples = Samples(dataset, functools.partial(_labels, dataset))
    images = []
    for indices, prediction, labels in predict_samples(predict, samples, loading):
        if prediction.logits is None:
            raise InputError("the model predicts no segmentation; train one with --method sgdepth")
        for index, logits, ids in zip(indices, prediction.logits.split(1), labels):
            confusion = Confusion.empty(len(protocol.classes), loading.device)
            confusion.add(protocol.labels(logits, *ids.shape), ids[None].to(loading.device))
            images.append(LabelledImage(index, dataset.name(index), confusion.counts.cpu()))
    return SegmentationResult(protocol, images, dict(facts or {}))


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


def _labels(dataset: Any, index: int) -> torch.Tensor:
    """Train ids of a sample at their own size, (h, w) uint8."""
    return torch.from_numpy(dataset.train_ids(dataset.samples[index]))
