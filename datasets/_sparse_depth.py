"""Sparse depth that keeps its points when an image is resized or cropped, and loses some on purpose.

A LiDAR map has values at a few per cent of its pixels. A resize by the nearest pixel skips most of them and
moves the others. Here each value goes to the pixel that contains it:

    x' = floor((x + 0.5) s - offset),     of several values that meet in a pixel the nearest counts

Published completion numbers depend on it: PackNet-SAN's result on DDAD needs a resize that keeps points.
"""

from __future__ import annotations

import numpy as np

from datasets.exported_depth import SparseDepth
from utils import InputError, nearest_name

RULES = ("points", "packnet", "nearest")
BEAMS = 64  # beams of the HDL-64E, KITTI's LiDAR


def resize_sparse_depth(depth: np.ndarray, size: tuple[int, int], rule: str = "points") -> np.ndarray:
    """A depth map at another size.

    Args:
        depth: (..., h, w) metres, 0 where unknown.
        size: height and width of the result.
        rule: `points`, as described above. `packnet`: PackNet-SfM's resize for training and validation, x' =
            floor(x s), where the last value of a pixel counts, in row-major order. `nearest`: its resize for
            tests, the nearest pixel of OpenCV, which thins the points.

    Returns:
        (..., height, width) of the same type.

    Raises:
        InputError: an unknown rule.
    """
    if rule not in RULES:
        raise InputError(f"there is no rule '{rule}' for sparse depth{nearest_name(rule, RULES)}")
    (old_height, old_width), (height, width) = depth.shape[-2:], size
    if (old_height, old_width) == (height, width):
        return depth.copy()
    if rule == "nearest":
        rows = np.arange(height) * old_height // height
        columns = np.arange(width) * old_width // width
        return depth[..., rows[:, None], columns]
    scale = height / old_height, width / old_width
    return move_points(depth, size, scale, half=0.5 if rule == "points" else 0.0, nearest=rule == "points")


def resize_points(depth: SparseDepth, size: tuple[int, int], rule: str = "points") -> np.ndarray:
    """Same as `resize_sparse_depth` of the map, (N, height, width), from its known pixels."""
    if rule == "nearest" or depth.shape[1:] == tuple(size):
        return resize_sparse_depth(depth.dense(), size, rule)
    scale = size[0] / depth.shape[1], size[1] / depth.shape[2]
    return place_points(depth, size, scale, half=0.5 if rule == "points" else 0.0, nearest=rule == "points")


def crop_sparse_depth(depth: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The part of a depth map (..., h, w) that begins at (top, left); 0 where it goes beyond the map."""
    return move_points(depth, (height, width), offset=(top, left))


def move_points(
    depth: np.ndarray,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    offset: tuple[float, float] = (0.0, 0.0),
    half: float = 0.5,
    nearest: bool = True,
) -> np.ndarray:
    """Each known value at its pixel in a map that is resized by `scale`, then cropped at `offset`.

    Args:
        depth: (..., h, w) metres, 0 where unknown.
        size: height and width of the result.
        scale: new pixels per old one, along y and x.
        offset: y and x of the result's first pixel, in new pixels.
        half: position of a value in its pixel: 0.5 is the centre.
        nearest: keep the nearest of several values in a pixel; False: the last.

    Returns:
        (..., height, width); values that leave the map are lost.
    """
    flat = depth.reshape(-1)
    known = np.flatnonzero(flat)
    count = depth.size // (depth.shape[-2] * depth.shape[-1])
    shape = count, *depth.shape[-2:]
    result = place_points(SparseDepth(shape, known, flat[known]), size, scale, offset, half, nearest)
    return result.reshape(*depth.shape[:-2], *size)


def place_points(
    depth: SparseDepth,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    offset: tuple[float, float] = (0.0, 0.0),
    half: float = 0.5,
    nearest: bool = True,
) -> np.ndarray:
    """Same as `move_points` of the known pixels of a map, (N, height, width); its zeros are never read."""
    height, width = depth.shape[1:]
    lines, columns = np.divmod(depth.indices, width)
    maps, rows = np.divmod(lines, height)
    metres = depth.metres
    y, x = (  # of each row and column, then of each point
        np.floor((np.arange(old) + half) * factor - start).astype(np.int64)
        for old, factor, start in zip((height, width), scale, offset)
    )
    outside = ((y < 0) | (y >= size[0])).any() or ((x < 0) | (x >= size[1])).any()
    y, x = y[rows], x[columns]
    if outside:
        inside = np.flatnonzero((y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1]))
        maps, y, x, metres = maps[inside], y[inside], x[inside], metres[inside]
    places = (maps * size[0] + y) * size[1] + x
    result = np.zeros((depth.shape[0], *size), metres.dtype)
    if not nearest:  # numpy keeps the last of several assignments to one place
        result.reshape(-1)[places] = metres
        return result
    result[:] = np.inf
    np.minimum.at(result.reshape(-1), places, metres)
    result[np.isinf(result)] = 0
    return result


def keep_points(depth: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A depth map with `count` of its known pixels, chosen at random; all of them if it has fewer.

    Args:
        depth: (..., h, w) metres, 0 where unknown; each (h, w) map is drawn from on its own.
        count: known pixels to keep in each.
        rng: source of the random numbers.

    Raises:
        InputError: `count` is below 1.
    """
    if count < 1:
        raise InputError(f"the number of depth points to keep must be at least 1, got {count}")
    flat = depth.reshape(-1, depth.shape[-2] * depth.shape[-1])
    result = np.zeros_like(flat)
    for old, new in zip(flat, result):
        known = np.flatnonzero(old)
        kept = rng.permutation(known)[:count]
        new[kept] = old[kept]
    return result.reshape(depth.shape)


def keep_beams(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    beams: int,
    rng: np.random.Generator | None = None,
    of: int = BEAMS,
) -> np.ndarray:
    """A depth map with every n-th of the LiDAR's beams, as a LiDAR of fewer beams would give it.

    Beams are told apart by their elevation as seen from the camera, in `of` equal steps between the lowest
    and the highest known point. LiDAR and camera are apart, so a beam at the border of two steps may be cut.

    Args:
        depth: (h, w) metres along the optical axis, 0 where unknown.
        intrinsics: (3, 3) pixels at h x w.
        beams: how many of them to keep, evenly spaced.
        rng: draws which of n evenly spaced sets is kept; the first if None.
        of: beams that the map has.

    Raises:
        InputError: `beams` is not in [1, of].
    """
    if not 1 <= beams <= of:
        raise InputError(f"the number of beams to keep is from 1 to {of}, got {beams}")
    rows, columns = np.nonzero(depth)
    result = np.zeros_like(depth)
    if not len(rows):
        return result
    x = (columns - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (rows - intrinsics[1, 2]) / intrinsics[1, 1]
    elevation = np.arctan2(-y, np.hypot(x, 1))
    low, high = elevation.min(), elevation.max()
    beam = np.rint((elevation - low) / max(high - low, 1e-9) * (of - 1))
    step = of / beams
    first = 0 if rng is None else int(rng.integers(max(1, int(step))))
    kept = np.floor(np.arange(beams) * step).astype(int) + first
    chosen = np.isin(beam, kept)
    result[rows[chosen], columns[chosen]] = depth[rows[chosen], columns[chosen]]
    return result
