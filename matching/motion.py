"""Motion of a camera between two images and depth at their matches, without learning.

SIFT features are matched. Five matches give the motion (essential matrix), all matches refine it, and each
match is triangulated:

    x_source ~ K (R K^-1 x + inverse_depth t),   |t| = 1

The unit of depth is therefore the distance between the two cameras. Sampson's distance of the matches from
their epipolar lines, in pixels, measures how well intrinsics K explain them. It depends on the focal length
only if the camera also rotates: every focal length explains a pure translation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from matching.two_views import (
    Features,
    cross_matrix,
    fundamental,
    homogeneous,
    inverse_depths,
    match_mutually,
    sampson_distances,
    sift_features,
)

CORNERS = 1500  # strongest SIFT features of an image
RATIO = 0.8  # of the ratio test
FEWEST = 25  # matches that a pair needs to be used
SOFT = 0.5  # pixels, scale of the robust cost: matches several times farther off have little weight


@dataclass
class Motion:
    """The camera's motion between two images.

    Attributes:
        target, source: (M, 2) pixels of the matches.
        T_source_from_target: (4, 4), its translation of length 1; None if no motion was found.
        explained: (M,) bool, matches within 1.5 pixels of this motion.
        inverse_depth: (M,) inverse depth in the target, in 1 / translation; negative by noise.
        sensitivity: (M,) pixels that a match moves per unit of inverse depth.
        distance: median distance of explained matches from their epipolar lines, pixels.
        shift: median displacement of the matches, pixels.
        parallax: median displacement after the best rotation is removed, pixels.
    """

    target: np.ndarray
    source: np.ndarray
    T_source_from_target: np.ndarray | None
    explained: np.ndarray
    inverse_depth: np.ndarray
    sensitivity: np.ndarray
    distance: float
    shift: float
    parallax: float


def find_features(image: np.ndarray) -> Features:
    """SIFT features of (H, W, 3) uint8 RGB."""
    return sift_features(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), contrast=0.02, most=CORNERS)


def match_pixels(target: Features, source: Features) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) and (M, 2) pixels of the matches of two images."""
    a, b = match_mutually(target, source, RATIO)
    return target.points[a], source.points[b]


def find_motion(target: np.ndarray, source: np.ndarray, K: np.ndarray) -> Motion:
    """The motion that explains (M, 2) matched pixels under intrinsics K."""
    count = len(target)
    shift = float(np.median(np.linalg.norm(source - target, axis=1))) if count else 0.0
    nothing = np.zeros(count)
    motion = Motion(target, source, None, nothing.astype(bool), nothing, nothing, np.inf, shift, shift)
    if count < FEWEST:
        return motion
    motion.parallax = _parallax(target, source, K)
    cv2.setRNGSeed(0)
    E, inside = cv2.findEssentialMat(target, source, K, cv2.RANSAC, 0.999, 1.0)
    if E is None or E.shape != (3, 3) or inside.sum() < FEWEST // 2:
        return motion
    _, R, t, _ = cv2.recoverPose(E, target, source, K, mask=inside)
    # A sideways translation and a rotation look alike, so five points may end in a wrong minimum.
    turned = best_rotation(target, source, K)
    starts_R = np.stack([R, *[turned] * 3, *[np.eye(3)] * 3])
    starts_t = np.stack([t[:, 0], *np.eye(3), *np.eye(3)])
    Rs, ts, costs = refine(starts_R, starts_t, target, source, np.broadcast_to(K, (7, 3, 3)))
    R, t = Rs[costs.argmin()], ts[costs.argmin()]
    inverse_depth, sensitivity = inverse_depths(target, source, K, R, t)
    if (
        sensitivity * np.sign(inverse_depth)
    ).sum() < 0:  # of the two signs, the one with points in front of the camera
        t = -t
    distances = np.abs(epipolar_distance(R, t, target, source, K))
    motion.explained = distances < 1.5
    if motion.explained.sum() < FEWEST // 2:
        return motion
    motion.distance = float(np.median(distances[motion.explained]))
    motion.T_source_from_target = np.eye(4)
    motion.T_source_from_target[:3, :3], motion.T_source_from_target[:3, 3] = R, t
    motion.inverse_depth, motion.sensitivity = inverse_depths(target, source, K, R, t)
    return motion


def epipolar_distance(
    R: np.ndarray, t: np.ndarray, target: np.ndarray, source: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Signed Sampson distances of M matches for motions R (..., 3, 3), t (..., 3), intrinsics K (..., 3, 3).

    Returns:
        (..., M) pixels.
    """
    return sampson_distances(target, source, fundamental(K, K, R, t))


def standing_along(motion: Motion) -> np.ndarray:
    """(M,) bool, matches that do not move while the image does: on the ego vehicle, or far away."""
    moved = np.linalg.norm(motion.source - motion.target, axis=1)
    return (moved < 0.5) & (moved < 0.15 * motion.shift)


def _parallax(target: np.ndarray, source: np.ndarray, K: np.ndarray) -> float:
    """Median displacement in pixels after the best rotation is removed."""
    turned = homogeneous(target) @ (K @ best_rotation(target, source, K) @ np.linalg.inv(K)).T
    pixels = turned[:, :2] / np.where(np.abs(turned[:, 2:]) < 1e-9, 1e-9, turned[:, 2:])
    return float(np.median(np.linalg.norm(source - pixels, axis=1)))


def best_rotation(target: np.ndarray, source: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(3, 3), the rotation that best aligns the rays of the matches (robust)."""
    inverse = np.linalg.inv(K)
    a, b = (homogeneous(points) @ inverse.T for points in (target, source))
    a, b = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (a, b))
    weights = np.ones(len(a))
    for _ in range(10):
        U, _, Vt = np.linalg.svd((b * weights[:, None]).T @ a)
        R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
        rest = np.linalg.norm(b - a @ R.T, axis=1) * K[0, 0]
        weights = 1 / (1 + (rest / max(float(np.median(rest)), 1e-3)) ** 2)
    return R


def refine(
    R: np.ndarray, t: np.ndarray, target: np.ndarray, source: np.ndarray, K: np.ndarray, rounds: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refine motions: minimise the distance of matches to their epipolar lines (damped Gauss-Newton).

    Args:
        R, t, K: (N, 3, 3), (N, 3) of length 1, (N, 3, 3): N starting points with their intrinsics.
        target, source: (M, 2) pixels, shared by all.
        rounds: largest number of iterations.

    Returns:
        (N, 3, 3), (N, 3) and (N,) the sum over matches of log(1 + (distance / SOFT)^2).
    """
    tiny = 1e-6
    R, t, damping = R.copy(), t.copy(), np.full(len(R), 1e-3)
    rest = epipolar_distance(R, t, target, source, K)
    cost = np.log1p((rest / SOFT) ** 2).sum(1)
    for _ in range(rounds):
        steps = np.broadcast_to(tiny * np.eye(5), (len(R), 5, 5))
        nearby = epipolar_distance(*perturbed(R[:, None], t[:, None], steps), target, source, K[:, None])
        J = (nearby - rest[:, None]) / tiny  # (N, 5, M)
        weighted = J / (1 + (rest[:, None] / SOFT) ** 2)
        A, g = weighted @ np.swapaxes(J, 1, 2), (weighted * rest[:, None]).sum(2)
        A = A + damping[:, None, None] * np.eye(5) * (A + 1e-12)
        step = -np.linalg.solve(A, g[..., None])[..., 0]
        step *= np.minimum(1, 0.3 / np.maximum(np.linalg.norm(step, axis=1), 1e-12))[:, None]
        moved = perturbed(R, t, step)
        rest_moved = epipolar_distance(*moved, target, source, K)
        cost_moved = np.log1p((rest_moved / SOFT) ** 2).sum(1)
        better = cost_moved < cost
        gained = np.where(better, cost - cost_moved, 0) > 1e-4 * cost
        R[better], t[better], rest[better] = moved[0][better], moved[1][better], rest_moved[better]
        cost = np.minimum(cost, cost_moved)
        damping = np.where(better, damping / 5, damping * 10)
        if not gained.any() and better.any():
            break
    return R, t, cost


def perturbed(R: np.ndarray, t: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Motions after a step: R rotated by step[..., :3] radians, t moved by step[..., 3:] across itself."""
    axis = np.eye(3)[np.abs(t).argmin(-1)]
    side = np.cross(t, axis)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    moved = t + step[..., 3:4] * side + step[..., 4:5] * np.cross(t, side)
    angle = np.linalg.norm(step[..., :3], axis=-1)[..., None, None]
    cross = cross_matrix(step[..., :3])
    # Rodrigues; np.sinc is sin(pi x) / (pi x).
    turn = np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / 2 / np.pi) ** 2 * cross @ cross
    return turn @ R, moved / np.linalg.norm(moved, axis=-1, keepdims=True)
