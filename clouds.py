"""Coloured point clouds of depth maps, and PLY files of them.

    point = depth K^-1 (x, y, 1)

Where a network blurs depth across the edge of an object, the points in between float in the air. They are
left out: inverse depth is linear on every plane, so a neighbourhood of a pixel that deviates from a linear
fit contains an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from files import writing


def point_cloud(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    image: np.ndarray,
    tolerance: float = 0.02,
    radius: int | None = None,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Coloured points of a depth map, without the blurred edges between foreground and background.

    Args:
        depth: (H, W) along the optical axis, any unit.
        intrinsics: (3, 3) pixels at H x W.
        image: (H, W, 3) uint8 RGB.
        tolerance: largest value of `off_plane` at which a point is kept; infinite keeps all points.
        radius: half width of the neighbourhood, pixels; W / 160 if not given, which is 4 pixels of a network
            640 wide and about the width of a blurred edge.
        kept: (H, W) bool, a further condition for a point to be kept.

    Returns:
        (P, 3) float32 in the unit of `depth`: x right, y down, z forward. (P, 3) uint8 RGB.
    """
    height, width = depth.shape
    y, x = np.mgrid[0:height, 0:width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T
    even = off_plane(1 / depth, radius or max(2, round(width / 160))) <= tolerance
    kept = even if kept is None else even & kept
    return (rays[kept] * depth[kept][:, None]).astype(np.float32), image[kept]


def surround_cloud(
    depths: Sequence[np.ndarray],
    intrinsics: Sequence[np.ndarray],
    images: Sequence[np.ndarray],
    rig_from_camera: Sequence[np.ndarray],
    ego_masks: Sequence[np.ndarray] | None = None,
    farthest: float = 60.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Coloured points of all cameras of a rig, in the vehicle's frame.

    Args:
        depths: (h, w) metres along each camera's optical axis.
        intrinsics: (3, 3) pixels at h x w.
        images: (h, w, 3) uint8 RGB.
        rig_from_camera: (4, 4) extrinsics of each camera, metres.
        ego_masks: (h, w) bool, True where a camera sees its own vehicle; these pixels are left out.
        farthest: largest depth of a point, metres; beyond it is mostly sky.

    Returns:
        (P, 3) float32 metres: x forward, y left, z up. (P, 3) uint8 RGB.
    """
    points, colours = [], []
    for camera, (depth, K, image, T) in enumerate(zip(depths, intrinsics, images, rig_from_camera)):
        shown = depth <= farthest
        if ego_masks is not None:
            shown &= ~ego_masks[camera]
        own, paint = point_cloud(depth, K, image, kept=shown)
        points.append(own @ T[:3, :3].T + T[:3, 3])
        colours.append(paint)
    return np.concatenate(points).astype(np.float32), np.concatenate(colours)


def off_plane(inverse_depth: np.ndarray, radius: int) -> np.ndarray:
    """Deviation of each pixel's neighbourhood from a plane, relative to its inverse depth: (H, W).

    It is the root mean square residual of a linear fit over the (2 radius + 1) square. On a plane it is 0 at
    any slant and distance, because inverse depth is linear there.
    """
    import cv2

    # An odd reflection continues a linear function beyond the border.
    values = np.pad(np.asarray(inverse_depth, np.float64), radius, "reflect", reflect_type="odd")
    offsets = np.arange(-radius, radius + 1.0)
    mean_of = np.full(len(offsets), 1 / len(offsets))
    spread = np.mean(offsets**2)

    def average(of: np.ndarray, along_x: np.ndarray = mean_of, along_y: np.ndarray = mean_of) -> np.ndarray:
        return cv2.sepFilter2D(of, cv2.CV_64F, along_x, along_y)[radius:-radius, radius:-radius]

    mean = average(values)
    slope_x, slope_y = average(values, offsets * mean_of), average(values, mean_of, offsets * mean_of)
    residual = average(values**2) - mean**2 - (slope_x**2 + slope_y**2) / spread
    return np.sqrt(np.maximum(residual, 0)) / mean


def write_ply(
    path: str | Path,
    points: np.ndarray,
    colours: np.ndarray,
    unit: str = "",
    axes: str = "x right, y down, z forward",
) -> None:
    """Write a point cloud as binary PLY, which MeshLab, CloudCompare, Blender and Open3D read.

    Args:
        path: the file to write.
        points: (P, 3).
        colours: (P, 3) uint8 RGB.
        unit: unit of the points, in words, for the header.
        axes: directions of the axes, in words, for the header.

    Raises:
        InputError: the file cannot be written.
    """
    layout = [(axis, "<f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")]
    vertices = np.empty(len(points), layout)
    for n, axis in enumerate("xyz"):
        vertices[axis] = points[:, n]
    for n, colour in enumerate(("red", "green", "blue")):
        vertices[colour] = colours[:, n]
    header = ["ply", "format binary_little_endian 1.0", f"comment {axes}"]
    header += [f"comment unit: {unit}"] if unit else []
    header += [f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz")]
    header += [*(f"property uchar {colour}" for colour in ("red", "green", "blue")), "end_header"]
    with writing(path) as temporary, open(temporary, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
