"""Cameras and rendering: one ray per pixel, nine for pixels on the border of two surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cameras import KannalaBrandt

from ._rays import borders

HALF_STEPS = ((0.5, 0.0), (0.0, 0.5))  # pixels in u and v


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        intrinsics: (3, 3) pixels; (0, 0) is a pixel's centre.
        width: pixels.
        height: pixels.
    """

    intrinsics: np.ndarray
    width: int
    height: int

    @classmethod
    def like_kitti(cls, height: int, width: int) -> Camera:
        """Focal lengths of 0.58 of the width, and a principal point close to the middle."""
        focal = 0.58 * width
        centre = ((width - 1) / 2 - 0.009 * width, (height - 1) / 2 - 0.03 * height)
        return cls(np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), width, height)

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(3, P) rays through pixels (u, v), x right, y down, z forward, with z = 1."""
        pixels = np.stack([u, v, np.ones_like(u)]).astype(np.float64)
        return np.linalg.inv(self.intrinsics) @ pixels

    def steps(self, rotate: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(2, 3, P or 1), the change of a ray, turned by `rotate` (3, 3), per pixel along u and v."""
        step = np.stack([rotate[:, 0] / self.intrinsics[0, 0], rotate[:, 1] / self.intrinsics[1, 1]])
        return step[:, :, None]


@dataclass(frozen=True)
class FisheyeCamera(Camera):
    """A Kannala-Brandt fisheye, 166 degrees wide from left to right; depth is the distance from the camera.

    Args:
        distortion: k1 to k4, see `cameras.KannalaBrandt`.
    """

    distortion: tuple[float, ...] = (0.03, -0.004, 0.0005, 0.0)

    @classmethod
    def of_size(cls, height: int, width: int) -> FisheyeCamera:
        """A camera whose pixels all have a ray, for images up to a square."""
        focal = 0.33 * width
        centre = ((width - 1) / 2 + 0.006 * width, (height - 1) / 2 - 0.01 * height)
        return cls(np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), width, height)

    @property
    def model(self) -> KannalaBrandt:
        """The same camera as a `cameras.Camera`."""
        return KannalaBrandt(
            torch.from_numpy(self.intrinsics)[None], torch.tensor([self.distortion], dtype=torch.float64)
        )

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(3, P) unit rays through pixels (u, v)."""
        pixels = torch.from_numpy(np.stack([u, v]).astype(np.float64))
        return self.model.unproject(pixels)[0].numpy()

    def steps(self, rotate: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        along = [self.directions(u + du, v + dv) - self.directions(u - du, v - dv) for du, dv in HALF_STEPS]
        return rotate @ np.stack(along)


@dataclass(frozen=True)
class View:
    """A rendered image with its ground truth.

    Args:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis, for a fisheye along the ray; 0 for the sky.
        semantics: (H, W) uint8 Cityscapes train ids.
        moving: (H, W) bool, True on moving objects.
    """

    image: np.ndarray
    depth: np.ndarray
    semantics: np.ndarray
    moving: np.ndarray


# Pixels u (P,), v (P,) → colour (P, 3), depth (P,), label (P,), moving (P,), and a number (P,) that differs
# between surfaces.
Shade = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


def render(shade: Shade, height: int, width: int) -> View:
    """A whole image, antialiased at the borders of surfaces."""
    v, u = (a.ravel() for a in np.mgrid[:height, :width])
    colour, depth, label, moving, surface = shade(u, v)
    edge = borders(surface.reshape(height, width)).ravel().nonzero()[0]
    if len(edge):  # only these pixels need nine rays
        dv, du = (a.reshape(-1, 1) / 3 for a in np.mgrid[-1:2, -1:2])
        fine = shade((u[edge] + du).ravel(), (v[edge] + dv).ravel())[0]
        colour[edge] = fine.reshape(9, -1, 3).mean(0)
    return View(
        image=(colour.clip(0, 1) * 255 + 0.5).astype(np.uint8).reshape(height, width, 3),
        depth=depth.reshape(height, width),
        semantics=label.astype(np.uint8).reshape(height, width),
        moving=moving.reshape(height, width),
    )
