"""Estimates of a model's scale factor from geometry: the ground, LiDAR points, a second camera, GPS.

    camera height   h / (distance of the camera from the plane of the ground in the predicted points)
    points          median of  z / d(x, y)          of measured points that project into the image
    stereo          median of  fx b / (disparity d) of matches with a rectified second camera at baseline b
    gps             |p(t1) - p(t0)| / |t|           t: predicted translation, chained over WINDOW seconds

Each frame, or window, gives one estimate; `_scale_estimates.fit_factor` joins them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datasets.image_files import read_image
from datasets.sequence import SequenceDataset
from matching.two_views import match_mutually, sift_features
from predictor import Predictor
from progress import Bar
from trajectories import chain
from utils import InputError, read_lines

TILT = np.cos(np.radians(30))  # of the ground's normal against the camera's y axis
NEAR_PLANE = 0.03  # share of the height within which a point lies on the ground
GROUND_SHARE = 0.35  # of the lower half of the image that must lie on one plane
DRAWS = 200  # planes that are tried
ROW = 1.0  # pixels, difference of the rows of a match of a rectified pair
FEWEST = 12  # matches or points of a frame
WINDOW = 5.0  # seconds; positions of GPS are off by metres, so that short distances mean nothing
SHORTEST = 5.0  # metres that the camera moves in a window at least
EARTH = 6378137.0  # metres
POINT_FILES = (".npy", ".txt", ".csv", ".bin")


def from_height(
    predictor: Predictor, dataset: SequenceDataset, indices: Iterable[int], height: float
) -> list[float]:
    """An estimate of each frame that shows flat ground.

    Args:
        height: height of the camera above the ground, metres.

    Raises:
        InputError: no frame shows ground.
    """
    estimates = []
    for index in Bar(indices, "frames", unit="frame"):
        inverse, K = _predicted(predictor, dataset, index)
        found = ground_distance(1 / inverse, K)
        if found is not None:
            estimates.append(height / found * (predictor.metric_scale or 1.0))
    if not estimates:
        raise InputError(
            f"no frame of {dataset.data_path} shows flat ground below the camera, which --camera_height "
            "needs; give --distance, or a recording with the ground in the lower half of the image"
        )
    return estimates


def ground_distance(depth: np.ndarray, K: np.ndarray) -> float | None:
    """Distance of the camera from the ground, in the unit of depth; None without a clear plane.

    Args:
        depth: (H, W).
        K: (3, 3) pixels.
    """
    rows, columns = np.mgrid[depth.shape[0] // 2 : depth.shape[0] : 2, 0 : depth.shape[1] : 2]
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
    points = (np.linalg.inv(K) @ pixels * depth[rows.ravel(), columns.ravel()]).T  # y down
    rng = np.random.default_rng(0)
    chosen = points[rng.integers(0, len(points), (DRAWS, 3))]
    normals = np.cross(chosen[:, 1] - chosen[:, 0], chosen[:, 2] - chosen[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 1e-12] / lengths[lengths > 1e-12, None]
    normals *= np.where(normals[:, 1:2] < 0, -1, 1)
    distances = (normals * chosen[lengths > 1e-12, 0]).sum(1)
    good = (normals[:, 1] > TILT) & (distances > 0)
    if not good.any():
        return None
    normals, distances = normals[good], distances[good]
    inside = np.abs(points @ normals.T - distances) < NEAR_PLANE * distances  # (points, planes)
    best = int(inside.mean(0).argmax())
    on_ground = points[inside[:, best]]
    if len(on_ground) < GROUND_SHARE * len(points):
        return None
    solution, *_ = np.linalg.lstsq(on_ground, np.ones(len(on_ground)), rcond=None)  # n . x / distance = 1
    return float(1 / np.linalg.norm(solution))


def from_points(
    predictor: Predictor,
    dataset: SequenceDataset,
    indices: Iterable[int],
    folder: Path,
    camera_from_lidar: np.ndarray,
) -> list[float]:
    """An estimate of each frame with a file of measured points.

    Args:
        folder: `<stem of the frame>.npy`, .txt, .csv or .bin (float32, KITTI's rows of 4); x, y, z in metres.
        camera_from_lidar: (4, 4) from the points' coordinates to the camera's (x right, y down, z forward).

    Raises:
        InputError: no frame has a file, or no point lies in an image.
    """
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in POINT_FILES}
    estimates, named = [], 0
    for index in Bar(indices, "frames", unit="frame"):
        path = files.get(Path(dataset.name(index)).stem)
        if path is None:
            continue
        named += 1
        inverse, K = _predicted(predictor, dataset, index)
        points = read_points(path) @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]
        points = points[points[:, 2] > 0.1]
        x, y = np.rint((points[:, :2] @ K[:2, :2].T) / points[:, 2:] + K[:2, 2]).astype(int).T
        inside = (x >= 0) & (x < inverse.shape[1]) & (y >= 0) & (y < inverse.shape[0])
        if inside.sum() >= FEWEST:
            ratio = np.median(points[inside, 2] * inverse[y[inside], x[inside]])
            estimates.append(float(ratio) * (predictor.metric_scale or 1.0))
    if not estimates:
        why = "lie in the image; is --camera_from_lidar right?" if named else "have the name of a frame"
        raise InputError(f"no points of {folder} {why}")
    return estimates


def read_points(path: Path) -> np.ndarray:
    """(N, 3) points of a file, metres.

    Raises:
        InputError: it does not hold rows of at least three numbers.
    """
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path)
        elif path.suffix.lower() == ".bin":
            values = np.fromfile(path, np.float32).reshape(-1, 4)
        else:
            values = np.array([line.replace(",", " ").split() for line in read_lines(path)], np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no points: rows of x y z in metres ({error})") from None
    if values.ndim != 2 or values.shape[1] < 3:
        raise InputError(f"{path} holds no points: rows of x y z in metres, got shape {values.shape}")
    points = values[:, :3].astype(np.float64)
    return points[np.isfinite(points).all(1)]


def from_stereo(
    predictor: Predictor, dataset: SequenceDataset, indices: Iterable[int], folder: Path, baseline: float
) -> list[float]:
    """An estimate of each frame with an image of the second camera.

    Args:
        folder: images of the second camera, rectified, with the names of the frames.
        baseline: distance of the two cameras, metres.

    Raises:
        InputError: no frame has a second image that matches it in its rows.
    """
    estimates, pairs = [], 0
    for index in Bar(indices, "frames", unit="frame"):
        sample = dataset.samples[index]
        other = folder / dataset.paths(sample, 0)[0].name
        if not other.is_file():
            continue
        pairs += 1
        first, second = dataset.read_images(sample, 0)[0], read_image(other)
        if first.shape != second.shape:
            raise InputError(f"{other} has another size than its frame; both cameras have one size")
        a, b = (_features(image.permute(1, 2, 0).numpy()) for image in (first, second))
        mine, theirs = match_mutually(a, b, 0.8)
        x, y = a.points[mine].T
        shift = np.abs(x - b.points[theirs, 0])
        good = (np.abs(y - b.points[theirs, 1]) < ROW) & (shift > 1)
        if good.sum() < FEWEST:
            continue
        inverse, K = _predicted(predictor, dataset, index)
        scale = inverse.shape[1] / first.shape[-1], inverse.shape[0] / first.shape[-2]
        columns = np.clip(np.rint((x[good] + 0.5) * scale[0] - 0.5), 0, inverse.shape[1] - 1).astype(int)
        rows = np.clip(np.rint((y[good] + 0.5) * scale[1] - 0.5), 0, inverse.shape[0] - 1).astype(int)
        depth = K[0, 0] / scale[0] * baseline / shift[good]
        ratio = np.median(depth * inverse[rows, columns])
        estimates.append(float(ratio) * (predictor.metric_scale or 1.0))
    if not estimates:
        why = "matches its frame in its rows; are both rectified?" if pairs else "has the name of a frame"
        raise InputError(f"no image of {folder} {why}")
    return estimates


def from_gps(predictor: Predictor, dataset: SequenceDataset) -> list[float]:
    """An estimate of each window of WINDOW seconds in which the camera moves.

    A scene has gps.csv (seconds, latitude, longitude in degrees) and times.txt.

    Raises:
        InputError: no scene has both files, or the camera does not move.
    """
    estimates: list[float] = []
    seen = 0
    for scene, motions in _paths(predictor, dataset):
        file = scene.folder / "gps.csv"
        if not (file.is_file() and (scene.folder / "times.txt").is_file()):
            continue
        seen += 1
        times = np.array([float(line) for line in read_lines(scene.folder / "times.txt")])
        known, place = read_gps(file)
        path = chain(np.stack([motion for _, motion in motions]))[:, :3, 3]
        frames = [frame for frame, _ in motions]
        at = times[[*frames, frames[-1] + 1]]
        step = max(1, int(np.searchsorted(at, at[0] + WINDOW)))
        for start in range(0, len(at) - step, step):
            ends = at[[start, start + step]]
            if ends[0] < known[0] or ends[1] > known[-1]:
                continue
            a, b = (np.array([np.interp(t, known, place[:, axis]) for axis in range(2)]) for t in ends)
            moved, predicted = np.linalg.norm(b - a), np.linalg.norm(path[start + step] - path[start])
            if moved >= SHORTEST and predicted > 0:
                estimates.append(float(moved / predicted) * (predictor.metric_scale or 1.0))
    if not estimates:
        why = (
            f"the positions move by less than {SHORTEST:g} m in every {WINDOW:g} s"
            if seen
            else "no scene has gps.csv (seconds, latitude, longitude) and times.txt"
        )
        raise InputError(f"GPS gives no scale for {dataset.data_path}: {why}")
    return estimates


def read_gps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times (n,) and positions (n, 2) north and east in metres of a file of seconds, latitude, longitude.

    Raises:
        InputError: rows that are not three numbers, or fewer than two.
    """
    rows = [line.replace(",", " ").split()[:3] for line in read_lines(path)]
    rows = rows[1:] if rows and not rows[0][0].replace(".", "", 1).lstrip("-").isdecimal() else rows
    try:
        times, latitude, longitude = np.array(rows, np.float64).reshape(-1, 3).T
    except ValueError:
        raise InputError(f"{path}: rows are seconds, latitude and longitude in degrees") from None
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise InputError(f"{path}: at least two rows with increasing times are needed")
    north, east = EARTH * np.radians(latitude - latitude[0]), EARTH * np.radians(longitude - longitude[0])
    return times, np.stack([north, east * np.cos(np.radians(latitude[0]))], 1)


def _paths(
    predictor: Predictor, dataset: SequenceDataset
) -> Iterator[tuple[Any, list[tuple[int, np.ndarray]]]]:
    """Each scene without a gap, with frame → T_next_from_frame of consecutive frames."""
    device = next(predictor.parameters()).device
    if not hasattr(dataset, "scenes"):
        raise InputError("--from gps reads gps.csv of a folder of images; give --dataset folder")
    indices = range(len(dataset))
    key = [(dataset.samples[n].scene, dataset.samples[n].frame - n) for n in indices]
    for (scene, _), group in itertools.groupby(indices, key=lambda n: key[n]):
        motions = []
        for index in Bar(list(group), "motions", unit="pair"):
            images = dataset[index].to(device).network_images
            T = predictor.motions(torch.cat([images[0], images[1]]))[0]
            T[:3, 3] /= predictor.metric_scale or 1.0
            motions.append((dataset.samples[index].frame, T))
        yield dataset.scenes[scene], motions


def _predicted(predictor: Predictor, dataset: SequenceDataset, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth (H, W) of a frame and its intrinsics, at the network's size."""
    batch = dataset[index].to(next(predictor.parameters()).device)
    if batch.camera is not None:
        raise InputError(f"{dataset.data_path} has a lens with distortion; remove it from the images first")
    inverse = predictor.predict_batch(batch)[0][0, 0].cpu().numpy()
    return inverse, batch.intrinsics[0].double().cpu().numpy()


def _features(image: np.ndarray) -> Any:
    return sift_features(
        cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), contrast=0.02, most=1500
    )


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) pose of a text file with 12 or 16 numbers.

    Raises:
        InputError: another number of numbers.
    """
    words: Sequence[str] = " ".join(read_lines(path)).replace(",", " ").split()
    try:
        values = np.array(words, np.float64)
    except ValueError:
        values = np.zeros(0)
    if values.size not in (12, 16):
        raise InputError(f"{path}: a pose has 12 (3x4) or 16 (4x4) numbers, got {len(words)} words")
    pose = np.eye(4)
    pose[:3] = values.reshape(-1, 4)[:3]
    return pose
