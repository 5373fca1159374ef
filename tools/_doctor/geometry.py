"""Motion of a camera between two images, depth at their matches, and the focal length, without learning.

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
import torch

from layers import rigid, warp
from tools._two_views import (
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
FACTORS = np.exp(np.linspace(np.log(0.4), np.log(2.5), 21))  # of the focal length; the middle one is 1
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
    Rs, ts, costs = _refine(starts_R, starts_t, target, source, np.broadcast_to(K, (7, 3, 3)))
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


def scan_focal(target: np.ndarray, source: np.ndarray, K: np.ndarray) -> np.ndarray | None:
    """Cost of each focal length, minimised over the motion.

    Returns:
        (len(FACTORS),) mean of log(1 + (distance / SOFT)^2) for fx and fy times each of FACTORS; None with
        too few matches. Outliers are removed without intrinsics (fundamental matrix).
    """
    if len(target) < 2 * FEWEST:
        return None
    cv2.setRNGSeed(0)
    F, inside = cv2.findFundamentalMat(target, source, cv2.FM_RANSAC, 1.0, 0.999)
    if F is None or F.shape != (3, 3) or inside.sum() < 2 * FEWEST:
        return None
    target, source = target[inside[:, 0] > 0], source[inside[:, 0] > 0]
    if len(target) > 200:
        chosen = np.linspace(0, len(target) - 1, 200).astype(int)
        target, source = target[chosen], source[chosen]
    cameras = np.stack([K * np.array([[factor, 1, 1], [1, factor, 1], [1, 1, 1]]) for factor in FACTORS])
    starts = []
    for camera in cameras:
        E, _ = cv2.findEssentialMat(target, source, camera, cv2.RANSAC, 0.999, 1.0)
        if E is None or E.shape != (3, 3):
            return None
        starts.append(cv2.recoverPose(E, target, source, camera)[1:3])
    R, t = np.stack([start[0] for start in starts]), np.stack([start[1][:, 0] for start in starts])
    R, t, costs = _refine(R, t, target, source, cameras)
    # Starts from neighbouring focal lengths help out of a wrong minimum.
    for shift in (1, -1, 2, -2):
        neighbour = np.clip(np.arange(len(FACTORS)) - shift, 0, len(FACTORS) - 1)
        moved = _refine(R[neighbour], t[neighbour], target, source, cameras)
        better = moved[2] < costs
        R[better], t[better], costs[better] = (new[better] for new in moved)
    return costs / len(target)


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


def _refine(
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
        nearby = epipolar_distance(*_moved(R[:, None], t[:, None], steps), target, source, K[:, None])
        J = (nearby - rest[:, None]) / tiny  # (N, 5, M)
        weighted = J / (1 + (rest[:, None] / SOFT) ** 2)
        A, g = weighted @ np.swapaxes(J, 1, 2), (weighted * rest[:, None]).sum(2)
        A = A + damping[:, None, None] * np.eye(5) * (A + 1e-12)
        step = -np.linalg.solve(A, g[..., None])[..., 0]
        step *= np.minimum(1, 0.3 / np.maximum(np.linalg.norm(step, axis=1), 1e-12))[:, None]
        moved = _moved(R, t, step)
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


def _moved(R: np.ndarray, t: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R rotated by step[..., :3] radians, t moved by step[..., 3:] across its own direction."""
    axis = np.eye(3)[np.abs(t).argmin(-1)]
    side = np.cross(t, axis)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    moved = t + step[..., 3:4] * side + step[..., 4:5] * np.cross(t, side)
    angle = np.linalg.norm(step[..., :3], axis=-1)[..., None, None]
    cross = cross_matrix(step[..., :3])
    # Rodrigues; np.sinc is sin(pi x) / (pi x).
    turn = np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / 2 / np.pi) ** 2 * cross @ cross
    return turn @ R, moved / np.linalg.norm(moved, axis=-1, keepdims=True)
