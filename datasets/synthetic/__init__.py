"""Synthetic scenes: streets and rooms rendered with known depth, poses, semantics and, outdoors, LiDAR.

A world is a ground plane and a few hundred solids (boxes and ellipsoids) along a gently curving street, all
random from one seed: houses, walls, trees, hedges, poles, parked and moving cars. `Room` is the indoor scene.
Rays are cast from the pixel centres, so depth is exact. Every surface has noise of several octaves, and an
octave whose cells become smaller than a few pixels is faded out,

    colour = base * (1 + contrast * sum_k fade(cell_k / footprint) * noise_k(u / cell_k, v / cell_k)),

with the footprint of a pixel on the surface known in closed form. Images are therefore band-limited: warping
one into another with ground-truth depth and pose leaves a small error wherever the world is static.
"""

from __future__ import annotations

import numpy as np

from ._paint import Paint
from ._rays import Solids, footprints_of, rotation, some, trace
from ._room import Room
from ._street import SKY, Street
from ._view import Camera, FisheyeCamera, View, render

__all__ = ["Camera", "FisheyeCamera", "Room", "View", "World", "rotation"]


class World:
    """A street to drive along; x forward, y left, z up, the ground at z = 0.

    Args:
        seed: seed of all random numbers; equal seeds give equal bytes.
        seconds: largest duration of the drive; the street extends beyond its end.
        traffic: cars on the lanes, `usual`, `dense` or `queues`; see `Street`.
    """

    def __init__(self, seed: int, seconds: float = 10.0, traffic: str = "usual") -> None:
        if seconds <= 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        self.seed, self.seconds = seed, seconds
        rng = np.random.default_rng([seed, 2016])
        self.street = Street(rng, traffic)
        self._draw_drive(rng)
        self.street.furnish(self.travelled(seconds), seconds)
        self._solids = Solids.of(self.street.solids)
        self._paint = Paint(np.random.default_rng([seed, 2017]), self.street)

    # The drive.

    def _draw_drive(self, rng: np.random.Generator) -> None:
        self.speed = rng.uniform(5, 12)
        self._surge = rng.uniform(0.0, 0.2), rng.uniform(0.3, 0.8), rng.uniform(0, 6.28)
        # Lateral sway, yaw, pitch, roll, heave: amplitude (m or rad), angular rate (1/s), phase.
        size = np.array([0.25, 0.012, 0.006, 0.005, 0.02]) * rng.uniform(0.4, 1.6, 5)
        rate = rng.uniform([0.4, 0.6, 2, 1, 3], [1, 2, 6, 4, 7])
        self._wobble = np.stack([size, rate, rng.uniform(0, 6, 5)])

    def travelled(self, time: float) -> float:
        """Metres along the street since time 0."""
        share, rate, phase = self._surge
        return self.speed * (time + share / rate * (np.sin(rate * time + phase) - np.sin(phase)))

    def ego_pose(self, time: float) -> np.ndarray:
        """(4, 4) world_from_rig; the rig stands on the ground, x forward, y left, z up."""
        sway, yaw, pitch, roll, heave = self._wobble[0] * np.sin(self._wobble[1] * time + self._wobble[2])
        x, y, heading = self.street.pose(self.travelled(time), self.street.lane + sway)
        world_from_rig = rotation(heading + yaw, pitch, roll)
        world_from_rig[:3, 3] = x, y, heave
        return world_from_rig

    # Rendering.

    def render(self, camera: Camera, world_from_camera: np.ndarray, time: float) -> View:
        """The world at `time` seconds from `camera` with the pose world_from_camera (4, 4)."""
        solids = self._at(time)
        return render(
            lambda u, v: self._shade(camera, world_from_camera, solids, u, v), camera.height, camera.width
        )

    def scan(
        self, world_from_lidar: np.ndarray, time: float, beams: int = 64, azimuths: int = 900
    ) -> np.ndarray:
        """A full turn of a spinning LiDAR, without motion during the turn.

        Returns:
            (P, 4) float32: x forward, y left, z up in metres, and reflectance in [0, 1].
        """
        elevation = np.radians(np.linspace(2.0, -24.8, beams))[:, None]  # angles of the HDL-64E
        azimuth = np.linspace(np.pi, -np.pi, azimuths, endpoint=False)[None]
        flat = np.cos(elevation)
        x, y, z = np.broadcast_arrays(flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation))
        rays = np.stack([x, y, z]).reshape(3, -1)
        solids = self._at(time)
        directions = (world_from_lidar[:3, :3] @ rays).astype(np.float32)
        distance, solid = trace(world_from_lidar[:3, 3], directions, solids)
        hit = (distance < 120).nonzero()[0]
        reflectance = np.where(solid[hit] >= 0, solids.colour[solid[hit]].mean(1), self._paint.asphalt.mean())
        return np.concatenate([rays[:, hit] * distance[hit], reflectance[None]]).T.astype(np.float32)

    def _shade(
        self, camera: Camera, world_from_camera: np.ndarray, solids: Solids, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The outputs that `render` needs at pixels (u, v)."""
        rotate, origin = world_from_camera[:3, :3], world_from_camera[:3, 3]
        directions = (rotate @ camera.directions(u, v)).astype(np.float32)
        step = camera.steps(rotate, u, v)
        depth, solid = trace(origin, directions, solids)
        colour = np.empty((len(u), 3), np.float32)
        label = np.full(len(u), SKY)
        face = np.zeros(len(u), np.int64)
        sky, ground, hit = (kind.nonzero()[0] for kind in (solid == -2, solid == -1, solid >= 0))
        colour[sky] = self._paint.sky(directions[:, sky])
        if len(ground):
            points = origin[:, None] + depth[ground] * directions[:, ground]
            footprints = footprints_of(depth[ground], directions[:, ground], some(step, ground), 2)
            colour[ground], label[ground] = self._paint.ground(points.astype(np.float32), footprints, solids)
        if len(hit):
            seen = origin, depth[hit], directions[:, hit], solid[hit], some(step, hit)
            colour[hit], face[hit] = self._paint.solids(*seen, solids)
            label[hit] = solids.label[solid[hit]]
        clear = np.exp(-depth / self._paint.haze)[:, None]
        clear[sky] = 1
        colour = colour * clear + self._paint.horizon * (1 - clear)
        depth[sky] = 0
        moving = (solid >= 0) & (solids.mover[solid] >= 0)
        return colour, depth, label, moving, (np.maximum(solid, -1) + 1) << 10 | label << 2 | face

    def _at(self, time: float) -> Solids:
        """The solids with their poses at `time`."""
        solids = self._solids
        centre, yaw = solids.centre.copy(), solids.yaw.copy()
        for m, mover in enumerate(self.street.movers):
            along = mover.along + mover.speed * time + (self.travelled(time) if mover.follows else 0)
            x, y, heading = self.street.pose(along, mover.across)
            if mover.across > 0:
                heading += np.pi
            c, s = np.cos(heading), np.sin(heading)
            of = solids.mover == m
            dx, dy, dz = solids.centre[of].T
            centre[of] = np.stack([x + c * dx - s * dy, y + s * dx + c * dy, dz], 1)
            yaw[of] = heading
        return solids.placed(centre, yaw)
