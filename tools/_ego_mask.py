"""Ego masks by motion: pixels of a camera's own vehicle do not change while the vehicle moves.

Of the frames between which the image moves, the change of a pixel is the 90th percentile of its distance to
its median over time. Road, houses and trees change. Bodywork does not, and neither does a blank sky. A still
region is therefore taken if it reaches the lower border of the image and ends abruptly, next to pixels that
do change. A region that reaches only the sides or the top must also be dark and have an outline that stays,
as a camera's housing has. Whatever such regions cut off from the rest of the image belongs to them, such as
glossy paint that mirrors the sky inside a dull trim.

Glossy paint that mirrors the scenery up to its edge changes as the scenery does; only its outline stays. In
one recording kerbs and skylines stay as well, but not in many: with frames of OUTLINE[0] recordings or more,
a region that is enclosed by a lasting outline is taken as well.
"""

from __future__ import annotations

import cv2
import numpy as np

STILL = 2.0, 0.04  # change of a still pixel by noise and exposure: grey levels, and share of the brightness
ABRUPT = 1.5  # least change just outside of the vehicle, in units of the above
LASTING = 4.0  # grey levels per pixel: gradient of an edge that stays
OUTLINE = 8, 6.0, 0.25  # recordings, grey levels per pixel, length as a share of the image width
LEAST = 0.002  # share of the image: smaller regions are dirt


def find_ego_mask(frames: np.ndarray, outlines: bool = False) -> np.ndarray:
    """The pixels where a moving camera sees its own vehicle.

    Args:
        frames: (T, H, W, 3) uint8 RGB, taken while the vehicle moves.
        outlines: use lasting outlines; the frames must come from many recordings.

    Returns:
        (H, W) bool.
    """
    median = np.median(frames, axis=0).astype(np.int16)
    distance = np.zeros(frames.shape[:3], np.int16)
    for channel in range(3):  # one at a time takes a third of the memory
        np.maximum(distance, np.abs(frames[..., channel] - median[..., channel]), out=distance)
    brightness = median.max(-1)
    change = np.percentile(distance, 90, axis=0) / (STILL[0] + STILL[1] * brightness)
    edges = edges_that_stay(frames)
    body = _framed(_of_the_vehicle(change, edges, brightness), cv2.MORPH_CLOSE, 1)
    own = _framed(_cut_off(body), cv2.MORPH_OPEN, 1)
    if outlines:
        # Opened further: an edge that encloses nothing is a line of a few pixels.
        walls = _framed(own | _long_edges(edges > OUTLINE[1]), cv2.MORPH_CLOSE, 2)
        enclosed = _framed(_cut_off(walls), cv2.MORPH_OPEN, 4)
        own |= _framed(enclosed, cv2.MORPH_ERODE, 1)  # edges are found on both sides of an outline
    return _large(own)


def edges_that_stay(frames: np.ndarray) -> np.ndarray:
    """(H, W) grey levels per pixel: the gradient that 80 % of the frames exceed, if its direction stays."""
    second, power, sizes = 0, 1e-3, []
    for frame in frames:
        grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.8)
        gradient = cv2.Scharr(grey, cv2.CV_32F, 1, 0) / 16 + 1j * cv2.Scharr(grey, cv2.CV_32F, 0, 1) / 16
        # Squared, the gradient has the same direction if the road beyond is brighter or darker.
        second, power = second + gradient**2, power + np.abs(gradient) ** 2
        sizes.append(np.abs(gradient))
    return np.percentile(np.stack(sizes), 20, axis=0) * np.abs(second) / power


def _of_the_vehicle(change: np.ndarray, edges: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """(H, W) bool, still regions (change up to 1) that reach the border and end abruptly: no road, no sky."""
    still = (change <= 1).astype(np.uint8)
    height, width = still.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(still, connectivity=4)
    lasting = cv2.dilate(edges, np.ones((3, 3))) > LASTING
    own = np.zeros(still.shape, bool)
    for label in range(1, count):
        left, top, across, down, area = stats[label]
        below = top + down == height
        beside = top == 0 or left == 0 or left + across == width
        if not (below or beside) or area < LEAST * still.size:
            continue
        region = labels == label
        around = cv2.dilate(region.astype(np.uint8), _disc(2)).astype(bool) & ~region
        if not around.any() or np.median(change[around]) < ABRUPT:
            continue
        dark = np.median(brightness[region]) < 0.5 * np.median(brightness)
        if (below and top > 0) or (dark and lasting[around].mean() > 0.6):
            own |= region
    return own


def _long_edges(edges: np.ndarray) -> np.ndarray:
    """(H, W) bool, edges that start at the image border and are OUTLINE[2] of its width long."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    height, width = edges.shape
    long = []
    for label in range(1, count):
        left, top, across, down, _ = stats[label]
        at_the_border = left == 0 or top == 0 or left + across == width or top + down == height
        if at_the_border and max(across, down) > OUTLINE[2] * width:
            long.append(label)
    return np.isin(labels, long)


def _cut_off(walls: np.ndarray) -> np.ndarray:
    """(H, W) bool, everything except the largest region between the walls, which is the scene."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~walls).astype(np.uint8), connectivity=4)
    if count == 1:
        return walls
    return labels != 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def _large(own: np.ndarray) -> np.ndarray:
    """The mask without regions that are too small to be a part of the vehicle."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=4)
    large = [label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= LEAST * own.size]
    return np.isin(labels, large)


def _framed(region: np.ndarray, operation: int, radius: int) -> np.ndarray:
    """Open, close or erode a region as if it continued beyond the image border."""
    margin = 2 * radius
    wide = cv2.copyMakeBorder(region.astype(np.uint8), *[margin] * 4, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(wide, operation, _disc(radius))
    return wide[margin:-margin, margin:-margin].astype(bool)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
