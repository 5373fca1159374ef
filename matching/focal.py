"""The focal length that explains the matches of a recording, without learning.

    cost(f) = sum over pairs of  min over R, t of  mean log(1 + (Sampson distance / SOFT)^2)

The distance of matches from their epipolar lines depends on the focal length only if the camera also rotates:
every focal length explains a pure translation. `is_clear` tells whether the cost has a minimum. Over a whole
recording, Gauss-Newton finds it: with the motions eliminated (Schur complement), log f has the gradient
g = sum of g_n and the curvature h = sum of h_n over the pairs n, and

    d log f = -g / h,     standard error = sqrt(sum of g_n^2) / h  at the minimum

The standard error is the sandwich estimator with one cluster for each pair. It is large for a camera that
does not turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from intrinsics import Focal, guess_intrinsics
from matching.motion import FEWEST, SOFT, epipolar_distance, find_features, match_pixels, perturbed, refine
from matching.two_views import Features

FACTORS = np.exp(np.linspace(np.log(0.4), np.log(2.5), 21))  # of the focal length; the middle one is 1
CLEAR = 1.08  # least ratio of the cost at the ends of the factors to the minimum
STANDING = 0.0015  # median displacement as a share of the width, below which the camera stands still
TARGETS = 16  # frames of a recording that are matched with later ones
GAP, SHORT_GAP, LONG_GAP = 5, 2, 12  # frames between the two; short if few match, long if the shift is small
SMALL_SHIFT = 0.05  # median displacement as a share of the width, below which LONG_GAP is tried
COARSE = FACTORS[::2]  # for a recording; a step of them is within the reach of Gauss-Newton
MOST_ERROR = 0.06  # relative standard error of a focal length that the motion determines
ROUNDS = 12  # of Gauss-Newton at most


def scan_focal(
    target: np.ndarray, source: np.ndarray, K: np.ndarray, factors: np.ndarray = FACTORS
) -> np.ndarray | None:
    """Cost of each focal length, minimised over the motion.

    Args:
        target, source: (M, 2) pixels of the matches.
        K: (3, 3) intrinsics, whose fx and fy are multiplied by each factor.
        factors: (F,) factors, in equal steps of their logarithm.

    Returns:
        (F,) mean of log(1 + (distance / SOFT)^2); None with too few matches. Outliers are removed without
        intrinsics (fundamental matrix).
    """
    if (inliers := _inliers(target, source)) is None:
        return None
    target, source = inliers
    cameras = np.stack([times(K, factor) for factor in factors])
    starts = [_first_motion(target, source, camera) for camera in cameras]
    if None in starts:
        return None
    R, t = np.stack([start[0] for start in starts]), np.stack([start[1] for start in starts])
    R, t, costs = refine(R, t, target, source, cameras)
    # Starts from neighbouring focal lengths help out of a wrong minimum.
    for shift in (1, -1, 2, -2):
        neighbour = np.clip(np.arange(len(factors)) - shift, 0, len(factors) - 1)
        moved = refine(R[neighbour], t[neighbour], target, source, cameras)
        better = moved[2] < costs
        R[better], t[better], costs[better] = (new[better] for new in moved)
    return costs / len(target)


def is_clear(scans: Sequence[np.ndarray]) -> bool:
    """Whether pairs determine the focal length: their cost over FACTORS has a clear minimum, and most agree.

    Args:
        scans: results of `scan_focal`, one for each pair.
    """
    if not scans:
        return False
    costs = np.sum(scans, 0)
    middle, best = len(FACTORS) // 2, int(costs.argmin())
    if not _has_minimum(costs):
        return False
    gain = costs[middle] / costs[best]
    agree = np.mean([scan[best] < scan[middle] for scan in scans])
    return not is_far(valley_floor(costs)) or (gain > 1.1 and agree > 0.6)


def _has_minimum(costs: np.ndarray) -> bool:
    """Whether costs over factors are clearly less somewhere between the ends."""
    return 0 < costs.argmin() < len(costs) - 1 and min(costs[0], costs[-1]) / costs.min() >= CLEAR


def is_far(factor: float) -> bool:
    """Whether a focal length that differs by `factor` contradicts the given one."""
    return bool(abs(np.log(factor)) > 0.13)


def valley_floor(costs: np.ndarray, factors: np.ndarray = FACTORS) -> float:
    """The factor at the minimum of a parabola through the best of `factors` and its neighbours."""
    best = int(np.clip(costs.argmin(), 1, len(costs) - 2))
    before, here, after = costs[best - 1 : best + 2]
    offset = 0.5 * (before - after) / max(before - 2 * here + after, 1e-12)
    return float(factors[best] * (factors[1] / factors[0]) ** np.clip(offset, -0.5, 0.5))


def recorded_focal(read: Callable[[int], np.ndarray], runs: Sequence[range]) -> Focal | None:
    """The focal length of a recording, from the motion between its frames.

    Pixels are taken as square and the principal point as the middle of the image.

    Args:
        read: number of a frame → (h, w, 3) uint8 RGB, all of one size.
        runs: ranges of frames without a gap.

    Returns:
        None if the motion does not determine it.
    """
    size = read(runs[0].start).shape[:2]
    K = guess_intrinsics(*size)
    pairs = [inliers for pair in _moving_pairs(read, runs, size[1]) if (inliers := _inliers(*pair))]
    scans = [scan for a, b in pairs if (scan := scan_focal(a, b, K, COARSE)) is not None]
    if not scans:
        return None
    costs = np.sum(scans, 0)
    if not _has_minimum(costs):
        return None
    # Motions that were found at a wrong focal length may stay in a wrong minimum: once more from the result.
    factor = valley_floor(costs, COARSE)
    for _ in range(2):
        if (fitted := fit_focal(pairs, times(K, factor))) is None:
            return None
        factor *= fitted[0]
    if fitted[1] > MOST_ERROR or not COARSE[0] < factor < COARSE[-1]:
        return None
    return Focal(float(factor * K[0, 0] / size[1]), fitted[1])


def fit_focal(pairs: Sequence[tuple[np.ndarray, np.ndarray]], K: np.ndarray) -> tuple[float, float] | None:
    """The focal length with the least cost over all pairs together, from a start within about 10 %.

    Args:
        pairs: (M, 2) and (M, 2) pixels of the matches of each pair, without outliers.
        K: (3, 3) intrinsics, the start.

    Returns:
        Factor of fx and fy, and its relative standard error; None if no pair gives a motion.
    """
    starts = [(a, b, _first_motion(a, b, K)) for a, b in pairs]
    known = [(a, b, *motion) for a, b, motion in starts if motion is not None]
    if not known:
        return None
    factor = 1.0
    for round_ in range(ROUNDS):
        camera = times(K, factor)
        gradient, curvature = np.empty((2, len(known)))
        for n, (a, b, R, t) in enumerate(known):
            R, t, _ = refine(R[None], t[None], a, b, camera[None], 3 if round_ else 10)
            known[n] = a, b, R[0], t[0]
            gradient[n], curvature[n] = _reduced(*known[n], camera)
        step = float(np.clip(-gradient.sum() / max(curvature.sum(), 1e-12), -0.1, 0.1))
        factor *= float(np.exp(step))
        if abs(step) < 2e-4:
            break
    return factor, float(np.sqrt((gradient**2).sum()) / max(curvature.sum(), 1e-12))


def _reduced(
    target: np.ndarray, source: np.ndarray, R: np.ndarray, t: np.ndarray, K: np.ndarray
) -> tuple[float, float]:
    """Gradient and curvature of a pair's cost with respect to log f, with the motion eliminated."""
    tiny = 1e-6
    rest = epipolar_distance(R, t, target, source, K)
    nearby = epipolar_distance(*perturbed(R[None], t[None], tiny * np.eye(5)), target, source, K[None])
    longer = epipolar_distance(R, t, target, source, times(K, 1 + tiny))
    J = (np.vstack([nearby, longer]) - rest) / tiny  # (6, M)
    weighted = J / (1 + (rest / SOFT) ** 2)
    A, g = weighted @ J.T, weighted @ rest
    motion = A[:5, :5] + 1e-9 * np.trace(A[:5, :5]) * np.eye(5)
    across = np.linalg.solve(motion, A[:5, 5])
    return float(g[5] - across @ g[:5]), float(A[5, 5] - across @ A[:5, 5])


def _inliers(target: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """At most 200 of the matches that fit one fundamental matrix, spread evenly; None if too few do."""
    if len(target) < 2 * FEWEST:
        return None
    cv2.setRNGSeed(0)
    F, inside = cv2.findFundamentalMat(target, source, cv2.FM_RANSAC, 1.0, 0.999)
    if F is None or F.shape != (3, 3) or inside.sum() < 2 * FEWEST:
        return None
    chosen = np.flatnonzero(inside[:, 0])
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), 200)).astype(int)]
    return target[chosen], source[chosen]


def _first_motion(
    target: np.ndarray, source: np.ndarray, K: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """R (3, 3) and t (3,) of length 1 from five matches (RANSAC); None if none is found."""
    E, _ = cv2.findEssentialMat(target, source, K, cv2.RANSAC, 0.999, 1.0)
    if E is None or E.shape != (3, 3):
        return None
    R, t = cv2.recoverPose(E, target, source, K)[1:3]
    return R, t[:, 0]


def _moving_pairs(
    read: Callable[[int], np.ndarray], runs: Sequence[range], width: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The matches of evenly spread frames with later ones, where the camera moves."""
    features: dict[int, Features] = {}

    def look(number: int) -> Features:
        if number not in features:
            features[number] = find_features(read(number))
        return features[number]

    def pair(target: int, gap: int) -> tuple[np.ndarray, np.ndarray]:
        return match_pixels(look(target), look(target + gap))

    frames = [number for run in runs for number in run]
    chosen = dict.fromkeys(frames[int((n + 0.5) * len(frames) / TARGETS)] for n in range(TARGETS))
    found = []
    for target in chosen:
        run = next(run for run in runs if target in run)
        gap = next((gap for gap in (GAP, SHORT_GAP) if target + gap in run), None)
        if gap is None:
            continue
        matches = pair(target, gap)
        if len(matches[0]) < 2 * FEWEST:
            matches = pair(target, SHORT_GAP)
        elif _shift(matches) < SMALL_SHIFT * width and target + LONG_GAP in run:
            longer = pair(target, LONG_GAP)
            matches = longer if len(longer[0]) >= 2 * FEWEST else matches
        if len(matches[0]) >= 2 * FEWEST and _shift(matches) > STANDING * width:
            found.append(matches)
    return found


def _shift(matches: tuple[np.ndarray, np.ndarray]) -> float:
    """Median displacement of matches, pixels."""
    return float(np.median(np.linalg.norm(matches[1] - matches[0], axis=1)))


def times(K: np.ndarray, factor: float) -> np.ndarray:
    """Intrinsics (3, 3) with fx and fy times `factor`."""
    return K * np.array([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
