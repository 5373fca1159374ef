"""Depth as a point cloud: how far predicted points lie from the true surface, and the reverse.

    point = depth K^-1 (x, y, 1) of each valid pixel

    precision  share of predicted points within 0.1 m of a true point      recall  the reverse
    F-score    2 precision recall / (precision + recall)
    Chamfer    mean distance from predicted to true points + the reverse, metres

as Spencer et al. 2022 ("Deconstructing self-supervised monocular reconstruction: the design decisions that
matter") propose for depth. At most 4096 points of a cloud, drawn from a fixed seed, look for their nearest
point in the whole other cloud. All numbers are means over points, so they keep their expectation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from datasets.resizing import resize_intrinsics
from datasets.sequence import SequenceDataset
from metrics import GroundTruth
from utils import InputError

CLOUD_DETAILS = ("cloud_f_score", "cloud_precision", "cloud_recall", "cloud_chamfer")
NEAR = 0.1  # metres
QUERIES = 4096  # points of a cloud that look for their nearest point
_PAIRS = 1 << 27  # distances at a time on a GPU


def ground_truth_intrinsics(dataset: SequenceDataset, index: int, sizes: Tensor) -> Tensor:
    """(N, 3, 3) of a sample's cameras, in pixels of its ground truth.

    Args:
        dataset: its images and its ground truth show the same field of view.
        index: the sample.
        sizes: (N, 2) height and width of the ground truth.

    Raises:
        InputError: a camera that is not a pinhole.
    """
    sample = dataset.samples[index]
    matrices = []
    for camera, image in enumerate(dataset.read_images(sample, 0)):
        size = tuple(image.shape[-2:])
        if dataset.lens(sample, *size) is not None:
            raise InputError("--details clouds needs pinhole cameras; rectify the images, or leave it out")
        K = dataset.intrinsics(sample, camera, *size)
        matrices.append(resize_intrinsics(K, size, tuple(sizes[camera].tolist())))
    return torch.from_numpy(np.stack(matrices).astype(np.float64))


def cloud_errors(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """F-score, precision, recall and Chamfer distance of each image.

    Args:
        depth: (B, K) metres, aligned and clamped, see `metrics.align_prediction`.
        ground_truth: ground truth of the same pixels, with `intrinsics`.

    Returns:
        (B, 4) float64 in the order of `CLOUD_DETAILS`; nan for an image without a valid pixel.
    """
    pixels = torch.stack([ground_truth.columns, ground_truth.rows, torch.ones_like(ground_truth.rows)], -1)
    rays = pixels.double() @ ground_truth.intrinsics.inverse().mT  # (B, K, 3)
    found = []
    for n, valid in enumerate(ground_truth.valid):
        if not valid.any():
            found.append([math.nan] * len(CLOUD_DETAILS))
            continue
        of_image = rays[n][valid]
        predicted, true = (of_image * metres[n][valid][:, None] for metres in (depth, ground_truth.depth))
        found.append(compare_clouds(predicted, true))
    return torch.tensor(found, dtype=torch.float64, device=depth.device)


def compare_clouds(predicted: Tensor, true: Tensor) -> list[float]:
    """The numbers of `CLOUD_DETAILS` for two clouds, (P, 3) and (Q, 3) metres."""
    to_true = nearest_distances(_some(predicted), true)
    to_predicted = nearest_distances(_some(true), predicted)
    precision, recall = (float((far < NEAR).double().mean()) for far in (to_true, to_predicted))
    f_score = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return [f_score, precision, recall, float(to_true.mean() + to_predicted.mean())]


def _some(points: Tensor) -> Tensor:
    """At most `QUERIES` of (P, 3) points."""
    if len(points) <= QUERIES:
        return points
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:QUERIES]
    return points[chosen.to(points.device)]


def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """(P,) distance from each of (P, 3) points to the nearest of (Q, 3) others."""
    if points.device.type != "cuda":
        from scipy.spatial import cKDTree

        return torch.from_numpy(cKDTree(others.cpu().numpy()).query(points.cpu().numpy(), workers=-1)[0])
    return all_pairs(points, others)  # faster than a tree there


def all_pairs(points: Tensor, others: Tensor) -> Tensor:
    """The same by all distances, on the points' device, in float32."""
    step = max(1, _PAIRS // len(others))
    mode = "donot_use_mm_for_euclid_dist"  # which cancels digits of distant points
    parts = [
        torch.cdist(part.float(), others.float(), compute_mode=mode).amin(1) for part in points.split(step)
    ]
    return torch.cat(parts).double()
