"""Samples as the checks of the doctor use them, and findings in words."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from datasets.resizing import resize_intrinsics
from datasets.sequence import SequenceDataset
from matching.motion import Motion, find_features, find_motion, match_pixels
from matching.two_views import Features
from structures import Frame
from tools._page import Figure
from utils import InputError

LEVELS = ("problem", "warning", "note", "good")
WIDEST = 960  # pixels; wider images are reduced to this width for matching


@dataclass
class Finding:
    """The result of one check.

    Attributes:
        level: `problem` (fix it first), `warning` (training runs, with worse results), `note` or `good`.
        topic: subject of the check, one or two words.
        text: a sentence for the person who fixes it.
        figures: images for the page.
        names: a list for the page, such as broken files.
        curve: a plot for the page: label of x, (x, y) points, given x.
    """

    level: str
    topic: str
    text: str
    figures: list[Figure] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    curve: tuple[str, list[tuple[float, float]], float] | None = None


@dataclass
class Look:
    """An image of one camera, reduced to `WIDEST`, with what is needed to compare it.

    Attributes:
        image: (H, W, 3) uint8.
        K: (3, 3) pixels at H x W.
        size: (height, width) as the dataset gives it.
        features: its corners.
    """

    image: np.ndarray
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
    """One sample that was read: frame → a look of each camera, and the ground truth where there is any."""

    index: int
    name: str
    looks: dict[Frame, list[Look]]
    depth: np.ndarray | None = None
    pairs: list[Pair] = field(default_factory=list)


def read_samples(
    dataset: SequenceDataset, indices: Sequence[int], workers: int
) -> tuple[list[Sample], list[Finding]]:
    """The samples that can be read, with their motions; what cannot be read is left to `check_files`."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        read = list(pool.map(lambda index: _read_sample(dataset, index), indices))
    findings = [item for item in read if isinstance(item, Finding)]
    return [item for item in read if isinstance(item, Sample)], findings[:1]


def _read_sample(dataset: SequenceDataset, index: int) -> Sample | Finding:
    line, name = dataset.samples[index], dataset.name(index)
    try:
        looks = {frame: read_looks(dataset, line, frame) for frame in dataset.frame_ids}
    except (InputError, OSError) as error:
        return Finding("problem", "samples", f"{name} cannot be read: {error}")
    sample = Sample(index, name, looks)
    for frame in dataset.frame_ids[1:]:
        for camera in range(dataset.cameras):
            target, source = looks[0][camera], looks[frame][camera]
            if target.size == source.size:
                found = match_pixels(target.features, source.features)
                sample.pairs.append(Pair(sample, camera, frame, find_motion(*found, target.K)))
    return sample


def read_looks(dataset: SequenceDataset, line: Any, frame: Frame) -> list[Look]:
    """One frame of every camera, with features; wide images are reduced to WIDEST."""
    looks = []
    for camera, image in enumerate(dataset.read_images(line, frame)):
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        height, width = pixels.shape[:2]
        K = np.asarray(dataset.intrinsics(line, camera, height, width), np.float64)[:3, :3]
        if width > WIDEST:
            small = WIDEST, round(height * WIDEST / width)
            pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
            K = resize_intrinsics(K, (height, width), small[::-1])
        looks.append(Look(pixels, K, (height, width), find_features(pixels)))
    return looks


def camera_label(dataset: SequenceDataset, camera: int) -> str:
    """Prefix of a finding: `front: ` for a rig, empty for one camera."""
    if dataset.cameras == 1:
        return ""
    names = list(dataset.camera_names) or [f"camera {n}" for n in range(dataset.cameras)]
    return f"{names[camera]}: "


def moving_pairs(samples: list[Sample], camera: int) -> list[Pair]:
    return [p for sample in samples for p in sample.pairs if p.frame != "s" and p.camera == camera]


def share_of_width(pair: Pair, pixels: float) -> float:
    return pixels / pair.target.image.shape[1]


def spread(count: int, most: int) -> list[int]:
    """At most `most` numbers of range(count), evenly spread, each in the middle of its part."""
    if count <= most:
        return list(range(count))
    return [int((n + 0.5) * count / most) for n in range(most)]


def from_to(values: Sequence[float]) -> str:
    """The range of sorted numbers: `3` or `3 to 7`."""
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
