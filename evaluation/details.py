"""Errors beyond the tables of the benchmarks, for each image: by distance and region, and further metrics.

    abs_rel_0_10m, ...     abs_rel of the pixels whose ground truth lies in the band, as [near, far) in metres
    share_0_10m, ...       share of the valid pixels in the band
    sq_rel_defined         mean ((t - p) / t)^2, as KITTI's benchmark defines the squared relative error
    abs_diff, log10        mean |t - p|, mean |log10 t - log10 p|, as SC-Depth reports them
    abs_rel_dynamic, ...   the metrics of the tables and log10 on pixels of objects that can move, if the
    abs_rel_static, ...    dataset has masks of them, and on the other pixels

`sq_rel` in the tables is mean (t - p)^2 / t, as Eigen et al. 2014 and all later papers report it. The two
have different units and must not be mixed. per_image.csv and results.json hold these numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metrics import METRICS, GroundTruth, depth_errors

BANDS = ((0, 10), (10, 20), (20, 40), (40, 80))  # metres
REGIONS = {"dynamic": 1, "static": 0}  # name → value of `GroundTruth.region`
_NAMES = [f"{near}_{far}m" for near, far in BANDS]
DETAILS = (
    *(f"abs_rel_{name}" for name in _NAMES),
    *(f"share_{name}" for name in _NAMES),
    "sq_rel_defined",
    "abs_diff",
    "log10",
    *(f"{metric}_{region}" for region in REGIONS for metric in (*METRICS, "log10")),
)


def details(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """The numbers of each image.

    Args:
        depth: (B, K) metres, aligned and clamped, see `metrics.align_prediction`.
        ground_truth: ground truth of the same pixels.

    Returns:
        (B, 27) in the order of `DETAILS`; nan for a band or region without ground truth.
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
    difference = torch.where(valid, (depth - t).abs(), 0).sum(1) / count
    further = [relative.square().sum(1) / count, difference, log10_error(depth, t, valid)]
    region = ground_truth.region
    if region is None or not (region >= 0).any():
        further += [torch.full_like(difference, math.nan)] * (len(REGIONS) * (len(METRICS) + 1))
    else:
        for value in REGIONS.values():
            inside = valid & (region == value)
            further += [*depth_errors(depth, t, inside).unbind(1), log10_error(depth, t, inside)]
    return torch.stack([*errors, *shares, *further], 1)


def log10_error(prediction: Tensor, ground_truth: Tensor, valid: Tensor) -> Tensor:
    """(B,) mean |log10 t - log10 p| of (B, P) where valid; nan for an image without a valid pixel."""
    p, t = (torch.where(valid, values, 1) for values in (prediction, ground_truth))
    return (t.log10() - p.log10()).abs().sum(1) / valid.sum(1)
