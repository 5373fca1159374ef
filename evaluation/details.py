"""Errors beyond the tables of the benchmarks, for each image; per_image.csv and results.json hold them.

    always   abs_rel_0_10m, ...     abs_rel of the pixels whose ground truth lies in [near, far) metres
             share_0_10m, ...       share of the valid pixels in the band
             sq_rel_defined         mean ((t - p) / t)^2, as KITTI's benchmark defines it
             abs_diff, log10        mean |t - p|, mean |log10 t - log10 p|, as SC-Depth reports them
             abs_rel_dynamic, ...   the metrics of the tables, log10 and share of the pixels of objects that
             abs_rel_static, ...    can move, and of the other pixels, if there are masks of them
    regions  reads these masks from files, see regions.py
    edges    accuracy and completeness of depth edges, see depth_edges.py
    clouds   F-score and Chamfer distance of point clouds, see cloud_errors.py

`sq_rel` in the tables is mean (t - p)^2 / t, as Eigen et
al. 2014 and all later papers report it. The two have different units and must not be mixed.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.sequence import SequenceDataset
from evaluation.cloud_errors import CLOUD_DETAILS, cloud_errors, ground_truth_intrinsics
from evaluation.depth_edges import EDGE_DETAILS, edge_errors
from evaluation.regions import MovingMasks
from metrics import METRICS, GroundTruth, depth_errors
from utils import InputError, nearest_name

BANDS = ((0, 10), (10, 20), (20, 40), (40, 80))  # metres
REGIONS = {"dynamic": 1, "static": 0}  # name → value of `GroundTruth.region`
_NAMES = [f"{near}_{far}m" for near, far in BANDS]
ALWAYS = (
    *(f"abs_rel_{name}" for name in _NAMES),
    *(f"share_{name}" for name in _NAMES),
    "sq_rel_defined",
    "abs_diff",
    "log10",
    *(f"{metric}_{region}" for region in REGIONS for metric in (*METRICS, "log10", "share")),
)
KINDS = {"regions": (), "edges": EDGE_DETAILS, "clouds": CLOUD_DETAILS}
DETAILS = (*ALWAYS, *(name for names in KINDS.values() for name in names))


@dataclass(frozen=True)
class DetailChoice:
    """The choice of further errors.

    Attributes:
        kinds: some of `KINDS`, in addition to the bands.
        moving_masks: folder of the masks of moving objects; None for the dataset's own labels.
        moving_labels: label table of these files; None if they hold masks or instance numbers.

    Raises:
        InputError: a kind that does not exist, masks without the kind `regions`.
    """

    kinds: tuple[str, ...] = ()
    moving_masks: str | None = None
    moving_labels: str | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(
                    f"--details has no kind '{kind}'{nearest_name(kind, KINDS)}; bands are always measured"
                )
        if "regions" not in self.kinds and (self.moving_masks or self.moving_labels):
            flag = "--moving_masks" if self.moving_masks else "--moving_labels"
            raise InputError(f"{flag} has no effect without --details regions")

    def masks(self, dataset: SequenceDataset) -> MovingMasks | None:
        """The masks of a dataset's moving objects; None if they are not needed.

        Raises:
            InputError: there are none.
        """
        needed = "regions" in self.kinds
        return MovingMasks(dataset, self.moving_masks, self.moving_labels) if needed else None

    def complete(
        self, ground_truth: GroundTruth, dataset: SequenceDataset, index: int, masks: MovingMasks | None
    ) -> GroundTruth:
        """The ground truth of a sample with the data that the chosen kinds need."""
        region = ground_truth.region if masks is None else masks.at(index, ground_truth)
        clouds = "clouds" in self.kinds
        intrinsics = ground_truth_intrinsics(dataset, index, ground_truth.sizes) if clouds else None
        return dataclasses.replace(ground_truth, region=region, intrinsics=intrinsics)

    def measure(self, depth: Tensor, aligned: Tensor, ground_truth: GroundTruth) -> dict[str, Tensor]:
        """The numbers of each image.

        Args:
            depth: (B, 1, H, W), as predicted.
            aligned: (B, K) metres at the valid pixels, aligned and clamped, see `metrics.align_prediction`.
            ground_truth: ground truth of these pixels, see `complete`.

        Returns:
            name -> (B,) numbers; nan where an image has no such pixels.
        """
        found = dict(zip(ALWAYS, errors_in_parts(aligned, ground_truth).unbind(1)))
        if "edges" in self.kinds:
            found |= zip(EDGE_DETAILS, edge_errors(depth, ground_truth).unbind(1))
        if "clouds" in self.kinds:
            found |= zip(CLOUD_DETAILS, cloud_errors(aligned, ground_truth).unbind(1))
        return found


def errors_in_parts(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """The errors by distance and region, and the metrics of other tables.

    Args:
        depth: (B, K) metres, aligned and clamped, see `metrics.align_prediction`.
        ground_truth: ground truth of the same pixels.

    Returns:
        (B, 29) in the order of `ALWAYS`; nan for a band or region without ground truth.
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
    known = torch.zeros_like(valid) if region is None else valid & (region >= 0)
    if not known.any():
        further += [torch.full_like(difference, math.nan)] * (len(REGIONS) * (len(METRICS) + 2))
    else:
        for value in REGIONS.values():
            inside = valid & (region == value)
            further += [*depth_errors(depth, t, inside).unbind(1), log10_error(depth, t, inside)]
            further.append(torch.where(known.any(1), inside.sum(1) / count, math.nan))
    return torch.stack([*errors, *shares, *further], 1)


def log10_error(prediction: Tensor, ground_truth: Tensor, valid: Tensor) -> Tensor:
    """(B,) mean |log10 t - log10 p| of (B, P) where valid; nan for an image without a valid pixel."""
    p, t = (torch.where(valid, values, 1) for values in (prediction, ground_truth))
    return (t.log10() - p.log10()).abs().sum(1) / valid.sum(1)
