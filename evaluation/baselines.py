"""Baselines that ignore the image: one constant depth, and the mean depth of each pixel.

Every table starts with them: a network that is not better has learned nothing from its image. The mean
depth map is the strongest predictor of this kind, since driving scenes resemble each other row by row.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import open_dataset
from datasets.sequence import SequenceDataset
from evaluation.choice import Model, Opened
from evaluation.loop import Predict
from methods.metric_scale import trained_on
from structures import Batch, Prediction
from utils import InputError

MEAN_SAMPLES = 200  # training samples whose ground truth gives the mean depth of each pixel


def constant_predictor(depth: float = 10.0) -> Predict:
    """A predictor of `depth` metres at every pixel."""

    def predict(batch: Batch) -> Prediction:
        images = batch.images[0]
        return Prediction({}, {0: images.new_full((len(images), 1, *images.shape[2:]), depth)})

    return predict


def map_predictor(depth: Tensor) -> Predict:
    """A predictor of the same (H, W) depth map, metres, for every image."""

    def predict(batch: Batch) -> Prediction:
        images = batch.images[0]
        resized = F.interpolate(
            depth[None, None].to(images), images.shape[2:], mode="bilinear", align_corners=False
        )
        return Prediction({}, {0: resized.expand(len(images), -1, -1, -1)})

    return predict


def mean_depth_map(
    dataset: SequenceDataset, height: int, width: int, indices: Iterable[int] | None = None
) -> Tensor:
    """The mean ground truth of a training set at each pixel, for `map_predictor`.

    Ground truth is gathered into `height` x `width` cells. An empty cell takes the mean of its row; an empty
    row takes that of the next row below, since a LiDAR leaves out the sky.

    Args:
        dataset: a dataset with ground truth.
        height, width: cells of the map.
        indices: the samples to use; None for all.

    Returns:
        (height, width) metres.

    Raises:
        InputError: there is no ground truth at all.
    """
    protocol = dataset.protocol
    total, count = np.zeros(height * width), np.zeros(height * width)
    for index in range(len(dataset)) if indices is None else indices:
        maps = dataset.depth(index)
        for depth in () if maps is None else maps:
            rows, columns = np.nonzero((depth > protocol.min_depth) & (depth < protocol.max_depth))
            cells = (rows * height // depth.shape[0]) * width + columns * width // depth.shape[1]
            np.add.at(total, cells, depth[rows, columns])
            np.add.at(count, cells, 1)
    if not count.any():
        raise InputError(f"{type(dataset).__name__} has no ground truth to take the mean of")
    total, count = total.reshape(height, width), count.reshape(height, width)
    known = np.flatnonzero(count.any(1))
    row_means = total[known].sum(1) / count[known].sum(1)
    below = np.minimum(np.searchsorted(known, np.arange(height)), len(known) - 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), row_means[below][:, None])
    return torch.from_numpy(mean).float()


def training_mean_depth(model: Model, opened: Opened) -> Tensor | None:
    """The mean depth of each pixel over some samples of a model's training set, (H, W) metres.

    None if the model was trained on another dataset than the evaluated one, or on a rig, if the training
    data are not at hand, or have no ground truth.
    """
    options = model.options
    if opened.name != trained_on(options)[0] or opened.images.cameras > 1 or not options.get("data_path"):
        return None
    try:
        train_set = open_dataset(options, "evaluate", part="train")
        indices = np.linspace(0, len(train_set) - 1, min(len(train_set), MEAN_SAMPLES)).round().astype(int)
        return mean_depth_map(train_set, options["height"], options["width"], indices.tolist())
    except InputError:
        return None
