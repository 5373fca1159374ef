"""Depth errors, caps, crops, scale alignment; the only implementation.

A dataset states its `Protocol`; `measure` evaluates a batch of predictions by it, `evaluation/` a dataset:

    inverse depth, resized to the ground truth's size -> depth -> x scale, x median ratio -> clamped -> errors

Ground truth is sparse, so only its valid pixels travel (`GroundTruth`), padded to one length in a batch.
Images of different sizes are evaluated together, in float64, on the device of the predictions. An infinite
prediction stays infinite under every scale and is clamped to the largest depth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import InputError, nearest_name

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
ACCURACIES = ("a1", "a2", "a3")  # metrics whose higher values are better

# Evaluated rows and columns, as fractions of height and width: top, bottom, left, right.
CROPS = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),  # Garg et al. 2016, used by KITTI's tables
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),  # Eigen et al. 2014
    "cityscapes": (1 / 3, 1.0, 0.09375, 0.90625),  # of the upper 768 rows: rows 256:, columns 192:1856
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),  # rows 45:471, columns 41:601 of NYUv2's images
    "none": (0.0, 1.0, 0.0, 1.0),
}
ALIGNMENTS = ("median", "none")
RESIZES = ("disparity", "depth", "nearest")
MEDIANS = ("middle", "lower")


@dataclass(frozen=True)
class Protocol:
    """How a benchmark turns a prediction and a ground truth into numbers; printed with every table.

    Attributes:
        name: its name in papers.
        ground_truth: where the ground truth comes from, in words.
        min_depth: metres; ground truth at or below it is not valid, predictions are clamped to it.
        max_depth: metres; predictions are clamped to it.
        cap_ground_truth: ground truth at or beyond `max_depth` is not valid.
        crop: `garg`, `eigen`, `cityscapes`, `nyu` or `none`.
        alignment: `median` (each image by its own factor) or `none` (predictions are metric, times `scale`).
        scale: factor for predictions before any alignment.
        resize: quantity resized to the ground truth's size: `disparity` (inverse depth) or `depth`, bilinear,
            or the `nearest` depth.
        align_corners: resize so that the corner pixels' centres stay; False is OpenCV's half-pixel rule.
        median: for an even count, the mean of the two `middle` values (numpy) or the `lower` one (torch). The
            spread of the ratios then follows the same library: torch divides by one less.
        log10: `rmse_log` in decimal logarithms, as for Make3D; natural ones otherwise.
        dynamic_twice: an image with dynamic pixels counts twice in the mean, as in SC-Depth's published
            evaluation with masks.
        reported: the metrics in this benchmark's tables; all of `METRICS` are measured.
        goal: the metric that selects the best checkpoint.

    Raises:
        InputError: a setting that does not exist, caps that are not 0 < min_depth < max_depth.
    """

    name: str
    ground_truth: str
    min_depth: float = 1e-3
    max_depth: float = 80.0
    cap_ground_truth: bool = True
    crop: str = "none"
    alignment: str = "median"
    scale: float = 1.0
    resize: str = "disparity"
    align_corners: bool = False
    median: str = "middle"
    log10: bool = False
    dynamic_twice: bool = False
    reported: tuple[str, ...] = METRICS
    goal: str = "abs_rel"

    def __post_init__(self) -> None:
        choices = {"crop": CROPS, "alignment": ALIGNMENTS, "resize": RESIZES, "median": MEDIANS}
        for setting, allowed in choices.items():
            value = getattr(self, setting)
            if value not in allowed:
                raise InputError(f"a protocol has no {setting} '{value}'{nearest_name(value, allowed)}")
        if not 0 < self.min_depth < self.max_depth:
            raise InputError(
                f"a protocol needs 0 < min_depth < max_depth, got {self.min_depth} and {self.max_depth}"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"a protocol's scale must be a number above 0, got {self.scale}")
        if not self.reported:
            raise InputError(f"a protocol reports at least one of {', '.join(METRICS)}, got none")
        for metric in (*self.reported, self.goal):
            if metric not in METRICS:
                raise InputError(f"there is no metric '{metric}'{nearest_name(metric, METRICS)}")

    @property
    def higher_is_better(self) -> bool:
        """True if a higher value of `goal` is better."""
        return self.goal in ACCURACIES

    def card(self) -> dict[str, str]:
        """The settings in words, for the reader of a table."""
        # A protocol's bounds are above 0; a dataset without a lower one has a millionth of a metre.
        low = "0" if self.min_depth <= 1e-6 else f"{self.min_depth:g}"
        high = f"{self.max_depth:g}"
        resized = {
            "disparity": "disparity, bilinear",
            "depth": "depth, bilinear",
            "nearest": "depth, nearest pixel",
        }
        corners = ", corners aligned" if self.align_corners and self.resize != "nearest" else ""
        kind = ", the lower of two middle values" if self.median == "lower" else ""
        aligned = {
            "median": f"each image by median(ground truth) / median(prediction){kind}",
            "none": "none, predictions are taken as metric",
        }
        logarithm = {"logarithm": "decimal, in rmse_log"} if self.log10 else {}
        return {
            "protocol": self.name,
            "ground truth": self.ground_truth,
            "counts": f"{low} m < ground truth < {high} m"
            if self.cap_ground_truth
            else f"ground truth > {low} m",
            "crop": self.crop,
            "resized": resized[self.resize] + corners,
            "scale": f"predictions x {self.scale:g}",
            "alignment": aligned[self.alignment],
            "clamp": f"predictions to [{low}, {high}] m",
            **logarithm,
        }


def is_better(value: float, best: float | None, higher_is_better: bool) -> bool:
    """True if a goal's value is finite and better than the best so far; None is worse than any value."""
    if not math.isfinite(value):
        return False
    return best is None or (value > best if higher_is_better else value < best)


# -------------------------------------------------------------------------------------- one batch of images


@dataclass
class GroundTruth:
    """The valid pixels of B images; K is the largest number of them in one image.

    Attributes:
        depth: (B, K) metres, float64.
        rows, columns: (B, K) int64, pixel coordinates in the ground truth's own image.
        valid: (B, K) bool, False for padding.
        sizes: (B, 2) int64, height and width of the ground truth's image.
        region: (B, K) int8, 1 on dynamic and 0 on static pixels, -1 if unknown; None if unknown everywhere.
        intrinsics: (B, 3, 3) float64 in pixels of that image; None if they are not read.
    """

    depth: Tensor
    rows: Tensor
    columns: Tensor
    valid: Tensor
    sizes: Tensor
    region: Tensor | None = None
    intrinsics: Tensor | None = None

    @staticmethod
    def of(maps: np.ndarray, protocol: Protocol, dynamic: np.ndarray | None = None) -> GroundTruth:
        """The valid pixels of (N, h, w) metres, 0 where unknown.

        Args:
            dynamic: (N, h, w) bool, True on objects that can move; None if unknown.

        Raises:
            InputError: `dynamic` has another size than the ground truth.
        """
        if dynamic is not None and dynamic.shape != maps.shape:
            raise InputError(
                f"masks of dynamic pixels must have the ground truth's size {maps.shape}, got {dynamic.shape}"
            )
        height, width = maps.shape[-2:]
        top, bottom, left, right = crop_box(protocol.crop, height, width)
        images = []
        for number, depth in enumerate(maps[:, top:bottom, left:right]):
            rows, columns = np.nonzero(depth > 0)  # few of a rig's 14 million pixels
            known = depth[rows, columns].astype(np.float64)
            valid = (known > protocol.min_depth) & np.isfinite(known)
            if protocol.cap_ground_truth:
                valid &= known < protocol.max_depth
            known, rows, columns = known[valid], rows[valid], columns[valid]
            rows, columns = rows + top, columns + left
            region = np.full(len(rows), -1) if dynamic is None else dynamic[number, rows, columns]
            images.append([known, rows, columns, np.ones(len(rows), bool), region.astype(np.int8)])
        longest = max(1, *(len(image[0]) for image in images))
        parts = [[_padded(torch.from_numpy(part), longest) for part in image] for image in images]
        *pixels, region = map(torch.stack, zip(*parts))
        return GroundTruth(*pixels, torch.tensor([[height, width]] * len(maps)), region)

    @staticmethod
    def cat(ground_truths: Sequence[GroundTruth]) -> GroundTruth:
        """Join along the batch axis."""
        longest = max(one.depth.shape[1] for one in ground_truths)

        def join(name: str) -> Tensor | None:
            parts = [getattr(one, name) for one in ground_truths]
            if parts[0] is None or name in ("sizes", "intrinsics"):
                return None if parts[0] is None else torch.cat(parts)
            return torch.cat([_padded(part, longest) for part in parts])

        return GroundTruth(**{item.name: join(item.name) for item in dataclasses.fields(GroundTruth)})

    def to(self, device: torch.device | str) -> GroundTruth:
        """The same record on `device`."""
        parts = (getattr(self, item.name) for item in dataclasses.fields(self))
        return GroundTruth(*(None if part is None else part.to(device) for part in parts))


def _padded(values: Tensor, length: int) -> Tensor:
    """(..., K) to (..., length), zeros at the end."""
    return F.pad(values, (0, length - values.shape[-1]))


def crop_box(crop: str, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a crop of `CROPS`, pixels; rows `top` to `bottom` - 1 are evaluated."""
    top, bottom, left, right = CROPS[crop]
    return int(top * height), int(bottom * height), int(left * width), int(right * width)


def depth_errors(
    prediction: Tensor, ground_truth: Tensor, valid: Tensor | None = None, log10: bool = False
) -> Tensor:
    """The seven errors of each image.

        abs_rel   mean |t - p| / t             rmse      sqrt(mean (t - p)^2)
        sq_rel    mean (t - p)^2 / t           rmse_log  sqrt(mean (ln t - ln p)^2)
        a1 a2 a3  share with max(t / p, p / t) < 1.25, 1.25^2, 1.25^3

    Args:
        prediction, ground_truth: (B, P) metres, positive where valid.
        valid: (B, P) bool; None if all are valid.
        log10: decimal logarithms in `rmse_log`.

    Returns:
        (B, 7) in the order of `METRICS`; nan for an image without a valid pixel.
    """
    valid = torch.ones_like(ground_truth, dtype=torch.bool) if valid is None else valid
    count = valid.sum(1)
    p = torch.where(valid, prediction, 1)
    t = torch.where(valid, ground_truth, 1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0).sum(1) / count

    log = torch.log10 if log10 else torch.log
    difference = t - p
    factor = torch.maximum(t / p, p / t)
    inside = [mean((factor < 1.25**power).to(t.dtype)) for power in (1, 2, 3)]
    errors = [
        mean(difference.abs() / t),
        mean(difference.square() / t),
        mean(difference.square()).sqrt(),
        mean((log(t) - log(p)).square()).sqrt(),
    ]
    return torch.stack(errors + inside, 1)


def masked_median(values: Tensor, valid: Tensor, kind: str = "middle") -> Tensor:
    """(B,) medians of (B, P) where valid; `kind` is the rule for an even count, see `Protocol.median`."""
    ordered = torch.where(valid, values, math.inf).sort(1).values
    count = valid.sum(1, keepdim=True)
    lower = ordered.gather(1, ((count - 1) // 2).clamp(min=0))[:, 0]
    if kind == "lower":
        return lower
    return (lower + ordered.gather(1, (count // 2).clamp(max=values.shape[1] - 1))[:, 0]) / 2


def look_up(
    maps: Tensor,
    rows: Tensor,
    columns: Tensor,
    sizes: Tensor,
    align_corners: bool = False,
    nearest: bool = False,
) -> Tensor:
    """The values at some pixels of `maps` resized to each image's size; only these are computed.

    Bilinear without antialiasing, as `F.interpolate` and, with half-pixel centres, OpenCV's resize.

    Args:
        maps: (B, H, W).
        rows, columns: (B, K) pixels of the resized image.
        sizes: (B, 2) height and width to resize to.
        align_corners: same as in `F.interpolate`.
        nearest: use the mode `nearest` of `F.interpolate`.

    Returns:
        (B, K).
    """
    height, width = maps.shape[1:]

    def neighbours(coordinates: Tensor, new: Tensor, old: int) -> tuple[Tensor, Tensor, Tensor]:
        if nearest:  # in float32, since rounding decides between two pixels
            # Not old / new: torch makes that old * (1 / new), and 427 * (1 / 427) is less than 1.
            scale = torch.full_like(new, old, dtype=torch.float32) / new.float()
            first = (coordinates.float() * scale[:, None]).long()
            return first, first, torch.zeros_like(first)
        new, coordinates = new[:, None].double(), coordinates.double()
        if align_corners:
            exact = coordinates * ((old - 1) / (new - 1).clamp(min=1))
        else:
            exact = ((coordinates + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
        first = exact.long()
        return first, (first + 1).clamp(max=old - 1), (exact - first).to(maps.dtype)

    top, bottom, down = neighbours(rows, sizes[:, 0], height)
    left, right, across = neighbours(columns, sizes[:, 1], width)
    flat = maps.flatten(1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(1, row * width + column)

    def blend(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        # A weight of 0 leaves the second value out, also an infinite one: inf * 0 is nan.
        return first * (1 - weight) + torch.where(weight > 0, second * weight, 0)

    upper = blend(at(top, left), at(top, right), across)
    lower = blend(at(bottom, left), at(bottom, right), across)
    return blend(upper, lower, down)


@dataclass
class Measured:
    """Numbers of B images.

    Attributes:
        errors: (B, 7) in the order of `METRICS`.
        ratio: (B,) median(ground truth) / median(prediction).
        pixels: (B,) int64, valid pixels.
    """

    errors: Tensor
    ratio: Tensor
    pixels: Tensor


def measure(depth: Tensor, ground_truth: GroundTruth, protocol: Protocol) -> Measured:
    """Evaluate B predictions by a protocol.

    Args:
        depth: (B, 1, H, W), any size, metres or up to scale.
        ground_truth: valid pixels, on the same device.
        protocol: its crop and caps are applied to `ground_truth` already.

    Returns:
        Errors, ratios and counts of each image; the ratio is applied if the protocol aligns by it.
    """
    return errors_at_points(sample_prediction(depth, ground_truth, protocol), ground_truth, protocol)


def sample_prediction(depth: Tensor, ground_truth: GroundTruth, protocol: Protocol) -> Tensor:
    """(B, K) predicted depth at the valid pixels of the ground truth, resized as the protocol says."""
    maps = depth[:, 0].double()
    maps = 1 / maps if protocol.resize == "disparity" else maps
    sampled = look_up(
        maps,
        ground_truth.rows,
        ground_truth.columns,
        ground_truth.sizes,
        protocol.align_corners,
        protocol.resize == "nearest",
    )
    return 1 / sampled if protocol.resize == "disparity" else sampled


def errors_at_points(sampled: Tensor, ground_truth: GroundTruth, protocol: Protocol) -> Measured:
    """Scale, align and clamp (B, K) predicted depth, and measure its errors."""
    depth, ratio = align_prediction(sampled, ground_truth, protocol)
    errors = depth_errors(depth, ground_truth.depth, ground_truth.valid, protocol.log10)
    return Measured(errors, ratio, ground_truth.valid.sum(1))


def align_prediction(sampled: Tensor, ground_truth: GroundTruth, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Scale, align and clamp (B, K) predicted depth.

    Returns:
        (B, K) depth to compare with the ground truth, and (B,) median(ground truth) / median(prediction).
    """
    depth = sampled * protocol.scale
    ratio = masked_median(ground_truth.depth, ground_truth.valid, protocol.median) / masked_median(
        depth, ground_truth.valid, protocol.median
    )
    if protocol.alignment == "median":
        # If most of an image is infinitely far, its ratio is 0, and inf * 0 would be nan.
        depth = torch.where(depth.isinf(), depth, depth * ratio[:, None])
    return depth.clamp(protocol.min_depth, protocol.max_depth), ratio
