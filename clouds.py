"""Coloured point clouds of depth maps, and PLY and glTF files of them.

    point = depth K^-1 (x, y, 1)

Where a network blurs depth across the edge of an object, the points in between float in the air. They are
left out: inverse depth is linear on every plane, so a neighbourhood of a pixel that deviates from a linear
fit contains an edge. Depth beyond FARTHEST times the median is mostly sky.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from files import writing
from utils import InputError

ENDINGS = (".ply", ".glb")
FARTHEST = 6.0  # times the median depth of an image; 60 m of a street whose median is 10 m
CAMERA_AXES, RIG_AXES = "x right, y down, z forward", "x forward, y left, z up"
GLTF_FROM = {  # glTF has y up, and its cameras look along -z
    CAMERA_AXES: np.diag([1.0, -1.0, -1.0]),
    RIG_AXES: np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]),
}


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


def below_sky(depth: np.ndarray) -> np.ndarray:
    """(H, W) bool, True for depth up to FARTHEST times the median; beyond it is mostly sky."""
    return depth <= FARTHEST * np.median(depth)


def write_cloud(
    path: str | Path, points: np.ndarray, colours: np.ndarray, unit: str = "", axes: str = CAMERA_AXES
) -> None:
    """Write a point cloud in the format of its ending, one of `ENDINGS`; arguments are those of
    `write_ply`.
    """
    (write_glb if Path(path).suffix == ".glb" else write_ply)(path, points, colours, unit, axes)


def write_glb(
    path: str | Path, points: np.ndarray, colours: np.ndarray, unit: str = "", axes: str = CAMERA_AXES
) -> None:
    """Write a point cloud as binary glTF, which browsers, Blender and office programs show.

    The points are turned to glTF's axes, y up, so that a viewer sees them as the camera did. Vertex colours
    of glTF are linear (specification 2.0, 3.7.2.1), here float32, which every reader takes; the material is
    unlit.

    Args:
        path: the file to write.
        points: (P, 3), at least one.
        colours: (P, 3) uint8 sRGB.
        unit: unit of the points, in words, an extra of the scene.
        axes: directions of the axes of `points`, `CAMERA_AXES` or `RIG_AXES`.

    Raises:
        InputError: no point, or the file cannot be written.
    """
    if not len(points):
        raise InputError(f"{path} is not written: no point is left of the cloud")
    turned = (points @ GLTF_FROM[axes].T).astype("<f4")
    shades = np.arange(256) / 255
    linear = np.where(shades <= 0.04045, shades / 12.92, ((shades + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    binary = turned.tobytes() + linear.astype("<f4")[colours].tobytes()
    content = json.dumps(_gltf(turned, unit)).encode()
    content += b" " * (-len(content) % 4)
    length = 12 + 8 + len(content) + 8 + len(binary)
    with writing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, length))
        file.write(struct.pack("<I4s", len(content), b"JSON") + content)
        file.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def _gltf(points: np.ndarray, unit: str) -> dict[str, Any]:
    """The JSON part of a glTF file that holds (P, 3) float32 points, then as many colours."""
    count = len(points)
    floats, vertices = 5126, 34962  # of OpenGL
    return {
        "asset": {"version": "2.0", "generator": "Parallax"},
        "scene": 0,
        "scenes": [{"nodes": [0], "extras": {"unit": unit}}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"mode": 0, "material": 0, "attributes": {"POSITION": 0, "COLOR_0": 1}}]}
        ],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "extensionsUsed": ["KHR_materials_unlit"],
        "buffers": [{"byteLength": 24 * count}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 12 * count, "target": vertices},
            {"buffer": 0, "byteOffset": 12 * count, "byteLength": 12 * count, "target": vertices},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": floats, "count": count, "type": "VEC3",
             "min": points.min(0).tolist(), "max": points.max(0).tolist()},
            {"bufferView": 1, "componentType": floats, "count": count, "type": "VEC3"},
        ],
    }  # fmt: skip


def write_ply(
    path: str | Path,
    points: np.ndarray,
    colours: np.ndarray,
    unit: str = "",
    axes: str = CAMERA_AXES,
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
