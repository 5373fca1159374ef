"""Matches between neighbouring cameras, triangulated and written; the work of tools/sift_matches.py.

The docstring of the tool says what a match file holds.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets import DATASETS
from datasets._derived import matches_origin
from datasets.image_files import read_image
from datasets.surround import RING, SurroundDataset, read_mask
from files import writing
from matching.two_views import (
    Features,
    depth_along_rays,
    fundamental,
    homogeneous,
    line_distances,
    match,
    sift_features,
)
from progress import Bar
from provenance import difference, origin
from tools._options import open_dataset
from utils import InputError
from workers import run_tasks

VERSION = 1  # of the algorithm; a change makes all files again
RATIO = 0.75  # the nearest descriptor must be nearer than this times the second nearest (Lowe 2004)
CONTRAST, EDGE = 0.01, 8  # published thresholds of SIFT


def open_rig(given: argparse.Namespace, part: str, out: Path) -> SurroundDataset:
    """The dataset of a rig, one image per camera.

    Raises:
        InputError: the dataset has one camera or no two neighbours, or refuses a setting.
    """
    if not issubclass(DATASETS.get(given.dataset), SurroundDataset):
        raise InputError(
            f"{given.dataset} has one camera; matches need a rig: --dataset ddad or --dataset nuscenes"
        )
    dataset = open_dataset(given, part=part)
    if not neighbours(dataset.camera_names):
        raise InputError(f"no two of the cameras {', '.join(dataset.camera_names)} are neighbours")
    dataset.matches = out
    return dataset


def neighbours(names: Sequence[str]) -> list[tuple[int, int]]:
    """(camera, its left neighbour) for all neighbours among `names`, as indices of `names`."""
    places = {RING.index(name): place for place, name in enumerate(names)}
    pairs = [(k, (k + 1) % len(RING)) for k in sorted(places)]
    return [(places[k], places[left]) for k, left in pairs if left in places]


# ---------------------------------------------------------------------------------------------- one sample


def sample_matches(dataset: SurroundDataset, index: int, published_grey: bool = False) -> list[np.ndarray]:
    """Matches of every camera of a sample, (K, 6) float32 each; the module docstring lists the columns."""
    line = dataset.samples[index]
    rig = dataset.rig_from_camera(line)
    pairs = neighbours(dataset.camera_names)
    features = border_features(dataset, line, pairs, published_grey)
    sizes = [dataset.image_size(line, camera) for camera in range(dataset.cameras)]
    K = [dataset.intrinsics(line, camera, *size) for camera, size in enumerate(sizes)]
    rows: list[list[np.ndarray]] = [[] for _ in features]
    for camera, left in pairs:
        a, b = features[camera], features[left]
        a = a.at(a.points[:, 0] < dataset.overlap * sizes[camera][1])
        b = b.at(b.points[:, 0] > (1 - dataset.overlap) * sizes[left][1])
        chosen_a, chosen_b = match(a, b, RATIO)
        T = np.linalg.inv(rig[left]) @ rig[camera]
        both = labels(a.points[chosen_a], b.points[chosen_b], K[camera], K[left], T)
        for image, own_rows in zip((camera, left), both, strict=True):
            rows[image].append(own_rows)
    empty = np.zeros((0, 6), np.float32)
    return [np.concatenate([*parts, empty]).astype(np.float32) for parts in rows]


def border_features(
    dataset: SurroundDataset, line: Any, pairs: Sequence[tuple[int, int]], published_grey: bool
) -> list[Features]:
    """Features of each camera in the borders that a neighbour sees, in pixels of the recorded image."""
    borders: dict[int, set[str]] = {camera: set() for camera in range(dataset.cameras)}
    for camera, left in pairs:
        borders[camera].add("left")
        borders[left].add("right")
    features = []
    for camera, path in enumerate(dataset.paths(line, 0)):
        grey = read_grey(path, published_grey)
        ego_mask = read_ego_mask(dataset.mask_path(line, camera), grey.shape) if dataset.masks else None
        region = border_region(grey.shape, borders[camera], dataset.overlap, ego_mask)
        found = sift_features(grey, CONTRAST, EDGE, region=region)
        # Images on disk may be smaller than recorded; matches refer to the recorded size.
        factors = np.divide(dataset.image_size(line, camera), grey.shape)[::-1]
        features.append(Features((found.points + 0.5) * factors - 0.5, found.descriptors))
    return features


def read_grey(path: Path, published: bool = False) -> np.ndarray:
    """An image as (h, w) uint8 grey.

    Args:
        published: exchange the weights of red and blue, as SurroundDepth's tool does.

    Raises:
        InputError: missing, truncated or not an image.
    """
    image = read_image(path).permute(1, 2, 0).numpy()
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if published else cv2.COLOR_RGB2GRAY)


def read_ego_mask(mask: Path, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, True where a camera sees its own vehicle; resized to `size` if the mask has another."""
    return cv2.resize(read_mask(mask)[0].numpy(), size[::-1], interpolation=cv2.INTER_LINEAR) != 0


def border_region(
    size: tuple[int, int], borders: set[str], overlap: float, ego_mask: np.ndarray | None = None
) -> np.ndarray:
    """(h, w) uint8, 255 in the image borders that a neighbour sees, without the ego mask.

    Args:
        size: h, w.
        borders: "left", "right" or both.
        overlap: width of a border as a share of the image width.
        ego_mask: (h, w) bool, pixels to leave out.
    """
    width = size[1]
    region = np.zeros(size, np.uint8)
    reach = int(np.ceil(overlap * width))
    if "left" in borders:
        region[:, :reach] = 255
    if "right" in borders:
        region[:, width - reach :] = 255
    if ego_mask is not None:
        region[ego_mask] = 0
    return region


def labels(
    a: np.ndarray, b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray, T_b_from_a: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K, 6) for image a and for image b of K matches.

    Args:
        a, b: (K, 2) pixels of the matches.
        K_a, K_b: (3, 3) pixels.
        T_b_from_a: (4, 4) metres.
    """
    ray_a, ray_b = homogeneous(a) @ np.linalg.inv(K_a).T, homogeneous(b) @ np.linalg.inv(K_b).T
    distances = line_distances(a, b, fundamental(K_a, K_b, T_b_from_a[:3, :3], T_b_from_a[:3, 3]))
    T_a_from_b = np.linalg.inv(T_b_from_a)
    rows = []
    for points, own, other, T in ((a, ray_a, ray_b, T_a_from_b), (b, ray_b, ray_a, T_b_from_a)):
        depth, angle = depth_along_rays(own, other @ T[:3, :3].T, T[:3, 3])
        rows.append(np.column_stack([points, depth, angle, *distances]))
    return rows[0], rows[1]


# --------------------------------------------------------------------------------------------- all samples


def write_matches(
    dataset: SurroundDataset, indices: Sequence[int], workers: int = 1, published_grey: bool = False
) -> int:
    """Write the matches of the samples whose files are missing or out of date; returns the number written.

    Raises:
        InputError: an image or a mask cannot be read, or a worker was killed.
    """
    waiting = [n for n in indices if outdated(dataset, n, published_grey)]
    with Bar(total=len(indices), initial=len(indices) - len(waiting), desc="matches", unit="sample") as bar:
        write = functools.partial(write_sample, dataset, published_grey=published_grey)
        for _ in run_tasks(write, waiting, workers):
            bar.update()
    return len(waiting)


def match_paths(dataset: SurroundDataset, index: int) -> list[Path]:
    """The match files of a sample, one per camera."""
    return [dataset.match_path(dataset.samples[index], camera) for camera in range(dataset.cameras)]


def outdated(dataset: SurroundDataset, index: int, published_grey: bool = False) -> str | None:
    """Why a sample's files must be made (again), in words; None if they are up to date.

    A file without an origin, from an earlier version or another tool, counts as up to date.
    """
    settings = settings_of(dataset, index, published_grey)
    for path in match_paths(dataset, index):
        if not path.is_file():
            return f"{path} is missing"
        made = matches_origin(path)
        if made is not None and (reason := difference(made, dataset.data_path, **settings)):
            return reason
    return None


def settings_of(dataset: SurroundDataset, index: int, published_grey: bool) -> dict[str, Any]:
    """Values that the matches of a sample depend on, in addition to its images and masks."""
    line = dataset.samples[index]
    sizes = [dataset.image_size(line, camera) for camera in range(dataset.cameras)]
    K = [dataset.intrinsics(line, camera, *size) for camera, size in enumerate(sizes)]
    return {
        "tool": "sift_matches",
        "version": VERSION,
        "published_grey": published_grey,
        "masks": bool(dataset.masks),
        "cameras": list(dataset.camera_names),
        "overlap": dataset.overlap,
        "intrinsics": np.round(K, 6),
        "extrinsics": np.round(dataset.rig_from_camera(line), 9),
    }


def write_sample(dataset: SurroundDataset, index: int, published_grey: bool = False) -> None:
    """Match one sample and write its files; a worker's task."""
    line = dataset.samples[index]
    sources = list(dataset.paths(line, 0))
    if dataset.masks:
        sources += [dataset.mask_path(line, camera) for camera in range(dataset.cameras)]
    made = origin(sources, dataset.data_path, **settings_of(dataset, index, published_grey))
    found = sample_matches(dataset, index, published_grey)
    for path, rows in zip(match_paths(dataset, index), found, strict=True):
        with writing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, rows, allow_pickle=False)
            np.save(file, np.array(json.dumps(made)), allow_pickle=False)  # np.load reads the first array
