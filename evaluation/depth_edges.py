"""Depth edges: are the predicted edges where the true ones are, and are the true ones predicted?

    accuracy      mean distance from predicted edge pixels to the nearest true one, of those within 10 pixels
    completeness  mean distance from true edge pixels to the nearest predicted one, at most 10 pixels

as in iBims-1 (Koch et al. 2018, section 3), in pixels of the ground truth. Both are 10 without a predicted
edge. Edges are those of Canny's detector on log depth, so that a step of about 20 % is an edge at every
distance, and no scale or alignment has an effect. They need dense ground truth: pixels
next to unknown ones hold no edge, and an image of LiDAR points has no number.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from metrics import GroundTruth, look_up

EDGE_DETAILS = ("edge_accuracy", "edge_completeness")
FARTHEST = 10.0  # pixels, iBims-1's threshold
BLUR = math.sqrt(2)  # pixels, standard deviation of the Gaussian before the gradient
STEP, WEAK_STEP = 1.2, 1.1  # ratios of depth across an edge: to start one, and to continue it
_MARGIN = 9  # pixels: side of the neighbourhood that must be known around an edge
_UNIT = 8000.0  # of the gradient, since OpenCV takes it as 16-bit integers


def edge_errors(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """Accuracy and completeness of the depth edges of each image.

    Args:
        depth: (B, 1, H, W), any size and scale.
        ground_truth: the valid pixels; their images may differ in size.

    Returns:
        (B, 2) float64 in pixels, in the order of `EDGE_DETAILS`; nan for an image whose ground truth is
        sparse or has no edge.
    """
    inverse = 1 / depth[:, 0].double()
    found = [_of_image(inverse[n : n + 1], ground_truth, n) for n in range(len(inverse))]
    return torch.tensor(found, dtype=torch.float64, device=depth.device)


def _of_image(inverse: Tensor, ground_truth: GroundTruth, n: int) -> tuple[float, float]:
    import cv2

    height, width = ground_truth.sizes[n].tolist()
    valid = ground_truth.valid[n].cpu()
    rows, columns = (pixels[n].cpu()[valid].numpy() for pixels in (ground_truth.rows, ground_truth.columns))
    true = np.ones((height, width))
    known = np.zeros((height, width), np.uint8)
    true[rows, columns], known[rows, columns] = ground_truth.depth[n].cpu()[valid].numpy(), 1
    inside = cv2.erode(known, np.ones((_MARGIN, _MARGIN), np.uint8), borderValue=1) > 0
    if 2 * np.count_nonzero(inside) < len(rows):
        return math.nan, math.nan
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = (axis.reshape(1, -1).to(inverse.device) for axis in (y, x))
    predicted = look_up(inverse, *pixels, ground_truth.sizes[n : n + 1]).reshape(height, width)
    predicted_edges = depth_edges(1 / predicted.cpu().numpy()) & inside
    true_edges = depth_edges(true) & inside
    return edge_distances(predicted_edges, true_edges)


def depth_edges(depth: np.ndarray) -> np.ndarray:
    """(h, w) bool, the edges of a depth map (h, w), one pixel wide."""
    import cv2

    # The central difference of a blurred step of 1, at the step.
    peak = _UNIT * math.erf(1 / (BLUR * math.sqrt(2))) / 2
    log = np.log(np.clip(depth, 1e-6, 1e6))
    smooth = cv2.GaussianBlur(log, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT)
    gradients = [
        np.clip(_UNIT * cv2.Sobel(smooth, cv2.CV_64F, *axis, scale=1 / 8), -32000, 32000).astype(np.int16)
        for axis in ((1, 0), (0, 1))
    ]
    low, high = (peak * math.log(ratio) for ratio in (WEAK_STEP, STEP))
    return cv2.Canny(*gradients, low, high, L2gradient=True) > 0


def edge_distances(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Accuracy and completeness of (h, w) bool edges, in pixels; nan without a true edge."""
    from scipy.ndimage import distance_transform_edt

    if not true.any():
        return math.nan, math.nan
    to_true = distance_transform_edt(~true)[predicted]
    near = to_true[to_true < FARTHEST]
    if not len(near):
        return FARTHEST, FARTHEST
    to_predicted = distance_transform_edt(~predicted)[true]
    return float(near.mean()), float(np.minimum(to_predicted, FARTHEST).mean())
