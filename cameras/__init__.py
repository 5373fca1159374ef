"""Cameras: the ray of each pixel, and the pixel of each point.

    point = ray(pixel) * depth,     pixel = project(point),     project(ray(pixel) * depth) = pixel

A camera is a dataclass of tensors with B rows, so that it travels in a `structures.Batch`. The rays of
`Pinhole` and `BrownConrady` have z = 1: depth is measured along the optical axis. Models with a field of view
beyond 90 degrees from it (`KannalaBrandt`, `Unified`, `DoubleSphere`, `RaySurface`) have unit rays: depth is
the distance from the camera.

    sampling_grid(depth, camera_target, camera_source, T_source_from_target)

is the only function that view synthesis calls; between pinholes it is `layers.sampling_grid`.
"""

from __future__ import annotations

import torch
from torch import Tensor

import layers
from cameras._base import Camera, Parametric, Pinhole
from cameras._calibration_files import find_calibration, fitting_camera, pinhole_of, read_calibration
from cameras._files import CAMERAS, read_camera, write_camera
from cameras._models import BrownConrady, DoubleSphere, KannalaBrandt, Unified
from cameras._ray_surface import RaySurface
from devices import constants

__all__ = [
    "CAMERAS",
    "BrownConrady",
    "Camera",
    "DoubleSphere",
    "KannalaBrandt",
    "Parametric",
    "Pinhole",
    "RaySurface",
    "Unified",
    "find_calibration",
    "fitting_camera",
    "pinhole_of",
    "read_calibration",
    "read_camera",
    "sampling_grid",
    "stacked_grid",
    "write_camera",
]

OUTSIDE = -2.0  # normalised coordinate of a pixel that the source does not see; the image is [-1, 1]


def sampling_grid(
    depth: Tensor, camera_target: Camera, camera_source: Camera, T_source_from_target: Tensor
) -> Tensor:
    """Source coordinates of each target pixel, for `grid_sample`.

    Args:
        depth: (B, 1, H, W) metres, along the optical axis or along the ray; see `Camera.depth_is_distance`.
        camera_target: cameras of the B targets, at H x W.
        camera_source: cameras of the B sources, at the same size.
        T_source_from_target: (B, 4, 4).

    Returns:
        (B, H, W, 2), x then y; the centres of the corner pixels are at -1 and 1. Pixels without a ray, and
        points that the source cannot see at any pixel, are at (-2, -2). Between pinholes, points behind the
        source keep the coordinates of the projection, as in `layers.sampling_grid`.
    """
    if isinstance(camera_target, Pinhole) and isinstance(camera_source, Pinhole):
        return layers.sampling_grid(
            depth, camera_target.intrinsics, T_source_from_target, camera_source.intrinsics
        )
    return _grid(camera_target.rays(*depth.shape[-2:]), depth, camera_source, T_source_from_target)


def stacked_grid(
    depth: Tensor,
    intrinsics: Tensor,
    T_source_from_target: Tensor,
    camera: Camera | None,
    size: tuple[int, int],
) -> Tensor:
    """The grid of S sources by the same camera as the B targets, source by source.

    Args:
        depth: (S·B, 1, h, w).
        intrinsics: (S·B, 3, 3) pixels at h x w; used if `camera` is None.
        T_source_from_target: (S·B, 4, 4).
        camera: camera of the B targets, `Batch.camera`; None for pinholes.
        size: height and width of the images of `camera`, which is resized to h x w.

    Returns:
        (S·B, h, w, 2), see `sampling_grid`.
    """
    if camera is None or isinstance(camera, Pinhole):
        return layers.sampling_grid(depth, intrinsics, T_source_from_target)
    height, width = depth.shape[-2:]
    if (height, width) != tuple(size):
        camera = camera.resized(tuple(size), (height, width))
    count = len(depth) // camera.rows
    rays = camera.rays(height, width).repeat(count, 1, 1)
    return _grid(rays, depth, camera.repeat(count), T_source_from_target)


def _grid(rays: Tensor, depth: Tensor, camera_source: Camera, T_source_from_target: Tensor) -> Tensor:
    """`sampling_grid` from the target's rays (B, 3, P)."""
    height, width = depth.shape[-2:]
    points = rays * depth.flatten(2)
    points = T_source_from_target[:, :3, :3] @ points + T_source_from_target[:, :3, 3:]
    pixels, valid = camera_source.project(points)
    valid = valid & (rays.detach() != 0).any(1)
    grid = pixels * (2 / constants([width - 1, height - 1], like=pixels))[:, None] - 1
    grid = torch.where(valid[:, None], grid, OUTSIDE)
    return grid.transpose(1, 2).unflatten(1, (height, width))
