"""Two images of one scene: SIFT features, their matches, epipolar lines, triangulation.

One convention throughout, with images a and b and the pose T_b_from_a = (R, t):

    x_b ~ K_b (R K_a^-1 x_a + t / depth_a)                  projection of a pixel of a with its depth
    F = K_b^-T [t]x R K_a^-1,   x_b^T F x_a = 0             epipolar constraint (Hartley and Zisserman, ch. 9)

Pixels are (K, 2), x and y; matrices may have leading batch dimensions where the docstring says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

BLOCK = 512  # descriptors that are compared at a time, which bounds the memory


@dataclass(frozen=True)
class Features:
    """K features of an image: points (K, 2) in pixels, descriptors (K, 128) of whole numbers in float32."""

    points: np.ndarray
    descriptors: np.ndarray

    def at(self, chosen: np.ndarray) -> Features:
        """The features where `chosen` (K,) is true."""
        return Features(self.points[chosen], self.descriptors[chosen])


# ------------------------------------------------------------------------------------------------ matching


def sift_features(
    grey: np.ndarray, contrast: float, edge: float = 10, most: int = 0, region: np.ndarray | None = None
) -> Features:
    """SIFT features of (H, W) uint8.

    Args:
        grey: the image.
        contrast: threshold on the contrast; a larger one finds fewer features.
        edge: threshold on edge-like features; a larger one finds more.
        most: the strongest so many; 0 for all.
        region: (H, W) uint8, 255 where a feature may lie; the pixel that contains the point decides.
    """
    detector = cv2.SIFT_create(most, contrastThreshold=contrast, edgeThreshold=edge)
    # OpenCV reads the mask at the nearest pixel: dilated by a pixel, it keeps all; the rule is applied below.
    mask = None if region is None else cv2.dilate(region, np.ones((3, 3), np.uint8))
    keypoints, descriptors = detector.detectAndCompute(grey, mask)
    points = cv2.KeyPoint_convert(keypoints) if keypoints else np.zeros((0, 2), np.float32)
    descriptors = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
    found = Features(points.astype(np.float64), descriptors)
    if region is None:
        return found
    return found.at(region[points[:, 1].astype(int), points[:, 0].astype(int)] > 0)


def match(a: Features, b: Features, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Matches that pass the ratio test, each point of `a` once: indices in `a` and in `b`, (M,) each.

    SIFT describes a point once for each orientation; of such consecutive matches the nearest is kept.

    Args:
        ratio: the nearest descriptor must be nearer than this times the second nearest (Lowe 2004).
    """
    if len(a.points) == 0 or len(b.points) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    nearest, first, second = nearest_two(a.descriptors, b.descriptors)
    kept: list[int] = []
    last = None
    for query in np.flatnonzero(first < ratio * second):
        if last is None or (a.points[query] != a.points[last]).any():
            kept.append(query)
        elif first[last] > first[query]:
            kept[-1] = query
        last = query
    chosen = np.array(kept, int)
    return chosen, nearest[chosen]


def match_mutually(a: Features, b: Features, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Matches that pass the ratio test and are each other's nearest: indices in `a` and in `b`, (M,) each."""
    if min(len(a.points), len(b.points)) < 2:
        return np.zeros(0, int), np.zeros(0, int)
    nearest, first, second = nearest_two(a.descriptors, b.descriptors)
    back, _, _ = nearest_two(b.descriptors, a.descriptors)
    chosen = np.flatnonzero((first < ratio * second) & (back[nearest] == np.arange(len(nearest))))
    return chosen, nearest[chosen]


def nearest_two(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of `a` the index of its nearest row of `b`, and the distances of the nearest two.

    Descriptors are whole numbers up to 255, so |a - b|^2 = |a|^2 + |b|^2 - 2 a.b is exact in float32: the
    result equals a comparison one by one and is several times faster.
    """
    # A further column holds -|b|^2 / 2, so that the largest product a.b - |b|^2 / 2 is the nearest.
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
    first, second = np.sqrt(np.maximum(squared, 0)).T
    return nearest, first, second


# ------------------------------------------------------------------------------------------ epipolar lines


def homogeneous(points: np.ndarray) -> np.ndarray:
    """(K, 2) pixels to (K, 3) with a column of ones."""
    return np.column_stack([points, np.ones(len(points))])


def cross_matrix(t: np.ndarray) -> np.ndarray:
    """(..., 3) to (..., 3, 3), the matrix [t]x of the cross product with t."""
    x, y, z = np.moveaxis(t, -1, 0)
    zero = np.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, -1).reshape(*t.shape[:-1], 3, 3)


def fundamental(K_a: np.ndarray, K_b: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(..., 3, 3) fundamental matrices of intrinsics (..., 3, 3) and motions R (..., 3, 3), t (..., 3)."""
    return np.swapaxes(np.linalg.inv(K_b), -1, -2) @ cross_matrix(t) @ R @ np.linalg.inv(K_a)


def line_distances(a: np.ndarray, b: np.ndarray, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of matches to their epipolar lines, pixels: (K,) in image a and (K,) in image b."""
    a, b = homogeneous(a), homogeneous(b)
    in_a, in_b = b @ F, a @ F.T
    error = np.abs((in_a * a).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return error / np.hypot(*in_a[:, :2].T), error / np.hypot(*in_b[:, :2].T)


def sampson_distances(a: np.ndarray, b: np.ndarray, F: np.ndarray) -> np.ndarray:
    """(..., K) signed distances of matches from F (..., 3, 3) to first order, pixels (Sampson)."""
    a, b = homogeneous(a), homogeneous(b)
    in_b, in_a = a @ np.swapaxes(F, -1, -2), b @ F
    norm = np.sqrt((in_b[..., :2] ** 2).sum(-1) + (in_a[..., :2] ** 2).sum(-1))
    return (b * in_b).sum(-1) / np.maximum(norm, 1e-12)


# ------------------------------------------------------------------------------------------- triangulation


def depth_along_rays(
    ray: np.ndarray, other_ray: np.ndarray, other_origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth at which two rays come closest, along the first, and the angle between them.

    depth = ((o x p1) . n) / |n|^2,  n = p0 x p1, for rays p0 from the origin and p1 from o. Wei et al. 2022
    label matches between cameras of a rig so.

    Args:
        ray: (K, 3) from the camera, z = 1.
        other_ray: (K, 3), any length, in the same frame.
        other_origin: (3,) metres, where the other rays start.

    Returns:
        (K,) metres, negative behind the camera and not finite for parallel rays; (K,) degrees.
    """
    normal = np.cross(ray, other_ray)
    squared = (normal**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (np.cross(other_origin, other_ray) * normal).sum(1) / squared
    angle = np.arctan2(np.sqrt(squared), (ray * other_ray).sum(1))
    return depth, np.degrees(angle)


def inverse_depths(
    a: np.ndarray, b: np.ndarray, K: np.ndarray, R: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth in image a of matches, by least squares of x_b x (R x_a + t / depth) = 0.

    Unlike `depth_along_rays` it is finite for points at infinity, where inverse depth is 0.

    Returns:
        (K,) inverse depths in units of 1 / |t|; (K,) pixels that a match moves per unit of inverse depth.
    """
    inverse = np.linalg.inv(K)
    turned = homogeneous(a) @ inverse.T @ R.T
    ray = homogeneous(b) @ inverse.T
    against, along = np.cross(ray, turned), np.cross(ray, t)
    square = np.maximum((along**2).sum(1), 1e-18)
    return -(against * along).sum(1) / square, K[0, 0] * np.sqrt(square)
