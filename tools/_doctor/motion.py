"""Motion between the frames of a sample: its size, its parallax, and the best gap between frames."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.sequence import SequenceDataset
from matching.focal import STANDING
from matching.motion import FEWEST, Motion, find_motion, match_pixels, standing_along
from tools._doctor.reading import (
    Figure,
    Finding,
    Look,
    Pair,
    Sample,
    camera_label,
    moving_pairs,
    read_looks,
    share_of_width,
)
from utils import InputError

SMALL, LARGE = 0.004, 0.12  # median displacement as a share of the width
SEEN = 0.001  # median parallax as a share of the width, below which noise dominates
GAPS = (2, 3, 5, 8, 15, 30)  # gaps in frames (times the stride) that are tried besides 1
BEST_PARALLAX = 0.01  # as a share of the width: 6 pixels of 640, as KITTI at 10 frames per second
TURNING = 0.12  # share of parallax in the displacement, below which the camera mostly rotates


@dataclass
class Gap:
    """Motion between frames that are one gap apart: medians over pairs, as shares of the width.

    Attributes:
        shift, parallax: see `geometry.Motion`.
        matches: mean number of matches.
    """

    shift: float
    parallax: float
    matches: float


def check_motion(dataset: SequenceDataset, samples: list[Sample], gaps: dict[int, Gap]) -> list[Finding]:
    """The camera must move between the frames of a sample, and not only rotate.

    Args:
        gaps: result of `measure_gaps`; if a larger gap shows parallax, the remedy is that gap.
    """
    curable = any(gap.parallax > SEEN for gap in gaps.values())
    findings = []
    for camera in range(dataset.cameras):
        pairs, label = moving_pairs(samples, camera), camera_label(dataset, camera)
        if not pairs:
            continue
        same = [pair for pair in pairs if _difference(pair.target.image, pair.source.image) < 0.5]
        if len(same) > 0.1 * len(pairs):
            level = "problem" if len(same) > 0.8 * len(pairs) else "warning"
            text = (
                f"{label}{len(same)} of {len(pairs)} frames repeat their neighbour, such as "
                f"{same[0].sample.name}; was the frame rate raised? Leave out the repeats"
            )
            findings.append(Finding(level, "repeats", text, names=[pair.sample.name for pair in same]))
        matched = [pair for pair in pairs if len(pair.motion.target) >= FEWEST]
        if len(matched) < 0.5 * len(pairs):
            text = (
                f"{label}{len(matched) or 'none'} of {len(pairs)} pairs of frames have {FEWEST} matches: the "
                "frames are too far apart, or have little texture"
            )
            level = "warning" if matched else "problem"
            findings.append(Finding(level, "motion", text, _side_by_side(pairs[:1])))
        if not matched:
            continue
        shifts = np.array([share_of_width(pair, pair.motion.shift) for pair in matched])
        standing = float((shifts < STANDING).mean())
        if standing > 0.2:
            level = "problem" if standing > 0.8 else "warning"
            still = [pair.sample.name for pair, shift in zip(matched, shifts) if shift < STANDING]
            way = "take a larger gap between frames" if curable else "leave them out"
            text = (
                f"{label}the camera stands still in {standing:.0%} of the pairs, such as {still[0]}; "
                f"nothing can be learned from them; {way}"
            )
            findings.append(Finding(level, "standing", text, names=still))
        moving = [pair for pair, shift in zip(matched, shifts) if shift >= STANDING]
        if len(moving) < 0.2 * len(matched):
            continue
        findings.append(_assess_motion(dataset, label, moving, curable))
        findings += _own_vehicle(label, moving)
    return findings


def _assess_motion(dataset: SequenceDataset, label: str, moving: list[Pair], curable: bool) -> Finding:
    shift = float(np.median([share_of_width(pair, pair.motion.shift) for pair in moving]))
    parallax = float(np.median([share_of_width(pair, pair.motion.parallax) for pair in moving]))
    pixels, rest = shift * dataset.width, parallax * dataset.width
    met = f"{label}images shift by {pixels:.1f} px of {dataset.width}, {rest:.1f} px of it parallax"
    if parallax < TURNING * shift and parallax < SMALL:
        text = f"{met}: the camera rotates but hardly moves, and rotation shows no depth; "
        if curable:
            return Finding("warning", "motion", text + "take a larger gap between frames")
        return Finding("problem", "motion", text + "record while walking sideways or forwards")
    if shift < SMALL:
        return Finding("warning", "motion", f"{met}: that is little; take a larger gap between frames")
    if shift > LARGE:
        return Finding("warning", "motion", f"{met}: that is a lot; take a smaller gap between frames")
    return Finding("good", "motion", met)


def _own_vehicle(label: str, moving: list[Pair]) -> list[Finding]:
    """The lower part of the image stands still while the rest moves: the bonnet of the ego vehicle."""
    shares = []
    for pair in moving:
        low = pair.motion.target[:, 1] > 0.67 * pair.target.image.shape[0]
        if low.sum() >= 8 and pair.motion.shift > 3:
            shares.append(float(standing_along(pair.motion)[low].mean()))
    if not shares or np.median(shares) < 0.4:
        return []
    text = (
        f"{label}{np.median(shares):.0%} of the matches in the lower third stand still while the rest moves: "
        "is it the own vehicle? Mask it or crop it; it would be learned as infinitely far"
    )
    return [Finding("note", "own vehicle", text)]


def gap_pairs(dataset: SequenceDataset, samples: list[Sample], workers: int) -> dict[int, list[Pair]]:
    """Gap in frames of the dataset → pairs of camera 0 with this gap, including 1."""
    forward = [frame for frame in dataset.frame_ids if isinstance(frame, int) and frame != 0]
    if not forward:
        return {}

    def pairs_of(sample: Sample) -> list[tuple[int, Pair]]:
        line, found = dataset.samples[sample.index], []
        for gap in (1, *GAPS):
            look = sample.looks.get(gap) or _reach(dataset, line, gap)
            if look is None or look[0].size != sample.looks[0][0].size:
                break
            target, source = sample.looks[0][0], look[0]
            motion = find_motion(*match_pixels(target.features, source.features), target.K)
            apart = Sample(sample.index, sample.name, {0: [target], gap: [source]})
            pair = Pair(apart, 0, gap, motion)
            found.append((gap, pair))
            if gap >= 8 and share_of_width(pair, motion.parallax) > BEST_PARALLAX:
                break
        return found

    pairs: dict[int, list[Pair]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for gap, pair in itertools.chain.from_iterable(pool.map(pairs_of, samples)):
            pairs.setdefault(gap, []).append(pair)
    return pairs


def _reach(dataset: SequenceDataset, line: Any, gap: int) -> list[Look] | None:
    """A later frame; None at the end of the recording."""
    try:
        if not all(path.is_file() for path in dataset.paths(line, gap)):
            return None
        return read_looks(dataset, line, gap)
    except (InputError, LookupError, OSError):
        return None


def measure_gaps(pairs: dict[int, list[Pair]]) -> dict[int, Gap]:
    """Gap → its medians; empty if neighbouring frames have too few matches."""
    first = {pair.sample.index: pair for pair in pairs.get(1, []) if len(pair.motion.target) >= FEWEST}
    gaps = {}
    for gap, found in pairs.items():
        found = [pair for pair in found if pair.sample.index in first]
        if found:
            matches = float(np.mean([len(pair.motion.target) for pair in found]))
            gaps[gap] = Gap(_grown(found, first, "shift"), _grown(found, first, "parallax"), matches)
    return gaps


def _grown(found: list[Pair], first: dict[int, Pair], what: str) -> float:
    """Median of `Motion.<what>` relative to gap 1 of the same samples: not every sample has every gap."""
    near = [share_of_width(pair, getattr(pair.motion, what)) for pair in first.values()]
    ratios = [
        getattr(pair.motion, what) / max(getattr(first[pair.sample.index].motion, what), 1e-3)
        for pair in found
    ]
    return float(np.median(near) * np.median(ratios))


def check_gap(dataset: SequenceDataset, pairs: dict[int, list[Pair]], gaps: dict[int, Gap]) -> list[Finding]:
    """Find the gap between frames that shows depth best: enough parallax, and frames that still match."""
    if 1 not in gaps:
        return []
    first = gaps[1]
    told = ", ".join(f"{gap}: {row.parallax * dataset.width:.1f} px" for gap, row in gaps.items())
    told = f"parallax by gap: {told}"
    findings = []
    if first.shift > SMALL and _out_of_order(pairs):
        text = "frames farther apart match as well as neighbours: are the frames in order of time?"
        findings.append(Finding("warning", "order", text, _side_by_side(pairs[1][:1])))
    visible = {gap: row for gap, row in gaps.items() if row.matches >= max(FEWEST, 0.3 * first.matches)}
    usable = visible or {1: first}
    best = min(usable, key=lambda gap: abs(np.log(max(usable[gap].parallax, 1e-5) / BEST_PARALLAX)))
    stride = getattr(dataset, "stride", 1)
    if first.parallax < SMALL and usable[best].parallax > max(SEEN, 1.5 * first.parallax):
        how = (
            f"--set stride={best * stride}" if hasattr(dataset, "stride") else f"--frame_ids 0 -{best} {best}"
        )
        text = f"a gap of {best} frames shows depth better ({how}); {told}"
        findings.append(Finding("warning", "frame gap", text))
    elif first.shift > LARGE:
        smaller = max(1, round(stride * BEST_PARALLAX * 3 / max(first.parallax, 1e-6)))
        way = f"try --set stride={smaller}" if smaller < stride else "record at a higher frame rate"
        findings.append(Finding("warning", "frame gap", f"frames are far apart, {way}; {told}"))
    elif first.parallax < SEEN:
        findings.append(Finding("note", "frame gap", f"no gap up to {max(gaps)} frames shows depth; {told}"))
    elif not findings:
        findings.append(Finding("good", "frame gap", f"the gap is sensible; {told}"))
    return findings


def _out_of_order(pairs: dict[int, list[Pair]]) -> bool:
    """Whether most targets match a later frame as well as the next one, and without a larger parallax."""
    later: dict[int, list[Motion]] = {}
    for pair in (pair for gap in (2, 3, 5) for pair in pairs.get(gap, [])):
        later.setdefault(pair.sample.index, []).append(pair.motion)
    near = [pair for pair in pairs[1] if pair.sample.index in later]
    nearer = [
        any(
            len(motion.target) > 0.95 * len(pair.motion.target)
            and motion.parallax < 1.2 * pair.motion.parallax
            for motion in later[pair.sample.index]
        )
        for pair in near
    ]
    return len(near) > 1 and sum(nearer) > len(near) / 2


def _side_by_side(pairs: list[Pair]) -> list[Figure]:
    return [
        Figure(
            pair.sample.name,
            [("target", pair.target.image), (f"source: frame {pair.frame}", pair.source.image)],
            2,
        )
        for pair in pairs
    ]


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a[::4, ::4].astype(np.int16) - b[::4, ::4]).mean())
