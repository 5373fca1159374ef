"""Intrinsics: they fit the size of the images and the motion between them."""

from __future__ import annotations

import numpy as np

from datasets.sequence import SequenceDataset
from intrinsics import angle_of_view, diagnose
from matching.focal import FACTORS, STANDING, is_clear, is_far, scan_focal, valley_floor
from tools._doctor.reading import Finding, Look, Pair, Sample, camera_label, from_to, share_of_width

SCANNED = 8  # pairs per camera, those with the largest shift, that are used for its focal length


def check_intrinsics(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Intrinsics are in pixels and plausible for the image's size."""
    findings = []
    plausible = {}
    for camera in range(dataset.cameras):
        label, told = camera_label(dataset, camera), set()
        for sample in samples:
            height, width = sample.looks[0][camera].size
            K = np.asarray(
                dataset.intrinsics(dataset.samples[sample.index], camera, height, width), np.float64
            )
            for level, text in diagnose(K, height, width):
                if text not in told:
                    findings.append(Finding(level, "intrinsics", label + text))
                told.add(text)
            if not told:
                plausible[camera] = (K[0, 0], angle_of_view(K[0, 0], width))
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
    """Whether another focal length explains the matches better than the given one.

    Args:
        dataset, samples: the data that is examined.
        wide: further pairs of frames, farther apart.
        guessed: the given focal length is the doctor's guess, so a better one is suggested.
    """
    pairs = [pair for sample in samples for pair in sample.pairs if pair.frame != "s"]
    if not pairs:
        return []
    findings = []
    for camera in range(dataset.cameras):
        scans = _scans(pairs + wide, camera)
        if is_clear(scans):
            label = camera_label(dataset, camera)
            findings.append(_focal_finding(scans, samples[0].looks[0][camera], label, guessed))
    if not findings:
        text = (
            "the motion does not determine the focal length, as when a camera moves without turning; "
            "a calibration has to confirm it"
        )
        findings.append(Finding("note", "focal length", text))
    return findings


def _scans(pairs: list[Pair], camera: int) -> list[np.ndarray]:
    """Costs of all FACTORS, for those pairs of a camera that have the largest shifts."""
    pairs = [pair for pair in pairs if pair.camera == camera]
    pairs = [pair for pair in pairs if share_of_width(pair, pair.motion.shift) > STANDING]
    pairs = sorted(pairs, key=lambda pair: -pair.motion.shift)[:SCANNED]
    scans = [scan_focal(pair.motion.target, pair.motion.source, pair.target.K) for pair in pairs]
    return [scan for scan in scans if scan is not None]


def _focal_finding(scans: list[np.ndarray], look: Look, label: str, guessed: bool) -> Finding:
    """Finding that compares the focal length of least cost with the given one."""
    costs = np.sum(scans, 0)
    factor = valley_floor(costs)
    agree = np.mean([scan[costs.argmin()] < scan[len(FACTORS) // 2] for scan in scans])
    (height, width), given = look.size, look.K[0, 0] * look.size[1] / look.image.shape[1]
    better = given * factor
    curve = ("fx in pixels", list(zip(given * FACTORS, costs / len(scans))), given)
    if guessed:
        line = f"{better:.0f} {better:.0f} {(width - 1) / 2:g} {(height - 1) / 2:g}"
        text = f"the motion suggests fx of about {better:.0f} px; to begin with, write '{line}'"
        return Finding("note", "focal length", text, curve=curve)
    if is_far(factor):
        text = (
            f"{label}fx {better:.0f} px explains the motion better than the given {given:.0f} "
            f"({agree:.0%} of {len(scans)} pairs agree); calibrate, or try this value"
        )
        level = "problem" if abs(np.log(factor)) > 0.3 else "warning"
        return Finding(level, "focal length", text, curve=curve)
    text = f"{label}the motion agrees with fx {given:.0f} px (best: {better:.0f}, {len(scans)} pairs)"
    return Finding("good", "focal length", text, curve=curve)
