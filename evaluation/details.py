"""Errors beyond the tables of the benchmarks, for each image: by distance, and sq_rel as it was defined.

    abs_rel_0_10m, ...     abs_rel of the pixels whose ground truth lies in the band, as [near, far) in metres
    share_0_10m, ...       share of the valid pixels in the band
    sq_rel_defined         mean ((t - p) / t)^2, as KITTI's benchmark defines the squared relative error

`sq_rel` in the tables is mean (t - p)^2 / t, as Eigen et al. 2014 and all later papers report it. The two
have different units and must not be mixed. per_image.csv and results.json hold these numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metrics import GroundTruth

BANDS = ((0, 10), (10, 20), (20, 40), (40, 80))  # metres
_NAMES = [f"{near}_{far}m" for near, far in BANDS]
DETAILS = (*(f"abs_rel_{name}" for name in _NAMES), *(f"share_{name}" for name in _NAMES), "sq_rel_defined")


def details(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """The numbers of each image.

    Args:
        depth: (B, K) metres, aligned and clamped, see `metrics.align_prediction`.
        ground_truth: ground truth of the same pixels.

    Returns:
        (B, 9) in the order of `DETAILS`; the error of a band without ground truth is nan.
    """
    valid = ground_truth.valid
    t = torch.where(valid, ground_truth.depth, 1)
    relative = torch.where(valid, (depth - t).abs() / t, 0)
    count = valid.sum(1)
    errors, shares = [], []
    for near, far in BANDS:
        inside = valid & (t >= near) & (t < far)
        errors.append(torch.where(inside, relative, 0).sum(1) / inside.sum(1))
        shares.append(inside.sum(1) / count)
    return torch.stack([*errors, *shares, relative.square().sum(1) / count], 1)
