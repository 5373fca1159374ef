"""Intrinsics: whether they fit the size of the images, and the motion between them."""

from __future__ import annotations

import numpy as np

from datasets.sequence import SequenceDataset
from tools._doctor.geometry import FACTORS, scan_focal
from tools._doctor.reading import STANDING, Finding, Pair, Sample, camera_label, from_to, share_of_width

SCANNED = 8  # pairs of a camera, those that shift most, that evaluate its focal length


def evaluate_intrinsics(K: np.ndarray, height: int, width: int) -> list[tuple[str, str]]:
    """(level, sentence) of what speaks against intrinsics K of an image of this size."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    met = f"fx {fx:.4g}, fy {fy:.4g}, cx {cx:.4g}, cy {cy:.4g} for {width}x{height} images"
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
        return [("problem", f"{met} look like they belong to an image of {other}; for this size: '{pixels}'")]
    found = []
    if away > 0.3:
        text = f"{met}: the principal point is far from the middle ({width / 2:g}, {height / 2:g})"
        found.append(("problem" if away > 0.6 else "note", text + ", as where images were cropped"))
    if not 0.3 < fx / width < 3:
        angle = 2 * np.degrees(np.arctan(width / 2 / fx))
        found.append(("problem", f"{met}: fx means a view {angle:.0f} degrees wide; usual are 25 to 110"))
    if not 0.8 < fx / fy < 1.25:
        found.append(
            (
                "warning",
                f"{met}: fx and fy differ {max(fx / fy, fy / fx):.2f} times, so pixels would not be square; "
                "were the images stretched, or are the intrinsics of another aspect?",
            )
        )
    return found


def check_intrinsics(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Plausible for the image's size, and in pixels."""
    findings = []
    plausible = {}
    for camera in range(dataset.cameras):
        label, told = camera_label(dataset, camera), set()
        for sample in samples:
            height, width = sample.looks[0][camera].size
            K = np.asarray(
                dataset.intrinsics(dataset.samples[sample.index], camera, height, width), np.float64
            )
            for level, text in evaluate_intrinsics(K, height, width):
                if text not in told:
                    findings.append(Finding(level, "intrinsics", label + text))
                told.add(text)
            if not told:
                plausible[camera] = (K[0, 0], 2 * np.degrees(np.arctan(width / 2 / K[0, 0])))
    if plausible and not findings:
        angles = sorted({round(angle) for _, angle in plausible.values()})
        focal = sorted({round(fx, 1) for fx, _ in plausible.values()})
        text = (
            f"fx is {from_to(focal)} px: a view {from_to(angles)} degrees wide; "
            "principal point near the middle"
        )
        findings.append(Finding("good", "intrinsics", text))
    return findings


def check_focal(
    dataset: SequenceDataset, samples: list[Sample], wide: list[Pair], guessed: bool
) -> list[Finding]:
    """Whether another focal length explains the motion better than the given one.

    Args:
        dataset, samples: what is examined.
        wide: further pairs, of frames farther apart.
        guessed: the given one is the doctor's own guess; then the better one is what to write.
    """
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
        factor, gain = _valley_floor(costs), costs[middle] / costs[best]
        far = abs(np.log(factor)) > 0.13
        agree = np.mean([scan[best] < scan[middle] for scan in scans])
        clear = gain > 1.1 and agree > 0.6
        if far and not clear:
            silent += 1
            continue
        look = samples[0].looks[0][camera]
        (height, width), given = look.size, look.K[0, 0] * look.size[1] / look.image.shape[1]
        better, label = given * factor, camera_label(dataset, camera)
        curve = ("fx in pixels", list(zip(given * FACTORS, costs / len(scans))), given)
        if guessed:
            line = f"{better:.0f} {better:.0f} {(width - 1) / 2:g} {(height - 1) / 2:g}"
            text = f"by the motion fx is about {better:.0f} px; for a first try write '{line}'"
            findings.append(Finding("note", "focal length", text, curve=curve))
        elif far:
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
