"""What tools/doctor.py looks at. Each check takes what was read and returns findings, in words.

Lengths in the picture are given at the network's width, since that is what training sees; thresholds are
shares of the width, so that they mean the same for any camera.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets._sequence import SequenceDataset, resize_intrinsics
from pictures import colourise
from structures import Frame
from tools._doctor_geometry import (
    FACTORS,
    FEWEST,
    Features,
    Motion,
    fill_depth,
    find_features,
    find_motion,
    match,
    scan_focal,
    standing_along,
    warp_picture,
)
from utils import InputError

LEVELS = ("problem", "warning", "note", "good")
WIDEST = 960  # pixels, to which wide pictures are reduced for matching
GAPS = (2, 3, 5, 8)  # frames (times the stride) that are tried beside 1
STANDING, SMALL, LARGE = 0.0015, 0.004, 0.12  # median displacement as a share of the width
BEST_PARALLAX = 0.01  # as a share of the width: some 6 pixels of 640, as KITTI at 10 frames a second
SCANNED = 8  # pairs of a camera, those that shift most, that judge its focal length
TURNING = 0.12  # share of the displacement that is parallax, below which the camera mostly turns


@dataclass
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `problem` (mend it first), `warning` (trains, worse than it could), `note` or `good`.
        topic: what was looked at, a word or two.
        text: a sentence for the person who mends it.
        pictures: (caption, (H, W, 3) uint8), for the page.
        names: a list that is too long for a sentence, such as broken files.
        curve: (x, y) points of a drawing for the page, with what x is: ("fx in pixels", [(300, 0.4), ...]).
    """

    level: str
    topic: str
    text: str
    pictures: list[tuple[str, np.ndarray]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    curve: tuple[str, list[tuple[float, float]], float] | None = None


@dataclass
class Look:
    """A picture of one camera, reduced to `WIDEST`, with what is needed to compare it.

    Attributes:
        picture: (H, W, 3) uint8.
        K: (3, 3) pixels at H x W.
        size: (height, width) as the dataset gives it.
        features: its corners.
    """

    picture: np.ndarray
    K: np.ndarray
    size: tuple[int, int]
    features: Features


@dataclass
class Pair:
    """A target and one source of the same camera, and the motion between them."""

    sample: Sample
    camera: int
    frame: Frame
    motion: Motion

    @property
    def target(self) -> Look:
        return self.sample.looks[0][self.camera]

    @property
    def source(self) -> Look:
        return self.sample.looks[self.frame][self.camera]


@dataclass
class Sample:
    """One sample that was read: frame → a look of each camera, and the truth where there is any."""

    index: int
    name: str
    looks: dict[Frame, list[Look]]
    depth: np.ndarray | None = None
    pairs: list[Pair] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------- reading


def read_samples(
    dataset: SequenceDataset, indices: Sequence[int], workers: int
) -> tuple[list[Sample], list[Finding]]:
    """The samples that can be read, with their motions; what cannot be read is left to `check_files`."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        read = list(pool.map(lambda index: _read_sample(dataset, index), indices))
    findings = [item for item in read if isinstance(item, Finding)]
    return [item for item in read if isinstance(item, Sample)], findings[:1]


def _read_sample(dataset: SequenceDataset, index: int) -> Sample | Finding:
    line, name = dataset.lines[index], dataset.name(index)
    try:
        looks = {frame: _looks(dataset, line, frame) for frame in dataset.frame_ids}
    except (InputError, OSError) as error:
        return Finding("problem", "samples", f"{name} cannot be read: {error}")
    sample = Sample(index, name, looks)
    for frame in dataset.frame_ids[1:]:
        for camera in range(dataset.cameras):
            target, source = looks[0][camera], looks[frame][camera]
            if target.size == source.size:
                found = match(target.features, source.features)
                sample.pairs.append(Pair(sample, camera, frame, find_motion(*found, target.K)))
    return sample


def _looks(dataset: SequenceDataset, line: Any, frame: Frame) -> list[Look]:
    looks = []
    for camera, picture in enumerate(dataset.pictures(line, frame)):
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
        height, width = pixels.shape[:2]
        K = np.asarray(dataset.intrinsics(line, camera, height, width), np.float64)[:3, :3]
        if width > WIDEST:
            small = WIDEST, round(height * WIDEST / width)
            pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
            K = resize_intrinsics(K, (height, width), small[::-1])
        looks.append(Look(pixels, K, (height, width), find_features(pixels)))
    return looks


def camera_label(dataset: SequenceDataset, camera: int) -> str:
    """`front: ` of a rig, nothing where there is one camera."""
    if dataset.cameras == 1:
        return ""
    names = list(dataset.camera_names) or [f"camera {n}" for n in range(dataset.cameras)]
    return f"{names[camera]}: "


# --------------------------------------------------------------------------------------------------- files


@dataclass
class Decoded:
    """What decoding a picture told: its camera, size, whether grey, brightness and spread of 0 to 255."""

    camera: int
    size: tuple[int, int]
    grey: bool
    mean: float
    spread: float
    name: str


def decode(
    dataset: SequenceDataset, everything: bool, workers: int, most: int = 60
) -> tuple[list[Decoded], list[str], int]:
    """Decode every picture of the dataset, or about `most` spread over it.

    Returns:
        What was decoded, the sentences of what could not be, and how many pictures there are.
    """
    seen: set[Path] = set()
    tasks = []
    for line in dataset.lines:
        for frame in dataset.frame_ids:
            paths = dataset.paths(line, frame)
            if not seen.issuperset(paths):
                tasks.append((line, frame))
                seen.update(paths)
    if not everything:
        tasks = [tasks[n] for n in spread(len(tasks), max(1, most // dataset.cameras))]

    def one(task: tuple[Any, Frame]) -> list[Decoded] | str:
        try:
            pictures = dataset.pictures(*task)
        except (InputError, OSError) as error:
            return str(error)
        paths = dataset.paths(*task)
        return [
            _decoded(n, picture.numpy(), str(paths[min(n, len(paths) - 1)]))
            for n, picture in enumerate(pictures)
        ]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = list(pool.map(one, tasks))
    broken = list(dict.fromkeys(result for result in results if isinstance(result, str)))
    whole = itertools.chain.from_iterable(result for result in results if not isinstance(result, str))
    return list(whole), broken, len(seen)


def _decoded(camera: int, picture: np.ndarray, name: str) -> Decoded:
    few = picture[:, ::4, ::4].astype(np.int16)
    grey = int(np.abs(few - few[:1]).max()) <= 2
    return Decoded(camera, picture.shape[-2:], grey, float(few.mean()), float(few.std()), name)


def check_files(decoded: list[Decoded], broken: list[str], count: int, everything: bool) -> list[Finding]:
    """Every listed picture is there (opening the dataset saw to that) and opens."""
    everything = everything or len(decoded) >= count
    share = "all were" if everything else f"{len(decoded)} spread over them were"
    if broken:
        more = "" if everything else "; --all_files opens every one"
        return [
            Finding(
                "problem",
                "files",
                f"{len(broken)} of {len(decoded) + len(broken)} opened pictures cannot be read: "
                f"{broken[0]}{more}",
                names=broken,
            )
        ]
    more = "" if everything else " (--all_files opens every one)"
    return [Finding("good", "files", f"all {count} pictures are there, and {share} opened{more}")]


def check_sizes(dataset: SequenceDataset, decoded: list[Decoded]) -> list[Finding]:
    """One camera's pictures should have one size; the network's should be near their aspect."""
    findings = []
    sizes: Counter = Counter()
    for camera in range(dataset.cameras):
        own = Counter(item.size for item in decoded if item.camera == camera)
        sizes.update(own)
        if len(own) > 1:
            listed = ", ".join(f"{w}x{h} ({n})" for (h, w), n in own.most_common(4))
            findings.append(
                Finding(
                    "note",
                    "sizes",
                    f"{camera_label(dataset, camera)}pictures of {len(own)} sizes: {listed}; all are resized "
                    "to the network's, and intrinsics must follow each",
                )
            )
    if not sizes:
        return findings
    (height, width), _ = sizes.most_common(1)[0]
    stretch = (dataset.width / dataset.height) / (width / height)
    net = f"{dataset.width}x{dataset.height}"
    if not findings:
        findings.append(Finding("good", "sizes", f"pictures are {width}x{height}, the network sees {net}"))
    if not 0.75 < stretch < 1.34:
        fitting = max(32, round(dataset.width * height / width / 32) * 32)
        findings.append(
            Finding(
                "note",
                "aspect",
                f"{net} stretches {width}x{height} pictures {max(stretch, 1 / stretch):.2f} times in one "
                f"direction; --height {fitting} --width {dataset.width} would not",
            )
        )
    if dataset.width > 1.05 * width:
        findings.append(
            Finding(
                "note", "aspect", f"the network's width {dataset.width} is more than the pictures' {width}"
            )
        )
    return findings


def check_looks(decoded: list[Decoded]) -> list[Finding]:
    """Pictures that are grey, black or empty."""
    findings = []
    grey = sum(item.grey for item in decoded)
    if decoded and grey == len(decoded):
        text = "pictures are grey, which is fine; colour jitter in hue and saturation then does nothing"
        findings.append(Finding("note", "colour", text))
    elif grey > 0.02 * len(decoded):
        text = f"{grey} of {len(decoded)} pictures are grey, the others in colour; are these two cameras?"
        findings.append(Finding("warning", "colour", text))
    empty = [item for item in decoded if item.spread < 4]
    if empty:
        level = "problem" if len(empty) > 0.2 * len(decoded) else "warning"
        text = (
            f"{len(empty)} of {len(decoded)} pictures show nothing (one even grey, brightness "
            f"{empty[0].mean:.0f} of 255), such as {empty[0].name}; leave them out"
        )
        findings.append(Finding(level, "empty", text, names=[item.name for item in empty]))
    dark = [item for item in decoded if item.spread >= 4 and item.mean < 20]
    if len(dark) > 0.2 * len(decoded):
        text = f"{len(dark)} of {len(decoded)} pictures are very dark, such as {dark[0].name}"
        findings.append(Finding("warning", "dark", text))
    return findings


def check_borders(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Black bars round every picture, as letterboxed video has."""
    findings = []
    for camera in range(dataset.cameras):
        pictures = [sample.looks[0][camera].picture for sample in samples]
        if len({picture.shape for picture in pictures}) != 1:
            continue
        brightest = np.max([picture.max(2) for picture in pictures], 0)
        rows, columns = (np.percentile(brightest, 95, axis=axis) < 12 for axis in (1, 0))
        top, bottom, left, right = (_leading(dark) for dark in (rows, rows[::-1], columns, columns[::-1]))
        share = max((top + bottom) / len(rows), (left + right) / len(columns))
        if 0.02 < share < 1:
            findings.append(
                Finding(
                    "warning",
                    "borders",
                    f"{camera_label(dataset, camera)}black bars take {share:.0%} of every picture (top "
                    f"{top}, bottom {bottom}, left {left}, right {right} of {len(columns)}x{len(rows)}); "
                    "crop them away, and the intrinsics with them",
                )
            )
    return findings


# ---------------------------------------------------------------------------------------------- intrinsics


def judge_intrinsics(K: np.ndarray, height: int, width: int) -> list[tuple[str, str]]:
    """(level, sentence) of what speaks against intrinsics K of a picture of this size."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    met = f"fx {fx:.4g}, fy {fy:.4g}, cx {cx:.4g}, cy {cy:.4g} for {width}x{height} pictures"
    if max(fx, fy) < 4 or (max(cx, cy) < 2 and width > 8):
        pixels = f"{fx * width:.6g} {fy * height:.6g} {cx * width:.6g} {cy * height:.6g}"
        return [("problem", f"{met} look normalised; in pixels they are '{pixels}'")]
    middle_x, middle_y = cx / (width / 2), cy / (height / 2)
    away = max(abs(middle_x - 1), abs(middle_y - 1))
    swapped = max(abs(cx / (height / 2) - 1), abs(cy / (width / 2) - 1))
    if away > 0.3 and swapped < 0.15:
        return [
            ("problem", f"{met}: width and height are swapped, the middle is ({width / 2:g}, {height / 2:g})")
        ]
    factor = (middle_x + middle_y) / 2
    if abs(factor - 1) > 0.2 and abs(middle_x / middle_y - 1) < 0.15:
        other = f"{2 * cx:.0f}x{2 * cy:.0f}"
        pixels = " ".join(f"{value / factor:.6g}" for value in (fx, fy, cx, cy))
        return [
            ("problem", f"{met} look like they belong to a picture of {other}; for this size: '{pixels}'")
        ]
    found = []
    if away > 0.3:
        text = f"{met}: the principal point is far from the middle ({width / 2:g}, {height / 2:g})"
        found.append(("problem" if away > 0.6 else "note", text + ", as where pictures were cropped"))
    if not 0.3 < fx / width < 3:
        angle = 2 * np.degrees(np.arctan(width / 2 / fx))
        found.append(("problem", f"{met}: fx means a view {angle:.0f} degrees wide; usual are 25 to 110"))
    if not 0.8 < fx / fy < 1.25:
        found.append(
            (
                "warning",
                f"{met}: fx and fy differ {max(fx / fy, fy / fx):.2f} times, so pixels would not be square; "
                "were the pictures stretched, or are the intrinsics of another aspect?",
            )
        )
    return found


def check_intrinsics(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Plausible for the picture's size, and in pixels."""
    findings = []
    plausible = {}
    for camera in range(dataset.cameras):
        label, told = camera_label(dataset, camera), set()
        for sample in samples:
            height, width = sample.looks[0][camera].size
            K = np.asarray(dataset.intrinsics(dataset.lines[sample.index], camera, height, width), np.float64)
            for level, text in judge_intrinsics(K, height, width):
                if text not in told:
                    findings.append(Finding(level, "intrinsics", label + text))
                told.add(text)
            if not told:
                plausible[camera] = (K[0, 0], 2 * np.degrees(np.arctan(width / 2 / K[0, 0])))
    if plausible and not findings:
        angles = sorted({round(angle) for _, angle in plausible.values()})
        focal = sorted({round(fx, 1) for fx, _ in plausible.values()})
        text = (
            f"fx is {_range(focal)} px: a view {_range(angles)} degrees wide; principal point near the middle"
        )
        findings.append(Finding("good", "intrinsics", text))
    return findings


def check_focal(dataset: SequenceDataset, samples: list[Sample], wide: list[Pair]) -> list[Finding]:
    """Whether another focal length explains the motion better than the given one."""
    findings, silent = [], 0
    if not any(pair.frame != "s" for sample in samples for pair in sample.pairs):
        return []
    for camera in range(dataset.cameras):
        pairs = [pair for sample in samples for pair in sample.pairs if pair.frame != "s"] + wide
        pairs = [pair for pair in pairs if pair.camera == camera]
        pairs = [pair for pair in pairs if share_of_width(pair, pair.motion.shift) > STANDING]
        pairs = sorted(pairs, key=lambda pair: -pair.motion.shift)[:SCANNED]
        scans = [scan_focal(pair.motion.target, pair.motion.source, pair.target.K) for pair in pairs]
        scans = [scan for scan in scans if scan is not None]
        if not scans:
            silent += 1
            continue
        costs = np.sum(scans, 0)
        middle, best = len(FACTORS) // 2, int(costs.argmin())
        valley = min(costs[0], costs[-1]) / costs[best]  # how well a focal length can be told at all
        if valley < 1.08 or best in (0, len(FACTORS) - 1):
            silent += 1
            continue
        look = samples[0].looks[0][camera]
        given = look.K[0, 0] * look.size[1] / look.picture.shape[1]
        factor, gain = _valley_floor(costs), costs[middle] / costs[best]
        better = given * factor
        agree = np.mean([scan[best] < scan[middle] for scan in scans])
        label = camera_label(dataset, camera)
        curve = ("fx in pixels", list(zip(given * FACTORS, costs / len(scans))), given)
        if gain > 1.1 and abs(np.log(factor)) > 0.13 and agree > 0.6:
            text = (
                f"{label}fx {better:.0f} px explains the motion better than the given {given:.0f} "
                f"({agree:.0%} of {len(scans)} pairs agree); calibrate, or try it"
            )
            level = "problem" if abs(np.log(factor)) > 0.3 else "warning"
            findings.append(Finding(level, "focal length", text, curve=curve))
        else:
            text = f"{label}the motion agrees with fx {given:.0f} px (best: {better:.0f}, {len(scans)} pairs)"
            findings.append(Finding("good", "focal length", text, curve=curve))
    if silent == dataset.cameras:
        text = (
            "the motion does not tell the focal length, as when a camera moves without turning; "
            "whether it is right has to come from a calibration"
        )
        findings.append(Finding("note", "focal length", text))
    return findings


def _valley_floor(costs: np.ndarray) -> float:
    """The factor at the lowest point of a parabola through the best of FACTORS and its neighbours."""
    best = int(costs.argmin())
    before, here, after = costs[best - 1 : best + 2]
    offset = 0.5 * (before - after) / max(before - 2 * here + after, 1e-12)
    return float(FACTORS[best] * (FACTORS[1] / FACTORS[0]) ** np.clip(offset, -0.5, 0.5))


# -------------------------------------------------------------------------------------------------- motion


def moving_pairs(samples: list[Sample], camera: int) -> list[Pair]:
    return [p for sample in samples for p in sample.pairs if p.frame != "s" and p.camera == camera]


def share_of_width(pair: Pair, pixels: float) -> float:
    return pixels / pair.target.picture.shape[1]


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
        return _looks(dataset, line, gap)
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


# ---------------------------------------------------------------------------------------------- explaining


def check_warp(dataset: SequenceDataset, samples: list[Sample], pictures: int) -> list[Finding]:
    """A source, warped by the motion and depth that its matches tell, should look like the target."""
    findings = []
    for camera in range(dataset.cameras):
        label = camera_label(dataset, camera)
        results = [
            (pair, *rebuilt)
            for pair in moving_pairs(samples, camera)
            if share_of_width(pair, pair.motion.shift) > STANDING and (rebuilt := rebuild(pair)) is not None
        ]
        if not results:
            continue
        before, after = (float(np.median([result[n] for result in results])) for n in (1, 2))
        matches = sum(len(pair.motion.target) for pair, *_ in results)
        explained = sum(int(pair.motion.explained.sum()) for pair, *_ in results) / matches
        distance = float(np.median([pair.motion.distance for pair, *_ in results]))
        shown = []
        step = max(1, len(results) // max(1, pictures))
        for pair, low, high, sheet in results[::step][:pictures]:
            caption = f"{label}{pair.sample.name}, frame {pair.frame}: difference {low:.1f} → {high:.1f}"
            shown.append((caption, sheet))
        met = (
            f"{label}warping takes the difference from {before:.1f} to {after:.1f} (of 255); {explained:.0%} "
            f"of matches lie on their epipolar lines ({distance:.2f} px off)"
        )
        if after > 0.97 * before or explained < 0.4:
            text = (
                f"{met}: the frames do not explain each other. Wrong intrinsics, lens distortion, no order?"
            )
            findings.append(Finding("warning", "warp", text, shown))
        else:
            findings.append(Finding("good", "warp", met, shown))
    return findings


def rebuild(pair: Pair) -> tuple[float, float, np.ndarray] | None:
    """The source warped into the target.

    Returns:
        Mean difference of 0 to 255 before and after, and target, source, warped, differences and depth as
        one picture; None where there is no motion to go by.
    """
    motion, target, source = pair.motion, pair.target.picture, pair.source.picture
    if motion.T_source_from_target is None:
        return None
    height, width = target.shape[:2]
    depth, T, known = fill_depth(motion, height, width), motion.T_source_from_target.copy(), True
    truth = None if pair.sample.depth is None else pair.sample.depth[pair.camera]
    if truth is not None and (truth > 0).mean() > 0.3:
        step = metres_a_step(pair, truth)
        if step is not None:
            depth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
            known = depth > 0
            depth = np.where(known, depth, 1e4 * step)
            T[:3, 3] *= step
    if depth is None:
        return None
    warped, inside = warp_picture(source, depth, pair.target.K, T)
    inside &= known
    if inside.mean() < 0.1:
        return None
    before, after = (np.abs(p.astype(np.int16) - target).mean(2) for p in (source, warped))
    cover = np.where(inside[..., None], warped, 40).astype(np.uint8)
    near = colourise(np.where(depth > 0, 1 / depth, 0).astype(np.float32), low=0.0)
    under = [near, colourise(before, 0, 80), colourise(np.where(inside, after, 0), 0, 80)]
    sheet = np.vstack([np.hstack([target, source, cover]), np.hstack(under)])
    return float(before[inside].mean()), float(after[inside].mean()), reduced(sheet, 1440)


def metres_a_step(pair: Pair, truth: np.ndarray) -> float | None:
    """How long the step between the two pictures is by the truth, metres; None where few matches have one."""
    ratio = _truth_at(truth, pair) * pair.motion.inverse_depth
    ratio = ratio[_trusted(pair.motion) & (ratio > 0)]
    return float(np.median(ratio)) if len(ratio) >= FEWEST // 2 else None


def _trusted(motion: Motion) -> np.ndarray:
    """(M,) bool, matches whose inverse depth noise does not drown: half a pixel against their spread."""
    spread_of = np.subtract(*np.percentile(motion.inverse_depth, [85, 15])) if len(motion.target) else 0
    clear = motion.sensitivity * max(float(spread_of), 1e-9) > 0.5
    return motion.explained & clear & ~standing_along(motion)


def _truth_at(truth: np.ndarray, pair: Pair) -> np.ndarray:
    """(M,) metres at the matches, the nearest of the 5x5 truth pixels round each; 0 where there is none."""
    height, width = pair.target.picture.shape[:2]
    x = np.round((pair.motion.target[:, 0] + 0.5) * truth.shape[1] / width - 0.5).astype(int)
    y = np.round((pair.motion.target[:, 1] + 0.5) * truth.shape[0] / height - 0.5).astype(int)
    padded = np.pad(np.where(truth > 0, truth, np.inf), 2, constant_values=np.inf)
    x, y = np.clip(x, 0, truth.shape[1] - 1), np.clip(y, 0, truth.shape[0] - 1)
    nearest = np.min([padded[y + dy, x + dx] for dy in range(5) for dx in range(5)], 0)
    return np.where(np.isfinite(nearest), nearest, 0)


# ------------------------------------------------------------------------------------------- stereo, truth


def check_stereo(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """A stereo pair is rectified where matches lie in the same row, on the side that the pose says."""
    pairs = [pair for sample in samples for pair in sample.pairs if pair.frame == "s"]
    pairs = [pair for pair in pairs if len(pair.motion.target) >= FEWEST // 2]
    if "s" not in dataset.frame_ids:
        return []
    if not pairs:
        text = "no stereo pair has matches: are left and right taken at the same moment, of the same place?"
        return [Finding("problem", "stereo", text)]
    pair = pairs[0]
    shown = [(f"{pair.sample.name}: rows must agree", _stereo_picture(pair))]
    scale = pair.target.size[1] / pair.target.picture.shape[1]  # to pixels of the recording
    moves = np.concatenate([pair.motion.source - pair.motion.target for pair in pairs]) * scale
    # Of the right picture against the left, whichever is the source.
    sides = [
        np.full(len(p.motion.target), np.sign(np.median(p.motion.target - p.motion.source, 0)[0]))
        for p in pairs
    ]
    down = float(np.median(moves[:, 1] * np.concatenate(sides)))
    apart = float(np.median(np.abs(moves[:, 1])))
    findings = []
    if apart > 1.5:
        level = "problem" if apart > 3 else "warning"
        text = (
            f"matches of left and right are {apart:.1f} px apart in height (the right one {abs(down):.1f} px "
            f"{'lower' if down > 0 else 'higher'}): the pair is not rectified; OpenCV's stereoRectify does it"
        )
        findings.append(Finding(level, "stereo", text, shown))
    wrong = 0
    for pair in pairs:
        pose = dataset.pose(dataset.lines[pair.sample.index], "s")
        moved = float(np.median(pair.motion.source[:, 0] - pair.motion.target[:, 0]))
        wrong += pose is not None and moved * pose[pair.camera][0, 3] < 0
    if wrong > 0.5 * len(pairs):
        text = (
            f"in {wrong} of {len(pairs)} stereo pairs things move to the other side than the pose says; are "
            "left and right swapped?"
        )
        findings.append(Finding("problem", "stereo", text, shown))
    if not findings:
        sideways = float(np.median(np.abs(moves[:, 0])))
        text = f"rows of left and right agree ({apart:.2f} px); things shift by {sideways:.1f} px"
        findings.append(Finding("good", "stereo", text, shown))
    return findings


def read_truth(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Fill in `depth` of each sample; a finding for the first that cannot be read."""
    findings: list[Finding] = []
    for sample in samples:
        try:
            depth = dataset.depth(sample.index)
        except (InputError, OSError) as error:
            findings.append(Finding("problem", "truth", f"truth of {sample.name} cannot be read: {error}"))
            continue
        sample.depth = None if depth is None else np.nan_to_num(np.asarray(depth, np.float32))
    return findings[:1]


def check_truth(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """True depth lies over the picture, in metres, and agrees with what the motion says."""
    with_truth = [sample for sample in samples if sample.depth is not None]
    if not with_truth:
        return [Finding("note", "truth", "there is no true depth; training needs none, evaluation does")]
    if len(with_truth) < len(samples):
        text = f"{len(samples) - len(with_truth)} of {len(samples)} samples have no true depth"
        findings = [Finding("note", "truth", text)]
    else:
        findings = []
    for camera in range(dataset.cameras):
        label = camera_label(dataset, camera)
        maps = [sample.depth[camera] for sample in with_truth]
        values = np.concatenate([depth[depth > 0][::7] for depth in maps])
        shown = [
            (f"{label}{sample.name}: truth over the picture, near is bright", overlay(sample, camera))
            for sample in with_truth[:: max(1, len(with_truth) // 2)][:2]
        ]
        if len(values) < 10:
            findings.append(Finding("problem", "truth", f"{label}the depth maps are empty", shown))
            continue
        low, middle, high = np.percentile(values, [1, 50, 99])
        share = np.mean([(depth > 0).mean() for depth in maps])
        met = f"{label}depth {low:.3g} to {high:.3g} m, median {middle:.3g}, at {share:.1%} of the pixels"
        findings += _judge_truth(dataset, met, middle, high, shown)
        height, width = with_truth[0].looks[0][camera].size
        h, w = maps[0].shape
        if (
            h > 0.2 * height and abs(np.log((w / h) / (width / height))) > 0.05
        ):  # Make3D's lasers have 21 rows
            text = (
                f"{label}truth is {w}x{h} and pictures are {width}x{height}: one of them is cropped or turned"
            )
            findings.append(Finding("warning", "truth", text, shown))
        findings += _truth_against_motion(label, with_truth, camera, shown)
    return findings


def _judge_truth(
    dataset: SequenceDataset, met: str, middle: float, high: float, shown: list
) -> list[Finding]:
    if middle > 300:
        cure = (
            "depth_scale=1000 reads .png in millimetres"
            if hasattr(dataset, "depth_scale")
            else "divide by 1000"
        )
        text = f"{met}: are these millimetres? {cure}; .npy must be in metres"
        return [Finding("problem", "truth", text, shown)]
    if high < 0.3:
        text = f"{met}: that is near for metres; is it disparity, or normalised depth?"
        return [Finding("problem", "truth", text, shown)]
    cap = dataset.protocol.max_depth
    if middle > cap:
        text = f"{met}: more than half lies beyond the cap of {cap:g} m, where it does not count"
        return [Finding("warning", "truth", text, shown)]
    return [Finding("good", "truth", met, shown)]


def _truth_against_motion(label: str, samples: list[Sample], camera: int, shown: list) -> list[Finding]:
    """Near and far should be in the same places in the truth and by the motion (rank correlation)."""
    scores, count = [], 0
    for sample in samples:
        for pair in sample.pairs:
            if pair.camera != camera:
                continue
            truth = _truth_at(sample.depth[camera], pair)
            kept = _trusted(pair.motion) & (truth > 0)
            if kept.sum() >= FEWEST:
                scores.append(_rank_correlation(1 / truth[kept], pair.motion.inverse_depth[kept]))
                count += int(kept.sum())
    if not scores:
        return []
    score, few = float(np.median(scores)), len(scores) < 3
    met = f"{label}truth and motion agree with a rank correlation of {score:.2f} over {count} points"
    if score < 0.3:
        text = f"{met}: does the truth belong to these pictures? Look at the overlay"
        return [Finding("warning" if few else "problem", "overlay", text, shown)]
    if score < 0.6:
        return [Finding("warning", "overlay", f"{met}, which is little; look at the overlay", shown)]
    return [Finding("good", "overlay", met)]


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 1 where both have the same order, near 0 where they have nothing to do with each other."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def overlay(sample: Sample, camera: int) -> np.ndarray:
    """The target in grey with its truth in colours over it; single points are drawn larger."""
    picture, truth = sample.looks[0][camera].picture, sample.depth[camera]
    height, width = picture.shape[:2]
    inverse = np.where(truth > 0, 1 / np.maximum(truth, 1e-6), 0).astype(np.float32)
    dense = (truth > 0).mean() > 0.3
    if not dense:  # before resizing, which would lose points
        size = max(3, 2 * round(truth.shape[1] / 500) + 1)
        inverse = cv2.dilate(inverse, np.ones((size, size)))
    inverse = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_NEAREST)
    known = inverse > 0
    top = float(np.percentile(inverse[known], 95)) if known.any() else 1.0
    colours = colourise(inverse / top, 0, 1, "turbo")
    grey = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    mixed = np.where(known[..., None], (0.45 * grey + 0.55 * colours) if dense else colours, 0.8 * grey)
    return reduced(mixed.astype(np.uint8), 960)


# ----------------------------------------------------------------------------------------------------- rig


def check_rig(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Poses of the cameras are rigid and near each other, and neighbours see some of the same."""
    rig = dataset.rig_from_camera(dataset.lines[samples[0].index])
    if rig is None:
        text = "there are no poses of the cameras on the vehicle"
        return [Finding("note", "rig", text)] if dataset.cameras > 1 else []
    findings = []
    for camera, pose in enumerate(np.asarray(rig, np.float64)):
        label = camera_label(dataset, camera)
        R = pose[:3, :3]
        off = np.abs(R @ R.T - np.eye(3)).max()
        if off > 1e-2 or np.linalg.det(R) < 0:
            text = (
                f"{label}the pose's rotation is none: R R^T is off by {off:.2g}, det R {np.linalg.det(R):.2g}"
            )
            findings.append(Finding("problem", "rig", text))
        elif np.linalg.norm(pose[:3, 3]) > 20:
            x, y, z = pose[:3, 3]
            text = f"{label}stands at ({x:.4g}, {y:.4g}, {z:.4g}) on the vehicle: are these metres?"
            findings.append(Finding("problem", "rig", text))
    if dataset.cameras == 1 or findings:
        return findings
    return _overlaps(dataset, np.asarray(rig, np.float64), samples[0])


def _overlaps(dataset: SequenceDataset, rig: np.ndarray, sample: Sample) -> list[Finding]:
    """Degrees that neighbours share, from the azimuths of the left and right edges of each picture."""
    edges = []
    for camera, pose in enumerate(rig):
        look = sample.looks[0][camera]
        height, width = look.picture.shape[:2]
        pixels = np.array([[0, width - 1, look.K[0, 2]], [height / 2] * 3, [1, 1, 1]])
        rays = pose[:3, :3] @ np.linalg.inv(look.K) @ pixels
        edges.append(np.degrees(np.arctan2(rays[1], rays[0])))  # x forward, y left: positive is left
    shared, apart = [], []
    for camera in range(dataset.cameras):
        following = (camera + 1) % dataset.cameras
        # The next camera of the ring is the neighbour to the left.
        degrees = (edges[camera][0] - edges[following][1] + 180) % 360 - 180
        (shared if degrees > 0 else apart).append((camera, following, degrees))
    names = [camera_label(dataset, n)[:-2] for n in range(dataset.cameras)]
    if len(apart) > max(1, dataset.cameras // 3) and dataset.cameras == 6:
        listed = ", ".join(f"{names[a]} and {names[b]}" for a, b, _ in apart[:3])
        text = f"by their poses {listed} see nothing in common; are poses or the order of cameras wrong?"
        return [Finding("problem", "rig", text)]
    if not shared:
        return [
            Finding("note", "rig", "the cameras see nothing in common; spatial terms will have no effect")
        ]
    degrees = [value for *_, value in shared]
    wide = _range(sorted({round(value) for value in degrees}))
    text = f"{len(shared)} pairs of neighbours share {wide} degrees"
    return [Finding("good", "rig", text)]


def check_masks(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """A mask of the own vehicle leaves most of the picture."""
    try:
        visible = dataset.maps(dataset.lines[samples[0].index]).get("visible")
    except (InputError, OSError) as error:
        return [Finding("problem", "masks", str(error))]
    if visible is None:
        return []
    findings = []
    for camera, share in enumerate(visible.float().mean((1, 2, 3)).tolist()):
        if share < 0.4:
            text = (
                f"{camera_label(dataset, camera)}the mask leaves {share:.0%} of the picture; is it inverted?"
            )
            findings.append(Finding("problem" if share < 0.1 else "warning", "masks", text))
    if not findings:
        text = f"masks leave {visible.float().mean():.0%} of the pixels on average"
        findings.append(Finding("good", "masks", text))
    return findings


# ---------------------------------------------------------------------------------------------- small parts


def spread(count: int, most: int) -> list[int]:
    """At most `most` of range(count), evenly, both ends not favoured."""
    if count <= most:
        return list(range(count))
    return [int((n + 0.5) * count / most) for n in range(most)]


def contact_sheet(dataset: SequenceDataset, samples: list[Sample], most: int = 6) -> np.ndarray:
    """Targets of a few samples; of a rig each sample is a row of its cameras."""
    across = dataset.cameras if dataset.cameras > 1 else min(3, len(samples))
    looks = [look for sample in samples[: most if dataset.cameras == 1 else 2] for look in sample.looks[0]]
    height, width = looks[0].picture.shape[:2]
    small = (1440 // across, max(1, round(height * 1440 / across / width)))
    cells = [cv2.resize(look.picture, small, interpolation=cv2.INTER_AREA) for look in looks]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % across)
    return np.vstack([np.hstack(cells[n : n + across]) for n in range(0, len(cells), across)])


def _side_by_side(pairs: list[Pair]) -> list[tuple[str, np.ndarray]]:
    return [
        (
            f"{pair.sample.name} and frame {pair.frame}",
            reduced(np.hstack([pair.target.picture, pair.source.picture]), 1440),
        )
        for pair in pairs
    ]


def _stereo_picture(pair: Pair) -> np.ndarray:
    """Target and source side by side, a line through some matches of each; slanted lines are wrong."""
    motion, width = pair.motion, pair.target.picture.shape[1]
    canvas = np.ascontiguousarray(np.hstack([pair.target.picture, pair.source.picture]))
    for n in spread(len(motion.target), 24):
        a, b = motion.target[n], motion.source[n] + (width, 0)
        colour = (80, 200, 120) if abs(a[1] - b[1]) < 1.5 else (235, 80, 60)
        cv2.line(
            canvas, tuple(np.round(a).astype(int)), tuple(np.round(b).astype(int)), colour, 1, cv2.LINE_AA
        )
    return reduced(canvas, 1440)


def reduced(picture: np.ndarray, width: int) -> np.ndarray:
    if picture.shape[1] <= width:
        return picture
    size = width, round(picture.shape[0] * width / picture.shape[1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a[::4, ::4].astype(np.int16) - b[::4, ::4]).mean())


def _leading(flags: Iterable[bool]) -> int:
    """How many are true before the first that is not."""
    return sum(1 for _ in itertools.takewhile(bool, flags))


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
