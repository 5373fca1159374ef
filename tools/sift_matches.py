"""Where neighbouring cameras of a rig see the same, and how far that is: pseudo labels of depth in metres.

    python tools/sift_matches.py --dataset ddad --data_path data/ddad --set masks=true --workers 8
    torchrun --nproc_per_node 4 tools/sift_matches.py --dataset nuscenes --data_path data/nuscenes

Each camera is matched with the neighbour to its left (SurroundDepth, Wei et al., CoRL 2022): SIFT features
at the edges that overlap, nearest descriptors that pass the ratio test, and the depth at which the two rays
come closest, which the rig's extrinsics give in metres:

    p0, p1 rays, o the other camera's place,  n = p0 x p1,   depth = ((o x p1) . n) / |n|^2  along p0

Every match is kept, with the angle between its rays and its distances to the epipolar lines, and training
chooses by these (losses/sfm_matches.py). One file an image, `<out>/.../<image>.npy`, (K, 6) float32: x and
y in pixels of the recording, depth in metres, angle in degrees, both distances in pixels. What is there
already is not made again. In the end the depths are held against the LiDAR.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS
from datasets.image_files import read_image
from datasets.surround import RING, SurroundDataset, read_mask, read_matches
from tools._options import add_dataset, add_workers, new_parser, open_dataset, place
from utils import InputError, atomic_path, run_main
from workers import run_tasks, writing

RATIO = 0.75  # the nearest descriptor must be this much nearer than the second (Lowe 2004)
BLOCK = 512  # descriptors compared at a time, which bounds the memory they take
MAX_DEPTH, MIN_ANGLE, MAX_DISTANCE = 200.0, 0.01, 1.0  # what the report counts: metres, degrees, pixels
LIDAR_RADIUS = 3  # pixels round a match in which a LiDAR point is looked for


class Features(NamedTuple):
    """K features of an image: places (K, 2) x and y in pixels, descriptors (K, 128) of whole numbers."""

    places: np.ndarray
    descriptors: np.ndarray

    def at(self, chosen: np.ndarray) -> Features:
        """Those where `chosen` (K,) is true."""
        return Features(self.places[chosen], self.descriptors[chosen])


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    out = given.out or given.data_path / "matches"
    for part in given.part:
        dataset = open_rig(given, part, out)
        which, shards = given.shard
        indices = range(which - 1, len(dataset), shards)
        with writing(out):
            written = write_matches(dataset, indices, given.workers, given.published_grey)
        print(f"{part}: wrote the matches of {written} samples to {out}; {len(indices) - written} were there")
        if given.report and which == 1:
            text = report(dataset, indices, given.report, out / f"report_{part}.json")
            print(text)


def open_rig(given: argparse.Namespace, part: str, out: Path) -> SurroundDataset:
    """The rig's dataset, one image a camera.

    Raises:
        InputError: it has one camera or no two neighbours, or refuses a setting.
    """
    if not issubclass(DATASETS.get(given.dataset), SurroundDataset):
        raise InputError(f"{given.dataset} has one camera; matches are those of a rig, ddad or nuscenes")
    dataset = open_dataset(given, part=part)
    if not neighbours(dataset.camera_names):
        raise InputError(f"among {', '.join(dataset.camera_names)} there are no neighbours to match")
    dataset.matches = out
    return dataset


def neighbours(names: Sequence[str]) -> list[tuple[int, int]]:
    """(camera, the one to its left) wherever both are there, as places in `names`."""
    places = {RING.index(name): place for place, name in enumerate(names)}
    pairs = [(k, (k + 1) % len(RING)) for k in sorted(places)]
    return [(places[k], places[left]) for k, left in pairs if left in places]


# ------------------------------------------------------------------------------------------------ one sample


def sample_matches(dataset: SurroundDataset, index: int, published_grey: bool = False) -> list[np.ndarray]:
    """The matches of every camera of a sample, each (K, 6) float32; this file's head tells the columns."""
    line = dataset.samples[index]
    paths = dataset.paths(line, 0)
    rig = dataset.rig_from_camera(line)
    pairs = neighbours(dataset.camera_names)
    edges = {camera: set() for camera in range(dataset.cameras)}
    for camera, left in pairs:
        edges[camera].add("left")
        edges[left].add("right")
    features, K, reaches = [], [], []
    for camera, path in enumerate(paths):
        grey = read_grey(path, published_grey)
        own = own_vehicle(dataset.mask_path(line, camera), grey.shape) if dataset.masks else None
        found = describe(grey, edge_region(grey.shape, edges[camera], dataset.overlap, own))
        # Images on disk may have been made smaller; matches are places in the recording all the same.
        recorded = dataset.image_size(line, camera)
        factors = np.divide(recorded, grey.shape)[::-1]
        features.append(found._replace(places=(found.places + 0.5) * factors - 0.5))
        K.append(dataset.intrinsics(line, camera, *recorded))
        reaches.append((dataset.overlap * recorded[1], (1 - dataset.overlap) * recorded[1]))
    rows: list[list[np.ndarray]] = [[] for _ in paths]
    for camera, left in pairs:
        source = features[camera].at(features[camera].places[:, 0] < reaches[camera][0])
        target = features[left].at(features[left].places[:, 0] > reaches[left][1])
        a, b = match(source, target)
        T = np.linalg.inv(rig[left]) @ rig[camera]
        for found, own_rows in zip(
            (camera, left), labels(source.places[a], target.places[b], K[camera], K[left], T), strict=True
        ):
            rows[found].append(own_rows)
    empty = np.zeros((0, 6), np.float32)
    return [np.concatenate([*parts, empty]).astype(np.float32) for parts in rows]


def read_grey(path: Path, published: bool = False) -> np.ndarray:
    """(h, w) uint8. `published` weighs red as blue and blue as red, as SurroundDepth's tool does.

    Raises:
        InputError: missing, truncated or no image.
    """
    image = read_image(path).permute(1, 2, 0).numpy()
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if published else cv2.COLOR_RGB2GRAY)


def own_vehicle(mask: Path, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, where a camera sees its own vehicle; a mask of another size is brought to this one."""
    return cv2.resize(read_mask(mask)[0].numpy(), size[::-1], interpolation=cv2.INTER_LINEAR) != 0


def edge_region(
    size: tuple[int, int], edges: set[str], overlap: float, own: np.ndarray | None = None
) -> np.ndarray:
    """(h, w) uint8, 255 where features may be described: the edges that a neighbour sees, without `own`."""
    width = size[1]
    region = np.zeros(size, np.uint8)
    reach = int(np.ceil(overlap * width))
    if "left" in edges:
        region[:, :reach] = 255
    if "right" in edges:
        region[:, width - reach :] = 255
    if own is not None:
        region[own] = 0
    return region


def describe(grey: np.ndarray, region: np.ndarray) -> Features:
    """SIFT features in a region, with the published thresholds (edge 8, contrast 0.01)."""
    detector = cv2.SIFT_create(edgeThreshold=8, contrastThreshold=0.01)
    # OpenCV asks the nearest pixel, the published rule the one a place lies in: a pixel more, then that rule.
    keypoints, descriptors = detector.detectAndCompute(grey, cv2.dilate(region, np.ones((3, 3), np.uint8)))
    places = cv2.KeyPoint_convert(keypoints) if keypoints else np.zeros((0, 2), np.float32)
    inside = region[places[:, 1].astype(int), places[:, 0].astype(int)] > 0
    descriptors = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
    return Features(places.astype(np.float64), descriptors).at(inside)


def match(source: Features, target: Features, ratio: float = RATIO) -> tuple[np.ndarray, np.ndarray]:
    """Places in `source` and in `target` of the matches, each (K,).

    A descriptor is matched with the nearest one where that is `ratio` nearer than the second. SIFT describes
    a place once for each orientation it finds there: of such consecutive matches the nearest counts.
    """
    if len(source.places) == 0 or len(target.places) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    nearest, first, second = nearest_two(source.descriptors, target.descriptors)
    kept: list[int] = []
    last = None
    for query in np.flatnonzero(first < ratio * second):
        if last is None or (source.places[query] != source.places[last]).any():
            kept.append(query)
        elif first[last] > first[query]:
            kept[-1] = query
        last = query
    chosen = np.array(kept, int)
    return chosen, nearest[chosen]


def nearest_two(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of `a` the place of its nearest row of `b`, and the distances of the nearest two.

    Descriptors are whole numbers up to 255, so |a - b|^2 = |a|^2 + |b|^2 - 2 a.b is exact in float32: the
    same matches as by comparing one by one, several times faster.
    """
    # One more column carries -|b|^2 / 2, so that the largest product a.b - |b|^2 / 2 is the nearest.
    left, right = (
        np.ones((len(a), a.shape[1] + 1), np.float32),
        np.empty((a.shape[1] + 1, len(b)), np.float32),
    )
    left[:, :-1], right[:-1], right[-1] = a, b.T, (b * b).sum(1) / -2
    nearest, products = np.empty(len(a), int), np.empty((len(a), 2), np.float32)
    buffer = np.empty((BLOCK, len(b)), np.float32)
    for start in range(0, len(a), BLOCK):
        rows = left[start : start + BLOCK]
        closeness, block, count = buffer[: len(rows)], slice(start, start + len(rows)), np.arange(len(rows))
        np.matmul(rows, right, out=closeness)
        nearest[block] = closeness.argmax(1)
        products[block, 0] = closeness[count, nearest[block]]
        closeness[count, nearest[block]] = -np.inf
        products[block, 1] = closeness.max(1)
    squared = (a * a).sum(1)[:, None] - 2 * products
    first, second = np.sqrt(squared).T
    return nearest, first, second


def labels(
    source: np.ndarray, target: np.ndarray, K_source: np.ndarray, K_target: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K, 6) for the source image and for the target image of K matched places.

    Args:
        source, target: (K, 2) pixels.
        K_source, K_target: (3, 3) pixels.
        T: (4, 4) T_target_from_source, metres.
    """
    ray_source = homogeneous(source) @ np.linalg.inv(K_source).T
    ray_target = homogeneous(target) @ np.linalg.inv(K_target).T
    distances = epipolar_distances(source, target, K_source, K_target, T)
    back = np.linalg.inv(T)
    rows = []
    for places, own, other, pose in (
        (source, ray_source, ray_target, back),
        (target, ray_target, ray_source, T),
    ):
        depth, angle = triangulate(own, other @ pose[:3, :3].T, pose[:3, 3])
        rows.append(np.column_stack([places, depth, angle, *distances]))
    return rows[0], rows[1]


def homogeneous(places: np.ndarray) -> np.ndarray:
    """(K, 2) pixels to (K, 3) with 1 behind."""
    return np.column_stack([places, np.ones(len(places))])


def triangulate(
    ray: np.ndarray, other_ray: np.ndarray, other_origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where two rays come closest, as depth along the first, and the angle between them.

    Args:
        ray: (K, 3) from the camera, z = 1.
        other_ray: (K, 3), any length, in the same frame.
        other_origin: (3,) metres, where the other rays start.

    Returns:
        (K,) metres, negative behind the camera and not finite for parallel rays, and (K,) degrees.
    """
    normal = np.cross(ray, other_ray)
    squared = (normal**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (np.cross(other_origin, other_ray) * normal).sum(1) / squared
    angle = np.arctan2(np.sqrt(squared), (ray * other_ray).sum(1))
    return depth, np.degrees(angle)


def epipolar_distances(
    source: np.ndarray, target: np.ndarray, K_source: np.ndarray, K_target: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) pixels in the source and (K,) in the target, of each place to the epipolar line of its match."""
    t = T[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    F = np.linalg.inv(K_target).T @ cross @ T[:3, :3] @ np.linalg.inv(K_source)
    a, b = homogeneous(source), homogeneous(target)
    error = np.abs((b @ F * a).sum(1))
    in_source, in_target = b @ F, a @ F.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return error / np.hypot(*in_source[:, :2].T), error / np.hypot(*in_target[:, :2].T)


# ----------------------------------------------------------------------------------------------- all samples


def write_matches(
    dataset: SurroundDataset, indices: Sequence[int], workers: int = 1, published_grey: bool = False
) -> int:
    """Write the matches of the samples that lack them; returns how many that were.

    Raises:
        InputError: an image or a mask cannot be read, a worker was killed.
    """
    waiting = [n for n in indices if not all(path.is_file() for path in match_paths(dataset, n))]
    with tqdm(total=len(indices), initial=len(indices) - len(waiting), desc="matches", unit="sample") as bar:
        write = functools.partial(write_sample, dataset, published_grey=published_grey)
        for _ in run_tasks(write, waiting, workers):
            bar.update()
    return len(waiting)


def match_paths(dataset: SurroundDataset, index: int) -> list[Path]:
    """The files of a sample, one a camera."""
    return [dataset.match_path(dataset.samples[index], camera) for camera in range(dataset.cameras)]


def write_sample(dataset: SurroundDataset, index: int, published_grey: bool = False) -> None:
    """Match one sample; its files appear when they are complete."""
    found = sample_matches(dataset, index, published_grey)
    for path, rows in zip(match_paths(dataset, index), found, strict=True):
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, rows, allow_pickle=False)


# ------------------------------------------------------------------------------------------- against LiDAR


def report(dataset: SurroundDataset, indices: Sequence[int], samples: int, path: Path) -> str:
    """How many matches there are and how far their depths are from the LiDAR's, as text and as JSON.

    Args:
        dataset: its `depth_from_raw` is the ground truth.
        indices: of samples with matches.
        samples: how many of them to look at, spread evenly.
        path: of the JSON file.
    """
    chosen = [indices[n] for n in np.linspace(0, len(indices) - 1, min(samples, len(indices))).astype(int)]
    names = dataset.camera_names
    counts = {name: [0, 0] for name in names}  # matches, and those that training would take
    errors: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in tqdm(chosen, "LiDAR", unit="sample", leave=False):
        ground_truth = dataset.depth_from_raw(index)
        for camera, match_file in enumerate(match_paths(dataset, index)):
            rows = read_matches(match_file)
            good = rows[usable(rows)]
            counts[names[camera]][0] += len(rows)
            counts[names[camera]][1] += len(good)
            if ground_truth is not None:
                known = nearest_depth(ground_truth[camera], good[:, 0], good[:, 1])
                errors[names[camera]].append(np.abs(good[:, 2] - known)[known > 0] / known[known > 0])
    table = {}
    for name in names:
        found = np.concatenate([*errors[name], np.zeros(0)])
        table[name] = {
            "matches": counts[name][0] / len(chosen),
            "usable": counts[name][1] / len(chosen),
            "beside_lidar": len(found) / len(chosen),
            "median_relative_error": float(np.median(found)) if len(found) else None,
        }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"samples": len(chosen), "cameras": table}, indent=2) + "\n")
    lines = [
        f"means over {len(chosen)} samples; usable: nearer than {MAX_DISTANCE:g} px to both epipolar lines, "
        f"depth within {MAX_DEPTH:g} m",
        f"{'':<12} {'matches':>8} {'usable':>8} {'beside LiDAR':>13} {'median error':>13}",
    ]
    for name, row in table.items():
        error = row["median_relative_error"]
        shown = "-" if error is None else f"{100 * error:.1f} %"
        lines.append(
            f"{name:<12} {row['matches']:8.0f} {row['usable']:8.0f} {row['beside_lidar']:13.0f} {shown:>13}"
        )
    return "\n".join(lines)


def usable(rows: np.ndarray, distance: float = MAX_DISTANCE) -> np.ndarray:
    """(K,) bool: the rows that training takes with the default thresholds."""
    depth, angle, in_source, in_target = rows[:, 2:].T
    good = (depth > 0) & (depth < MAX_DEPTH) & (angle > MIN_ANGLE)
    return good & (in_source < distance) & (in_target < distance)


def nearest_depth(depth: np.ndarray, x: np.ndarray, y: np.ndarray, radius: int = LIDAR_RADIUS) -> np.ndarray:
    """(K,) metres of the known pixel nearest to each place, 0 where none is within `radius` pixels."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    order = np.argsort(dy**2 + dx**2, kind="stable")
    dy, dx = dy[order], dx[order]
    padded = np.pad(depth, radius)
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    around = padded[rows[:, None] + dy + radius, columns[:, None] + dx + radius]
    return around[np.arange(len(x)), (around > 0).argmax(1)]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_dataset(parser, "ddad", "a rig of cameras: ddad or nuscenes", ["train"])
    add = parser.add_argument
    add("--out", type=place, metavar="FOLDER", help="where the matches go (default: <data_path>/matches)")
    add_workers(parser)
    add(
        "--report",
        type=int,
        default=20,
        metavar="N",
        help="samples held against LiDAR (default: 20; 0: none)",
    )
    add("--published_grey", action="store_true", help="grey with red and blue exchanged, as published")
    given = parser.parse_args(arguments)
    for name in ("workers", "report"):
        if getattr(given, name) < (name == "workers"):
            raise InputError(f"--{name} cannot be {getattr(given, name)}")
    return given


if __name__ == "__main__":
    run_main(main)
