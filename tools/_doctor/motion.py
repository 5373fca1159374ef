"""Motion between the frames of a sample: that there is some, that it shows depth, and the best gap."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from datasets._sequence import SequenceDataset
from tools._doctor.geometry import FEWEST, find_motion, match, standing_along
from tools._doctor.reading import (
    STANDING,
    Finding,
    Look,
    Pair,
    Sample,
    camera_label,
    moving_pairs,
    read_looks,
    reduced,
    share_of_width,
)
from utils import InputError

SMALL, LARGE = 0.004, 0.12  # median displacement as a share of the width
GAPS = (2, 3, 5, 8)  # frames (times the stride) that are tried beside 1
BEST_PARALLAX = 0.01  # as a share of the width: some 6 pixels of 640, as KITTI at 10 frames a second
TURNING = 0.12  # share of the displacement that is parallax, below which the camera mostly turns


def check_motion(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Between the frames of a sample something must move, and not only by turning."""
    findings = []
    for camera in range(dataset.cameras):
        pairs, label = moving_pairs(samples, camera), camera_label(dataset, camera)
        if not pairs:
            continue
        same = [pair for pair in pairs if _difference(pair.target.picture, pair.source.picture) < 0.5]
        if len(same) > 0.1 * len(pairs):
            level = "problem" if len(same) > 0.8 * len(pairs) else "warning"
            text = (
                f"{label}{len(same)} of {len(pairs)} frames repeat their neighbour, such as "
                f"{same[0].sample.name}; was the frame rate raised? Leave the repeats out"
            )
            findings.append(Finding(level, "repeats", text, names=[pair.sample.name for pair in same]))
        matched = [pair for pair in pairs if len(pair.motion.target) >= FEWEST]
        if len(matched) < 0.5 * len(pairs):
            text = (
                f"{label}only {len(matched)} of {len(pairs)} pairs have {FEWEST} matches: the frames are too "
                "far apart, or show little texture"
            )
            findings.append(Finding("warning", "motion", text, pictures=_side_by_side(pairs[:1])))
        if not matched:
            continue
        shifts = np.array([share_of_width(pair, pair.motion.shift) for pair in matched])
        standing = float((shifts < STANDING).mean())
        if standing > 0.2:
            level = "problem" if standing > 0.8 else "warning"
            still = [pair.sample.name for pair, shift in zip(matched, shifts) if shift < STANDING]
            text = (
                f"{label}the camera stands still in {standing:.0%} of the pairs, such as {still[0]}; "
                "from them nothing can be learned, leave them out"
            )
            findings.append(Finding(level, "standing", text, names=still))
        moving = [pair for pair, shift in zip(matched, shifts) if shift >= STANDING]
        if len(moving) < 0.2 * len(matched):
            continue
        findings.append(_judge_motion(dataset, label, moving))
        findings += _own_vehicle(label, moving)
    return findings


def _judge_motion(dataset: SequenceDataset, label: str, moving: list[Pair]) -> Finding:
    shift = float(np.median([share_of_width(pair, pair.motion.shift) for pair in moving]))
    parallax = float(np.median([share_of_width(pair, pair.motion.parallax) for pair in moving]))
    pixels, rest = shift * dataset.width, parallax * dataset.width
    met = f"{label}pictures shift by {pixels:.1f} px of {dataset.width}, {rest:.1f} px of it parallax"
    if parallax < TURNING * shift and parallax < SMALL:
        text = f"{met}: the camera turns but hardly moves, and turning shows no depth"
        return Finding("problem", "motion", text + "; record while walking sideways or forwards")
    if shift < SMALL:
        return Finding("warning", "motion", f"{met}: that is little; take a larger gap between frames")
    if shift > LARGE:
        return Finding("warning", "motion", f"{met}: that is a lot; take a smaller gap between frames")
    return Finding("good", "motion", met)


def _own_vehicle(label: str, moving: list[Pair]) -> list[Finding]:
    """Whether the lower part of the picture stands still while the rest moves, as the own bonnet does."""
    shares = []
    for pair in moving:
        low = pair.motion.target[:, 1] > 0.67 * pair.target.picture.shape[0]
        if low.sum() >= 8 and pair.motion.shift > 3:
            shares.append(float(standing_along(pair.motion)[low].mean()))
    if not shares or np.median(shares) < 0.4:
        return []
    text = (
        f"{label}{np.median(shares):.0%} of the matches in the lower third stand still while the rest moves: "
        "the own vehicle? Mask it or crop it away, it would be learned as infinitely far"
    )
    return [Finding("note", "own vehicle", text)]


def gap_pairs(dataset: SequenceDataset, samples: list[Sample], workers: int) -> dict[int, list[Pair]]:
    """Gap in frames of the dataset → pairs of camera 0 that far apart, 1 included."""
    forward = [frame for frame in dataset.frame_ids if isinstance(frame, int) and frame != 0]
    if not forward:
        return {}

    def pairs_of(sample: Sample) -> list[tuple[int, Pair]]:
        line, found = dataset.lines[sample.index], []
        for gap in (1, *GAPS):
            look = sample.looks.get(gap) or _reach(dataset, line, gap)
            if look is None or look[0].size != sample.looks[0][0].size:
                break
            target, source = sample.looks[0][0], look[0]
            motion = find_motion(*match(target.features, source.features), target.K)
            apart = Sample(sample.index, sample.name, {0: [target], gap: [source]})
            found.append((gap, Pair(apart, 0, gap, motion)))
        return found

    pairs: dict[int, list[Pair]] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for gap, pair in itertools.chain.from_iterable(pool.map(pairs_of, samples)):
            pairs.setdefault(gap, []).append(pair)
    return pairs


def _reach(dataset: SequenceDataset, line: Any, gap: int) -> list[Look] | None:
    """A frame farther on; None where the recording ends."""
    try:
        if not all(path.is_file() for path in dataset.paths(line, gap)):
            return None
        return read_looks(dataset, line, gap)
    except (InputError, LookupError, OSError):
        return None


def check_gap(dataset: SequenceDataset, pairs: dict[int, list[Pair]]) -> list[Finding]:
    """Which gap between frames shows depth best: parallax large enough to see, small enough to match."""
    if 1 not in pairs:
        return []
    first = pairs[1]
    table = {}
    for gap, found in pairs.items():
        # Against gap 1 of the same samples, since not every sample reaches as far.
        near = {pair.sample.index: pair for pair in first}
        parallax, shift = (
            float(np.median([share_of_width(pair, getattr(pair.motion, what)) for pair in first]))
            * float(
                np.median(
                    [
                        getattr(pair.motion, what) / max(getattr(near[pair.sample.index].motion, what), 1e-3)
                        for pair in found
                    ]
                )
            )
            for what in ("parallax", "shift")
        )
        matches = np.mean([len(pair.motion.target) for pair in found])
        table[gap] = shift, parallax, matches
    told = ", ".join(f"{gap}: {parallax * dataset.width:.1f} px" for gap, (_, parallax, _) in table.items())
    findings = []
    if 2 in table and table[1][0] > SMALL and table[2][0] < 0.7 * table[1][0]:
        text = (
            f"two frames on, pictures shift less ({table[2][0] * dataset.width:.1f} px) than one frame on "
            f"({table[1][0] * dataset.width:.1f} px): are the frames in the order of time?"
        )
        findings.append(Finding("warning", "order", text, pictures=_side_by_side(first[:1])))
    visible = {gap: row for gap, row in table.items() if row[2] >= max(FEWEST, 0.3 * table[1][2])}
    usable = visible or {1: table[1]}
    best = min(usable, key=lambda gap: abs(np.log(max(usable[gap][1], 1e-5) / BEST_PARALLAX)))
    stride = getattr(dataset, "stride", 1)
    parallax = table[1][1]
    if parallax < SMALL and best > 1:
        how = (
            f"--set stride={best * stride}" if hasattr(dataset, "stride") else f"--frame_ids 0 -{best} {best}"
        )
        text = f"a gap of {best} frames shows depth better ({how}); parallax by gap: {told}"
        findings.append(Finding("warning", "frame gap", text))
    elif table[1][0] > LARGE:
        smaller = max(1, round(stride * BEST_PARALLAX * 3 / max(parallax, 1e-6)))
        way = f"try --set stride={smaller}" if smaller < stride else "record at a higher frame rate"
        text = f"frames are far apart, {way}; parallax by gap: {told}"
        findings.append(Finding("warning", "frame gap", text))
    elif not findings:
        findings.append(Finding("good", "frame gap", f"the gap is sensible; parallax by gap: {told}"))
    return findings


def _side_by_side(pairs: list[Pair]) -> list[tuple[str, np.ndarray]]:
    return [
        (
            f"{pair.sample.name} and frame {pair.frame}",
            reduced(np.hstack([pair.target.picture, pair.source.picture]), 1440),
        )
        for pair in pairs
    ]


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a[::4, ::4].astype(np.int16) - b[::4, ::4]).mean())
