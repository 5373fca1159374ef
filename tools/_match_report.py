"""Matches compared with LiDAR: how many there are, and how far their depths are from the measured ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.surround import SurroundDataset, read_matches
from files import writing
from progress import Bar

# A match is usable within these thresholds, the defaults of losses/sfm_matches.py: metres, degrees, pixels.
MAX_DEPTH, MIN_ANGLE, MAX_DISTANCE = 200.0, 0.01, 1.0
LIDAR_RADIUS = 3  # pixels around a match within which a LiDAR point is looked for


def report(dataset: SurroundDataset, indices: Sequence[int], samples: int, path: Path) -> str:
    """A table of the cameras: matches, usable matches, median relative error; written as JSON as well.

    Args:
        dataset: a rig whose `depth_from_raw` is the ground truth.
        indices: samples with matches.
        samples: number of them to compare, evenly spread.
        path: the JSON file.
    """
    chosen = [indices[n] for n in np.linspace(0, len(indices) - 1, min(samples, len(indices))).astype(int)]
    names = dataset.camera_names
    counts = {name: [0, 0] for name in names}  # matches, usable matches
    errors: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in Bar(chosen, "LiDAR", unit="sample", leave=False):
        ground_truth = dataset.depth_from_raw(index)
        for camera, name in enumerate(names):
            rows = read_matches(dataset.match_path(dataset.samples[index], camera))
            good = rows[usable(rows)]
            counts[name][0] += len(rows)
            counts[name][1] += len(good)
            if ground_truth is not None:
                known = nearest_depth(ground_truth[camera], good[:, 0], good[:, 1])
                errors[name].append(np.abs(good[:, 2] - known)[known > 0] / known[known > 0])
    table = {}
    for name in names:
        found = np.concatenate([*errors[name], np.zeros(0)])
        table[name] = {
            "matches": counts[name][0] / len(chosen),
            "usable": counts[name][1] / len(chosen),
            "near_lidar": len(found) / len(chosen),
            "median_relative_error": float(np.median(found)) if len(found) else None,
        }
    with writing(path) as temporary:
        temporary.write_text(json.dumps({"samples": len(chosen), "cameras": table}, indent=2) + "\n")
    return as_text(table, len(chosen))


def as_text(table: dict[str, dict[str, Any]], samples: int) -> str:
    """The table for the terminal."""
    lines = [
        f"means over {samples} samples; usable: nearer than {MAX_DISTANCE:g} px to both epipolar lines, "
        f"depth within {MAX_DEPTH:g} m",
        f"{'':<12} {'matches':>8} {'usable':>8} {'near LiDAR':>13} {'median error':>13}",
    ]
    for name, row in table.items():
        error = row["median_relative_error"]
        shown = "-" if error is None else f"{100 * error:.1f} %"
        lines.append(
            f"{name:<12} {row['matches']:8.0f} {row['usable']:8.0f} {row['near_lidar']:13.0f} {shown:>13}"
        )
    return "\n".join(lines)


def usable(rows: np.ndarray, distance: float = MAX_DISTANCE) -> np.ndarray:
    """(K,) bool, the rows that training takes with its default thresholds."""
    depth, angle, in_source, in_target = rows[:, 2:].T
    good = (depth > 0) & (depth < MAX_DEPTH) & (angle > MIN_ANGLE)
    return good & (in_source < distance) & (in_target < distance)


def nearest_depth(depth: np.ndarray, x: np.ndarray, y: np.ndarray, radius: int = LIDAR_RADIUS) -> np.ndarray:
    """(K,) metres of the known pixel nearest to each point, 0 if there is none within `radius` pixels."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    order = np.argsort(dy**2 + dx**2, kind="stable")
    dy, dx = dy[order], dx[order]
    padded = np.pad(depth, radius)
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    around = padded[rows[:, None] + dy + radius, columns[:, None] + dx + radius]
    return around[np.arange(len(x)), (around > 0).argmax(1)]
