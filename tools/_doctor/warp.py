"""Warping: a source that is warped by motion and depth from matches should look like the target."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from datasets.sequence import SequenceDataset
from images import colourise
from layers import rigid, warp
from matching.focal import STANDING
from matching.motion import FEWEST, Motion, standing_along
from tools._doctor.ground_truth import metres_a_step
from tools._doctor.reading import (
    Figure,
    Finding,
    Pair,
    Sample,
    camera_label,
    moving_pairs,
    share_of_width,
)


def check_warp(dataset: SequenceDataset, samples: list[Sample], images: int) -> list[Finding]:
    """Compare targets with sources that are warped by motion and depth from matches."""
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
        step = max(1, len(results) // max(1, images))
        for pair, low, high, panels in results[::step][:images]:
            caption = f"{label}{pair.sample.name}, frame {pair.frame}: difference {low:.1f} → {high:.1f}"
            shown.append(Figure(caption, panels))
        met = (
            f"{label}warping changes the difference from {before:.1f} to {after:.1f} (of 255); "
            f"{explained:.0%} of matches lie on their epipolar lines (median {distance:.2f} px)"
        )
        if after > 0.97 * before or explained < 0.4:
            text = (
                f"{met}: the frames do not fit each other. Are intrinsics wrong, is the lens distorted, are "
                "frames out of order or too far apart?"
            )
            findings.append(Finding("warning", "warp", text, shown))
        else:
            findings.append(Finding("good", "warp", met, shown))
    return findings


def rebuild(pair: Pair) -> tuple[float, float, list[tuple[str, np.ndarray]]] | None:
    """Warp the source of a pair into its target.

    Returns:
        Mean absolute difference (0 to 255) before and after, and images for the page; None if the motion is
        not known.
    """
    motion, target, source = pair.motion, pair.target.image, pair.source.image
    if motion.T_source_from_target is None:
        return None
    height, width = target.shape[:2]
    depth, T, known = fill_depth(motion, height, width), motion.T_source_from_target.copy(), True
    ground_truth = None if pair.sample.depth is None else pair.sample.depth[pair.camera]
    if ground_truth is not None and (ground_truth > 0).mean() > 0.3:
        step = metres_a_step(pair, ground_truth)
        if step is not None:
            depth = cv2.resize(ground_truth, (width, height), interpolation=cv2.INTER_NEAREST)
            known = depth > 0
            depth = np.where(known, depth, 1e4 * step)
            T[:3, 3] *= step
    if depth is None:
        return None
    warped, inside = warp_image(source, depth, pair.target.K, T)
    inside &= known
    if inside.mean() < 0.1:
        return None
    before, after = (np.abs(p.astype(np.int16) - target).mean(2) for p in (source, warped))
    cover = np.where(inside[..., None], warped, 40).astype(np.uint8)
    near = colourise(np.where(depth > 0, 1 / depth, 0).astype(np.float32), low=0.0)
    panels = [
        ("target", target),
        (f"source: frame {pair.frame}", source),
        ("source, warped into the target", cover),
        ("inverse depth of the warp", near),
        ("difference before", colourise(before, 0, 80)),
        ("difference after", colourise(np.where(inside, after, 0), 0, 80)),
    ]
    return float(before[inside].mean()), float(after[inside].mean()), panels


def fill_depth(motion: Motion, height: int, width: int, neighbours: int = 6) -> np.ndarray | None:
    """(height, width) depth, interpolated between the triangulated matches, nearest ones weighted most.

    None if too few matches have a depth.
    """
    good = motion.explained & (motion.sensitivity > 0) & ~standing_along(motion)
    if good.sum() < FEWEST // 2:
        return None
    points, inverse = motion.target[good], motion.inverse_depth[good]
    trust = motion.sensitivity[good] ** 2
    limit = 2 * np.percentile(inverse, 90)
    inverse = np.clip(inverse, 0, max(limit, 1e-9))
    y, x = np.mgrid[0:height:8, 0:width:8]
    cells = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    squares = ((cells[:, None] - points[None]) ** 2).sum(2)
    nearest = np.argsort(squares, 1)[:, :neighbours]
    weights = trust[nearest] / (np.take_along_axis(squares, nearest, 1) + (0.01 * width) ** 2)
    coarse = (weights * inverse[nearest]).sum(1) / weights.sum(1)
    coarse = coarse.reshape(y.shape).astype(np.float32)
    fine = cv2.resize(coarse, (coarse.shape[1] * 8, coarse.shape[0] * 8), interpolation=cv2.INTER_LINEAR)
    return 1 / np.maximum(fine[:height, :width], 1e-4 * max(float(inverse.max()), 1e-6))


def warp_image(
    source: np.ndarray, depth: np.ndarray, K: np.ndarray, T_source_from_target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The source (H, W, 3) uint8 warped into the target, and (H, W) bool, pixels that lie in the source."""
    height, width = depth.shape
    image = torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)[None].float()
    images = torch.cat([image, torch.ones_like(image[:, :1])], 1)
    T = rigid(*(torch.from_numpy(T_source_from_target[None, :3, a]).float() for a in (slice(3), 3)))
    depth_map = torch.from_numpy(depth.astype(np.float32))[None, None]
    warped = warp(images, depth_map, torch.from_numpy(K[None]).float(), T)[0]
    u, v, z = _where(depth, K, T_source_from_target)
    inside = (z > 0) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    return warped[:3].round().clamp(0, 255).byte().permute(1, 2, 0).numpy(), inside


def _where(depth: np.ndarray, K: np.ndarray, T: np.ndarray) -> np.ndarray:
    """(3, H, W): x and y in the source of each pixel of the target, and its depth there."""
    height, width = depth.shape
    y, x = np.mgrid[0:height, 0:width]
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    points = T[:3, :3] @ (np.linalg.inv(K) @ rays * depth.ravel()) + T[:3, 3:]
    pixels = K @ points
    z = np.where(np.abs(pixels[2]) < 1e-9, 1e-9, pixels[2])
    return np.stack([pixels[0] / z, pixels[1] / z, pixels[2]]).reshape(3, height, width)
