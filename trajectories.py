"""Camera paths: chaining motions, alignment, and the errors of visual odometry.

A path is `world_from_camera`, (N, 4, 4): the poses of a camera, the first one usually the world. A motion is
`T_later_from_earlier`, (4, 4), a pose network's output for two images:

    world_from_later = world_from_earlier @ inv(T_later_from_earlier)

A path of 1600 matrices is small and its sums are long, so this is numpy in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils import InputError, atomic_path, read_text

SEGMENTS = (100, 200, 300, 400, 500, 600, 700, 800)  # metres, of KITTI's odometry benchmark
SEGMENT_STEP = 10  # frames between the starts of segments, in the same benchmark
ALIGNMENTS = ("7dof", "6dof", "scale", "none")
FORMULAS = ("rmse", "published")
# Files of an evaluation: errors, and both paths in KITTI's format, before alignment.
SCORES_FILE, PATH_FILE, GROUND_TRUTH_FILE = "metrics.json", "trajectory_kitti.txt", "ground_truth_kitti.txt"


def chain(motions: np.ndarray) -> np.ndarray:
    """(N, 4, 4) T_later_from_earlier to (N + 1, 4, 4) world_from_camera, the first the identity.

    Raises:
        InputError: a motion is not finite.
    """
    broken = np.flatnonzero(~np.isfinite(motions).all((1, 2)))
    if len(broken):
        raise InputError(
            f"{len(broken)} of {len(motions)} motions are not finite, the first after frame {broken[0]}; "
            "did the training diverge?"
        )
    path = [np.eye(4)]
    for motion in orthonormal(motions):
        path.append(path[-1] @ np.linalg.inv(motion))
    return np.stack(path)


def motions_of(path: np.ndarray) -> np.ndarray:
    """(N, 4, 4) world_from_camera to (N - 1, 4, 4) T_later_from_earlier."""
    return np.linalg.inv(path[1:]) @ path[:-1]


def from_start(path: np.ndarray) -> np.ndarray:
    """The same path with its first camera as the world."""
    return np.linalg.inv(path[0]) @ path


def orthonormal(motions: np.ndarray) -> np.ndarray:
    """Float64 copies with the nearest proper rotations: float32 products drift over a sequence."""
    motions = np.array(motions, np.float64)
    left, _, right = np.linalg.svd(motions[:, :3, :3])
    motions[:, :3, :3] = left @ right
    return motions


def angle(rotations: np.ndarray) -> np.ndarray:
    """The angles of (..., 3, 3) rotations, radians."""
    # From sine and cosine together: arccos of the cosine loses half its digits near 0.
    skew = rotations - np.swapaxes(rotations, -1, -2)
    sine = np.sqrt(np.square(skew).sum((-1, -2)) / 8)
    return np.arctan2(sine, (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2)


# ---------------------------------------------------------------------------------------------- errors


def align(path: np.ndarray, ground_truth: np.ndarray, alignment: str = "7dof") -> tuple[np.ndarray, float]:
    """Align a path with the ground truth.

    Args:
        path, ground_truth: (N, 4, 4) world_from_camera of the same frames.
        alignment: `7dof`: rotation, translation and scale by least squares over all positions (Umeyama
            1991). `6dof`: the same without scale. `scale`: scale only, both starting at the first camera.
            `none`: the same start.

    Returns:
        The path (N, 4, 4) in the ground truth's world, and the scale.
    """
    if alignment in ("scale", "none"):
        path, known = from_start(path), from_start(ground_truth)[:, :3, 3]
        positions = path[:, :3, 3]
        scale = _least_squares_scale(positions, known) if alignment == "scale" else 1.0
        rotation, translation = np.eye(3), np.zeros(3)
        back = ground_truth[0]
    else:
        scale, rotation, translation = umeyama(path[:, :3, 3], ground_truth[:, :3, 3], alignment == "7dof")
        back = np.eye(4)
    aligned = np.tile(np.eye(4), (len(path), 1, 1))
    aligned[:, :3, :3] = rotation @ path[:, :3, :3]
    aligned[:, :3, 3] = scale * path[:, :3, 3] @ rotation.T + translation
    return back @ aligned, scale


def umeyama(
    points: np.ndarray, target: np.ndarray, with_scale: bool = True
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and translation with  scale R p + t  closest to `target` (Umeyama 1991).

    Args:
        points, target: (N, 3).
        with_scale: False keeps the scale at 1.

    Returns:
        scale, (3, 3), (3,).
    """
    center, target_center = points.mean(0), target.mean(0)
    spread, target_spread = points - center, target - target_center
    left, values, right = np.linalg.svd(target_spread.T @ spread / len(points))
    handed = np.array([1, 1, np.linalg.det(left) * np.linalg.det(right)])  # a rotation, not a reflection
    rotation = left @ np.diag(handed) @ right
    variance = np.square(spread).sum() / len(points)
    scale = float((values * handed).sum() / variance) if with_scale and variance > 0 else 1.0
    return scale, rotation, target_center - scale * rotation @ center


def _least_squares_scale(points: np.ndarray, target: np.ndarray) -> float:
    size = np.square(points).sum()
    return float((points * target).sum() / size) if size > 0 else 1.0


def segment_errors(
    path: np.ndarray,
    ground_truth: np.ndarray,
    lengths: Sequence[float] = SEGMENTS,
    step: int = SEGMENT_STEP,
) -> dict[str, float]:
    """KITTI's drift: relative errors over all segments of 100 to 800 m, starting at every tenth frame.

    A segment ends at the first frame beyond its length, and errors are divided by the nominal length, both
    as in KITTI's development kit.

    Args:
        path, ground_truth: (N, 4, 4) world_from_camera of the same frames.
        lengths: lengths of the segments, metres.
        step: frames between the starts of segments.

    Returns:
        `t_err` in %, `r_err` in degrees per 100 m, `segments`, their number. nan if the path is shorter than
        the shortest segment.
    """
    travelled = np.r_[0, np.linalg.norm(np.diff(ground_truth[:, :3, 3], axis=0), axis=1).cumsum()]
    starts = np.arange(0, len(ground_truth), step)
    first, last, length = [], [], []
    for metres in lengths:
        ends = np.searchsorted(travelled, travelled[starts] + metres, side="right")
        whole = ends < len(ground_truth)
        first.append(starts[whole])
        last.append(ends[whole])
        length.append(np.full(whole.sum(), float(metres)))
    first, last, length = map(np.concatenate, (first, last, length))
    if not len(first):
        return {"t_err": math.nan, "r_err": math.nan, "segments": 0}
    inverse = np.linalg.inv
    error = inverse(inverse(path[first]) @ path[last]) @ (inverse(ground_truth[first]) @ ground_truth[last])
    return {
        "t_err": float(100 * (np.linalg.norm(error[:, :3, 3], axis=1) / length).mean()),
        "r_err": float(100 * np.degrees(angle(error[:, :3, :3]) / length).mean()),
        "segments": len(first),
    }


def position_error(path: np.ndarray, ground_truth: np.ndarray) -> float:
    """ATE: root mean square distance of the positions, in the ground truth's unit."""
    return float(np.sqrt(np.square(path[:, :3, 3] - ground_truth[:, :3, 3]).sum(1).mean()))


def motion_errors(path: np.ndarray, ground_truth: np.ndarray) -> dict[str, float]:
    """RPE from frame to frame, each part as root mean square and as mean.

    Returns:
        `rpe_translation` (root mean square) and `rpe_translation_mean` in metres; `rpe_rotation` (mean) and
        `rpe_rotation_rms` in degrees. Results of earlier versions have the two short names only.
    """
    error = motions_of(ground_truth) @ np.linalg.inv(motions_of(path))
    squared = np.square(error[:, :3, 3]).sum(1)
    degrees = np.degrees(angle(error[:, :3, :3]))
    return {
        "rpe_translation": float(np.sqrt(squared.mean())),
        "rpe_translation_mean": float(np.sqrt(squared).mean()),
        "rpe_rotation": float(degrees.mean()),
        "rpe_rotation_rms": float(np.sqrt(np.square(degrees).mean())),
    }


def snippet_errors(
    motions: np.ndarray, true_motions: np.ndarray, length: int = 5, formula: str = "rmse"
) -> np.ndarray:
    """ATE of short snippets, each aligned by its own scale (Zhou et al. 2017).

    Args:
        motions, true_motions: (N, 4, 4) T_later_from_earlier.
        length: frames of a snippet.
        formula: `rmse`, the root mean square distance in each complete snippet; or `published`, as
            Monodepth2 and others print it: sqrt(sum of squares) / frames, motions chained as if they were
            inverse, and the last snippets shorter.

    Returns:
        (N - length + 2,), or (N,) for `published`; in the ground truth's unit.

    Raises:
        InputError: an unknown formula, different numbers of motions, or fewer frames than in a snippet.
    """
    if formula not in FORMULAS:
        raise InputError(f"the snippet error's formula is one of {', '.join(FORMULAS)}, got '{formula}'")
    if len(motions) != len(true_motions):
        raise InputError(f"{len(motions)} motions were predicted, the ground truth has {len(true_motions)}")
    if len(motions) < length - 1:
        raise InputError(f"a snippet has {length} frames, but there are only {len(motions) + 1}")
    published = formula == "published"
    errors = []
    for start in range(len(motions) if published else len(motions) - length + 2):
        snippet = slice(start, start + length - 1)
        points, known = (snippet_path(part[snippet], published) for part in (motions, true_motions))
        gap = np.linalg.norm(_least_squares_scale(points, known) * points - known)
        errors.append(gap / len(points) if published else gap / math.sqrt(len(points)))
    return np.array(errors)


def snippet_path(motions: np.ndarray, published: bool = False) -> np.ndarray:
    """Positions (N + 1, 3) along (N, 4, 4) T_later_from_earlier, from the origin; see `snippet_errors`."""
    if not published:
        return chain(motions)[:, :3, 3]
    path = [np.eye(4)]
    for motion in motions:
        path.append(path[-1] @ motion)
    return np.stack(path)[:, :3, 3]


# ---------------------------------------------------------------------------------------------- files


def read_path(file: str | Path) -> np.ndarray:
    """A path of twelve numbers a line (KITTI) or eight (TUM: time x y z qx qy qz qw), as (N, 4, 4).

    Raises:
        InputError: no such file, not a text, or a line that is in neither format or not finite.
    """
    if not Path(file).is_file():
        raise InputError(f"there is no file of poses {file}")
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            rows.append([float(word) for word in line.split()])
        except ValueError:
            rows.append([])
        if len(rows[-1]) not in (8, 12) or len(rows[-1]) != len(rows[0]):
            raise InputError(
                f"{file}, line {number}: a pose has 12 numbers (KITTI) or 8 (TUM), got '{line[:60]}'"
            )
        if not np.isfinite(rows[-1]).all() or (len(rows[-1]) == 8 and not any(rows[-1][4:])):
            raise InputError(f"{file}, line {number}: this is not a pose of a camera: '{line[:60]}'")
    if not rows:
        raise InputError(f"{file} holds no pose")
    values = np.array(rows)
    path = np.tile(np.eye(4), (len(values), 1, 1))
    if values.shape[1] == 12:
        path[:, :3] = values.reshape(-1, 3, 4)
    else:
        path[:, :3, 3], path[:, :3, :3] = values[:, 1:4], rotations(values[:, 4:])
    return path


def write_kitti(file: str | Path, path: np.ndarray) -> None:
    """KITTI's format: one line for each frame, the first three rows of world_from_camera."""
    with atomic_path(file) as temporary:
        np.savetxt(temporary, path[:, :3].reshape(len(path), 12), fmt="%.9e")


def write_tum(file: str | Path, path: np.ndarray, times: np.ndarray | None = None) -> None:
    """TUM's format: one line for each frame, time x y z qx qy qz qw.

    Args:
        times: (N,) seconds; None writes the number of the frame.
    """
    times = np.arange(len(path)) if times is None else times
    with atomic_path(file) as temporary:
        np.savetxt(temporary, np.c_[times, path[:, :3, 3], quaternions(path[:, :3, :3])], fmt="%.9f")


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """(N, 3, 3) to (N, 4) x y z w: the leading eigenvector of Bar-Itzhack's matrix (2000)."""
    m = rotations
    K = np.zeros((len(m), 4, 4))
    K[:, :3, :3] = m + np.swapaxes(m, 1, 2) - np.trace(m, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    axis = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    K[:, 3, :3] = K[:, :3, 3] = axis
    K[:, 3, 3] = np.trace(m, axis1=1, axis2=2)
    q = np.linalg.eigh(K)[1][:, :, -1]
    return q * np.where(q[:, 3:] < 0, -1, 1)


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4) x y z w, which need not be normalised."""
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, 1).reshape(-1, 3, 3)
