"""A vehicle with six cameras and a LiDAR, for the layouts of surround datasets."""

from __future__ import annotations

import dataclasses

import numpy as np

from datasets.synthetic import Camera, View, World, rotation
from tools.layouts._base import looking_ahead

# Of each camera, in ring order: heading (degrees to the left), x and y on the vehicle (metres), focal length
# (of the width), and how much of the image's height its own vehicle takes at the lowest point.
HEADINGS = (0, 57, 118, 180, 242, 303)
PLACES = ((1.5, 0.0), (1.4, 0.45), (1.0, 0.45), (0.0, 0.0), (1.0, -0.45), (1.4, -0.45))
FOCALS = (0.72, 0.55, 0.55, 0.55, 0.55, 0.55)
BODIES = (0.0, 0.10, 0.16, 0.12, 0.16, 0.10)
HEIGHT = 1.55  # metres above the ground


class SurroundRig:
    """Six cameras in ring order with overlapping views, and a LiDAR on the roof; the origin is on the ground.

    Args:
        height: height of the images, pixels.
        width: width of the images, pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rig_from_lidar = np.eye(4)
        self.rig_from_lidar[:3, 3] = 0.9, 0.0, 1.84

    def camera(self, number: int) -> Camera:
        """Camera 0 to 5; their intrinsics differ slightly."""
        focal = FOCALS[number] * self.width
        centre = (
            (self.width - 1) / 2 + 0.004 * number * self.width,
            (self.height - 1) / 2 - 0.01 * self.height,
        )
        return Camera(
            np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), self.width, self.height
        )

    def rig_from_camera(self, number: int) -> np.ndarray:
        """(4, 4) rig_from_camera, metres."""
        heading = np.radians(HEADINGS[number])
        place = looking_ahead(0, 0, 0)
        rig_from_camera = rotation(heading, 0.01 * (number % 3 - 1), 0.006 * (number % 2)) @ place
        rig_from_camera[:3, 3] = *PLACES[number], HEIGHT
        return rig_from_camera

    def own_vehicle(self, number: int) -> np.ndarray:
        """(H, W) bool, the ego mask of a camera: a bulge at the bottom of the image."""
        if not BODIES[number]:
            return np.zeros((self.height, self.width), bool)
        across = (np.arange(self.width) + 0.5) / self.width - 0.5
        top = self.height * (1 - BODIES[number] * (1 - (1.6 * across) ** 2))
        return np.arange(self.height)[:, None] >= top[None]

    def view(self, world: World, number: int, time: float) -> View:
        """The view of camera `number`; depth is 0 where its own vehicle hides the scene."""
        view = world.render(self.camera(number), world.ego_pose(time) @ self.rig_from_camera(number), time)
        own = self.own_vehicle(number)
        shade = np.linspace(70, 130, self.width)[None, :, None] * np.array([0.9, 0.95, 1.0])
        paint = np.broadcast_to(
            shade + 8 * np.sin(np.arange(self.height) / 2)[:, None, None], view.image.shape
        )
        return dataclasses.replace(
            view,
            image=np.where(own[..., None], paint, view.image).astype(np.uint8),
            depth=np.where(own, 0, view.depth).astype(np.float32),
        )

    def scan(self, world: World, time: float) -> np.ndarray:
        """(K, 4) float32 in the LiDAR's frame: x, y, z in metres, reflectance."""
        return world.scan(world.ego_pose(time) @ self.rig_from_lidar, time)


def quaternion(rotation: np.ndarray) -> list[float]:
    """w, x, y, z of length 1, with w >= 0, of a (3, 3) rotation."""
    # It is the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix, at any angle.
    r = rotation
    symmetric = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], 0, 0, 0],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0, 0],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    q = np.linalg.eigh(symmetric, UPLO="L")[1][:, -1]
    return (q if q[0] >= 0 else -q).tolist()
