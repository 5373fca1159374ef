"""Errors beyond the tables of the benchmarks, for each image; per_image.csv and results.json hold them.

    bands    abs_rel_0_10m, ...      abs_rel of the pixels whose ground truth lies in [near, far) metres
             share_0_10m, ...        share of the valid pixels in the band
             sq_rel_defined          mean ((t - p) / t)^2, as KITTI's benchmark defines it
    regions  moving and static pixels, see regions.py
    edges    accuracy and completeness of depth edges, see depth_edges.py
    clouds   F-score and Chamfer distance of point clouds, see cloud_errors.py

Bands are always measured; the others are chosen. `sq_rel` in the tables is mean (t - p)^2 / t, as Eigen et
al. 2014 and all later papers report it. The two have different units and must not be mixed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.sequence import SequenceDataset
from evaluation.cloud_errors import CLOUD_DETAILS, cloud_errors, ground_truth_intrinsics
from evaluation.depth_edges import EDGE_DETAILS, edge_errors
from evaluation.regions import REGION_DETAILS, MovingMasks, errors_in_parts, region_errors
from metrics import GroundTruth
from utils import InputError, nearest_name

BANDS = ((0, 10), (10, 20), (20, 40), (40, 80))  # metres
_NAMES = [f"{near}_{far}m" for near, far in BANDS]
BAND_DETAILS = (*(f"{key}_{name}" for key in ("abs_rel", "share") for name in _NAMES), "sq_rel_defined")
KINDS = {"regions": REGION_DETAILS, "edges": EDGE_DETAILS, "clouds": CLOUD_DETAILS}
DETAILS = (*BAND_DETAILS, *(name for names in KINDS.values() for name in names))


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
        moving = None if masks is None else masks.at(index, ground_truth)
        clouds = "clouds" in self.kinds
        intrinsics = ground_truth_intrinsics(dataset, index, ground_truth.sizes) if clouds else None
        return dataclasses.replace(ground_truth, moving=moving, intrinsics=intrinsics)

    def measure(self, depth: Tensor, aligned: Tensor, ground_truth: GroundTruth) -> dict[str, Tensor]:
        """The numbers of each image.

        Args:
            depth: (B, 1, H, W), as predicted.
            aligned: (B, K) metres at the valid pixels, aligned and clamped, see `metrics.align_prediction`.
            ground_truth: ground truth of these pixels, see `complete`.

        Returns:
            name -> (B,) numbers; nan where an image has no such pixels.
        """
        found = dict(zip(BAND_DETAILS, band_errors(aligned, ground_truth).unbind(1)))
        if "regions" in self.kinds:
            found |= zip(REGION_DETAILS, region_errors(aligned, ground_truth).unbind(1))
        if "edges" in self.kinds:
            found |= zip(EDGE_DETAILS, edge_errors(depth, ground_truth).unbind(1))
        if "clouds" in self.kinds:
            found |= zip(CLOUD_DETAILS, cloud_errors(aligned, ground_truth).unbind(1))
        return found


def band_errors(depth: Tensor, ground_truth: GroundTruth) -> Tensor:
    """The errors by distance and sq_rel as it was defined.

    Args:
        depth: (B, K) metres, aligned and clamped, see `metrics.align_prediction`.
        ground_truth: ground truth of the same pixels.

    Returns:
        (B, 9) in the order of `BAND_DETAILS`; the error of a band without ground truth is nan.
    """
    valid = ground_truth.valid
    t = torch.where(valid, ground_truth.depth, 1)
    relative = torch.where(valid, (depth - t).abs() / t, 0)
    bands = [valid & (t >= near) & (t < far) for near, far in BANDS]
    parts = errors_in_parts(depth, ground_truth, bands)
    return torch.stack([*parts, relative.square().sum(1) / valid.sum(1)], 1)
