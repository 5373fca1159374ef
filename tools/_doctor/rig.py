"""Several cameras: stereo pairs are rectified, extrinsics are rigid, ego masks leave most of an image."""

from __future__ import annotations

import cv2
import numpy as np

from datasets.sequence import SequenceDataset
from matching.motion import FEWEST
from tools._doctor.reading import Figure, Finding, Pair, Sample, camera_label, from_to, spread
from utils import InputError


def check_stereo(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """In rectified pairs, matches lie in the same row and are shifted to the side that the pose implies."""
    pairs = [pair for sample in samples for pair in sample.pairs if pair.frame == "s"]
    pairs = [pair for pair in pairs if len(pair.motion.target) >= FEWEST // 2]
    if "s" not in dataset.frame_ids:
        return []
    if not pairs:
        text = "no stereo pair has matches: do left and right show the same scene at the same time?"
        return [Finding("problem", "stereo", text)]
    pair = pairs[0]
    shown = [Figure(pair.sample.name, [("target (left half) and source", _stereo_image(pair))], 1)]
    scale = pair.target.size[1] / pair.target.image.shape[1]  # to pixels of the recording
    moves = np.concatenate([pair.motion.source - pair.motion.target for pair in pairs]) * scale
    # Sign of the right image relative to the left one, whichever is the source.
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
        pose = dataset.pose(dataset.samples[pair.sample.index], "s")
        moved = float(np.median(pair.motion.source[:, 0] - pair.motion.target[:, 0]))
        wrong += pose is not None and moved * pose[pair.camera][0, 3] < 0
    if wrong > 0.5 * len(pairs):
        text = (
            f"in {wrong} of {len(pairs)} stereo pairs the shift contradicts the sign of the pose; are "
            "left and right swapped?"
        )
        findings.append(Finding("problem", "stereo", text, shown))
    if not findings:
        sideways = float(np.median(np.abs(moves[:, 0])))
        text = f"rows of left and right agree within {apart:.2f} px; median disparity {sideways:.1f} px"
        findings.append(Finding("good", "stereo", text, shown))
    return findings


def _stereo_image(pair: Pair) -> np.ndarray:
    """Target and source side by side with lines between some matches; slanted lines are wrong."""
    motion, width = pair.motion, pair.target.image.shape[1]
    canvas = np.ascontiguousarray(np.hstack([pair.target.image, pair.source.image]))
    for n in spread(len(motion.target), 24):
        a, b = motion.target[n], motion.source[n] + (width, 0)
        colour = (80, 200, 120) if abs(a[1] - b[1]) < 1.5 else (235, 80, 60)
        cv2.line(
            canvas, tuple(np.round(a).astype(int)), tuple(np.round(b).astype(int)), colour, 1, cv2.LINE_AA
        )
    return canvas


def check_rig(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Extrinsics are rigid and within metres of each other, and the views of neighbours overlap."""
    rig = dataset.rig_from_camera(dataset.samples[samples[0].index])
    if rig is None:
        text = "the dataset has no extrinsics (poses of the cameras on the vehicle)"
        return [Finding("note", "rig", text)] if dataset.cameras > 1 else []
    findings = []
    for camera, pose in enumerate(np.asarray(rig, np.float64)):
        label = camera_label(dataset, camera)
        R = pose[:3, :3]
        off = np.abs(R @ R.T - np.eye(3)).max()
        if off > 1e-2 or np.linalg.det(R) < 0:
            sizes = f"R R^T - I is up to {off:.2g}, det R {np.linalg.det(R):.2g}"
            text = f"{label}the rotation of the extrinsics is invalid: {sizes}"
            findings.append(Finding("problem", "rig", text))
        elif np.linalg.norm(pose[:3, 3]) > 20:
            x, y, z = pose[:3, 3]
            text = f"{label}stands at ({x:.4g}, {y:.4g}, {z:.4g}) on the vehicle: are these metres?"
            findings.append(Finding("problem", "rig", text))
    if dataset.cameras == 1 or findings:
        return findings
    return _overlaps(dataset, np.asarray(rig, np.float64), samples[0])


def _overlaps(dataset: SequenceDataset, rig: np.ndarray, sample: Sample) -> list[Finding]:
    """Overlap of neighbours in degrees, from the azimuths of the left and right borders of each image."""
    edges = []
    for camera, pose in enumerate(rig):
        look = sample.looks[0][camera]
        height, width = look.image.shape[:2]
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
        text = f"by their extrinsics {listed} do not overlap; are extrinsics or the order of cameras wrong?"
        return [Finding("problem", "rig", text)]
    if not shared:
        return [Finding("note", "rig", "no cameras overlap; spatial loss terms will have no effect")]
    degrees = [value for *_, value in shared]
    wide = from_to(sorted({round(value) for value in degrees}))
    text = f"{len(shared)} pairs of neighbours overlap by {wide} degrees"
    return [Finding("good", "rig", text)]


def check_masks(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Check that the ego mask leaves most of the image visible."""
    try:
        ego_mask = dataset.maps(dataset.samples[samples[0].index]).get("ego_mask")
    except (InputError, OSError) as error:
        return [Finding("problem", "masks", str(error))]
    if ego_mask is None:
        return []
    visible = ~ego_mask
    findings = []
    for camera, share in enumerate(visible.float().mean((1, 2, 3)).tolist()):
        if share < 0.4:
            text = f"{camera_label(dataset, camera)}the mask leaves {share:.0%} of the image; is it inverted?"
            findings.append(Finding("problem" if share < 0.1 else "warning", "masks", text))
    if not findings:
        text = f"masks leave {visible.float().mean():.0%} of the pixels on average"
        findings.append(Finding("good", "masks", text))
    return findings
