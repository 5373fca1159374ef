"""Ground truth: it lies over its image, is in metres, and agrees with the motion."""

from __future__ import annotations

import cv2
import numpy as np

from datasets.sequence import SequenceDataset
from images import colourise
from matching.motion import FEWEST, Motion, standing_along
from tools._doctor.reading import Figure, Finding, Pair, Sample, camera_label
from utils import InputError


def read_ground_truth(dataset: SequenceDataset, samples: list[Sample], everything: bool) -> list[Finding]:
    """Fill in `depth` of each sample; a finding if it cannot be read.

    Args:
        everything: read the ground truth of all samples of the dataset, not only of `samples`.
    """
    wanted = {sample.index: sample for sample in samples}
    broken = []
    for index in range(len(dataset)) if everything else wanted:
        try:
            depth = dataset.depth(index)
        except (InputError, OSError) as error:
            broken.append(f"{dataset.name(index)}: {error}")
            continue
        if index in wanted and depth is not None:
            wanted[index].depth = np.nan_to_num(np.asarray(depth, np.float32))
    if not broken:
        return []
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    text = f"ground truth cannot be read{more}: {broken[0]}"
    return [Finding("problem", "ground truth", text, names=broken)]


def check_ground_truth(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Range, coverage and aspect ratio of the ground truth, and its agreement with the motion."""
    with_ground_truth = [sample for sample in samples if sample.depth is not None]
    if not with_ground_truth:
        return [Finding("note", "ground truth", "there is none; evaluation needs it, training does not")]
    if len(with_ground_truth) < len(samples):
        text = f"{len(samples) - len(with_ground_truth)} of {len(samples)} samples have no ground truth"
        findings = [Finding("note", "ground truth", text)]
    else:
        findings = []
    for camera in range(dataset.cameras):
        label = camera_label(dataset, camera)
        maps = [sample.depth[camera] for sample in with_ground_truth]
        values = np.concatenate([depth[depth > 0][::7] for depth in maps])
        looked_at = with_ground_truth[:: max(1, len(with_ground_truth) // 2)][:2]
        panels = [(sample.name, overlay(sample, camera)) for sample in looked_at]
        shown = [Figure(f"{label}ground truth over the image, from red (near) to blue (far)", panels, 2)]
        if len(values) < 10:
            findings.append(Finding("problem", "ground truth", f"{label}the depth maps are empty", shown))
            continue
        low, middle, high = np.percentile(values, [1, 50, 99])
        share = np.mean([(depth > 0).mean() for depth in maps])
        met = f"{label}depth {low:.3g} to {high:.3g} m, median {middle:.3g}, at {share:.1%} of the pixels"
        findings += _check_range(dataset, met, middle, high, shown)
        height, width = with_ground_truth[0].looks[0][camera].size
        h, w = maps[0].shape
        if (
            h > 0.2 * height and abs(np.log((w / h) / (width / height))) > 0.05
        ):  # Make3D's lasers have 21 rows
            text = f"{label}ground truth is {w}x{h} and images {width}x{height}: one is cropped or turned"
            findings.append(Finding("warning", "ground truth", text, shown))
        findings += _ground_truth_against_motion(label, with_ground_truth, camera, shown)
    return findings


def _check_range(
    dataset: SequenceDataset, met: str, middle: float, high: float, shown: list
) -> list[Finding]:
    if middle > 300:
        cure = (
            "depth_scale=1000 reads .png in millimetres"
            if hasattr(dataset, "depth_scale")
            else "divide by 1000"
        )
        text = f"{met}: are these millimetres? {cure}; .npy must be in metres"
        return [Finding("problem", "ground truth", text, shown)]
    if high < 0.3:
        text = f"{met}: that is too near for metres; is it disparity, or normalised depth?"
        return [Finding("problem", "ground truth", text, shown)]
    cap = dataset.protocol.max_depth
    if middle > cap:
        text = f"{met}: more than half lies beyond the cap of {cap:g} m and is not evaluated"
        return [Finding("warning", "ground truth", text, shown)]
    return [Finding("good", "ground truth", met, shown)]


def _ground_truth_against_motion(
    label: str, samples: list[Sample], camera: int, shown: list
) -> list[Finding]:
    """Rank correlation between the inverse depths of ground truth and motion at the matches."""
    scores, count = [], 0
    for sample in samples:
        for pair in sample.pairs:
            if pair.camera != camera:
                continue
            ground_truth = _ground_truth_at(sample.depth[camera], pair)
            kept = _trusted(pair.motion) & (ground_truth > 0)
            if kept.sum() >= FEWEST:
                scores.append(_rank_correlation(1 / ground_truth[kept], pair.motion.inverse_depth[kept]))
                count += int(kept.sum())
    if not scores:
        return []
    score, few = float(np.median(scores)), len(scores) < 3
    met = f"{label}ground truth and motion have a rank correlation of {score:.2f} over {count} points"
    if score < 0.3:
        text = f"{met}: does the ground truth belong to these images? Look at the overlay"
        return [Finding("warning" if few else "problem", "overlay", text, shown)]
    if score < 0.6:
        level = "note" if few else "warning"
        return [Finding(level, "overlay", f"{met}, which is little; look at the overlay", shown)]
    return [Finding("good", "overlay", met)]


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation: 1 for the same order, about 0 for unrelated values."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def overlay(sample: Sample, camera: int) -> np.ndarray:
    """The target in grey with its ground truth in colours; single points are enlarged."""
    image, ground_truth = sample.looks[0][camera].image, sample.depth[camera]
    height, width = image.shape[:2]
    inverse = np.where(ground_truth > 0, 1 / np.maximum(ground_truth, 1e-6), 0).astype(np.float32)
    dense = (ground_truth > 0).mean() > 0.3
    if not dense:  # before resizing, which would lose points
        size = max(3, 2 * round(ground_truth.shape[1] / 500) + 1)
        inverse = cv2.dilate(inverse, np.ones((size, size)))
    inverse = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_NEAREST)
    known = inverse > 0
    top = float(np.percentile(inverse[known], 95)) if known.any() else 1.0
    colours = colourise(inverse / top, 0, 1, "turbo")
    grey = np.repeat(image.mean(2, keepdims=True), 3, 2)
    mixed = np.where(known[..., None], (0.45 * grey + 0.55 * colours) if dense else colours, 0.8 * grey)
    return mixed.astype(np.uint8)


def metres_a_step(pair: Pair, ground_truth: np.ndarray) -> float | None:
    """Metres between both cameras by the ground truth; None if too few matches have ground truth."""
    ratio = _ground_truth_at(ground_truth, pair) * pair.motion.inverse_depth
    ratio = ratio[_trusted(pair.motion) & (ratio > 0)]
    return float(np.median(ratio)) if len(ratio) >= FEWEST // 2 else None


def _trusted(motion: Motion) -> np.ndarray:
    """(M,) bool, matches whose parallax exceeds noise: the spread of inverse depths moves them 0.5 px."""
    spread_of = np.subtract(*np.percentile(motion.inverse_depth, [85, 15])) if len(motion.target) else 0
    clear = motion.sensitivity * max(float(spread_of), 1e-9) > 0.5
    return motion.explained & clear & ~standing_along(motion)


def _ground_truth_at(ground_truth: np.ndarray, pair: Pair) -> np.ndarray:
    """(M,) metres at the matches: the least of the 5x5 ground-truth pixels around each; 0 if unknown."""
    height, width = pair.target.image.shape[:2]
    x = np.round((pair.motion.target[:, 0] + 0.5) * ground_truth.shape[1] / width - 0.5).astype(int)
    y = np.round((pair.motion.target[:, 1] + 0.5) * ground_truth.shape[0] / height - 0.5).astype(int)
    padded = np.pad(np.where(ground_truth > 0, ground_truth, np.inf), 2, constant_values=np.inf)
    x, y = np.clip(x, 0, ground_truth.shape[1] - 1), np.clip(y, 0, ground_truth.shape[0] - 1)
    nearest = np.min([padded[y + dy, x + dx] for dy in range(5) for dx in range(5)], 0)
    return np.where(np.isfinite(nearest), nearest, 0)
