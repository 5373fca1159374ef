"""Estimates of a model's scale factor, one for each frame, and the factor that they agree on.

    speed          v |dt| / |t|                    t: translation of the pose network between two frames
    ground truth   median of  d_measured / d       over the pixels with a measured depth
    distance       metres / d(x, y)                depth at one pixel

The factor is the median of the estimates. Its interval is that of the median in RESAMPLED draws of as many
estimates with replacement (percentile bootstrap, Efron 1979). Neighbouring frames are alike, so that the true
uncertainty is larger than the interval of a short recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.image_files import read_image
from datasets.sequence import SequenceDataset
from predictor import Predictor, enlarge
from progress import Bar
from utils import InputError

RESAMPLED = 2000
COVERED = 0.95  # share of the draws within the interval
SLOW = 0.1  # of the median distance between two frames, below which the camera hardly moves


class Distance(NamedTuple):
    """Depth of a pixel of an image, metres."""

    path: Path
    x: float
    y: float
    metres: float


def fit_factor(estimates: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Median of estimates (n,), and the bounds of its interval, which one estimate does not give."""
    values = np.asarray(estimates, np.float64)
    if len(values) < 2:
        return float(values[0]), None, None
    draws = np.random.default_rng(0).choice(values, (RESAMPLED, len(values)))
    low, high = np.quantile(np.median(draws, 1), [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(np.median(values)), float(low), float(high)


def from_speed(predictor: Predictor, dataset: SequenceDataset, indices: Iterable[int]) -> list[float]:
    """An estimate of each pair of frames 0 and 1 between which the camera moves.

    Raises:
        InputError: the dataset gives no speed, the speed is 0 throughout, or the model predicts no motion.
    """
    travelled, predicted = [], []
    for index in Bar(indices, "pairs", unit="pair"):
        batch = dataset[index]
        if 1 not in batch.speed:
            raise InputError(
                f"{dataset.data_path} gives no speed between frames; write speed.csv, see docs/cameras.md"
            )
        travelled.append(float((batch.speed[1] * batch.time_step[1]).abs()))
        images = batch.to(next(predictor.parameters()).device).network_images
        motion = predictor.motions(torch.cat([images[0], images[1]]))[0]
        predicted.append(np.linalg.norm(motion[:3, 3]) / (predictor.metric_scale or 1.0))
    distance = np.array(travelled)
    moving = distance[np.isfinite(distance) & (distance > 0)]
    if not len(moving):
        raise InputError(
            f"the speed in {dataset.data_path} is 0 in all {len(distance)} pairs of frames, and a camera "
            "that stands still gives no scale; record while moving, or give --distance"
        )
    pairs = zip(distance, predicted)
    estimates = [d / t for d, t in pairs if d >= SLOW * np.median(moving) and t > 0]
    if not estimates:
        raise InputError("the model predicts no translation between any two frames; train it further")
    return estimates


def from_ground_truth(predictor: Predictor, dataset: SequenceDataset, indices: Iterable[int]) -> list[float]:
    """An estimate of each frame with measured depth, from the pixels in the range of the dataset's protocol.

    Raises:
        InputError: no pixel has a measured depth.
    """
    estimates = []
    for index in Bar(indices, "frames", unit="frame"):
        measured = dataset.depth(index)
        if measured is None:
            continue
        batch = dataset[index].to(next(predictor.parameters()).device)
        inverse = enlarge(predictor.predict_batch(batch)[0], *measured.shape[-2:])[0, 0].cpu().numpy()
        protocol = dataset.protocol
        known = (measured[0] > protocol.min_depth) & (measured[0] < protocol.max_depth)
        if known.any():
            ratio = np.median(measured[0][known] * inverse[known])
            estimates.append(float(ratio) * (predictor.metric_scale or 1.0))
    if not estimates:
        raise InputError(
            f"no frame of {dataset.data_path} has a measured depth; a folder has it in `depth`, see "
            "docs/datasets.md, or give --distance"
        )
    return estimates


def from_distances(predictor: Predictor, distances: Iterable[Distance]) -> list[float]:
    """An estimate of each known distance.

    Raises:
        InputError: an image that cannot be read, or a pixel outside of it.
    """
    estimates = []
    for path, x, y, metres in distances:
        image = read_image(path)
        height, width = image.shape[-2:]
        column, row = round(x), round(y)
        if not (0 <= column < width and 0 <= row < height):
            raise InputError(f"--distance: ({x:g}, {y:g}) is outside of {path}, which is {width}x{height}")
        depth = float(predictor([image])[0, 0, row, column])
        estimates.append(metres / depth * (predictor.metric_scale or 1.0))
    return estimates
