"""A world to train in: streets rendered with known depth, poses, semantics and LiDAR.

A world is a ground plane and a few hundred solids (boxes and ellipsoids) along a gently curving street,
drawn from one seed: houses, walls, trees, hedges, poles, parked and moving cars. Rays are cast from the
pixel centres, so depth is exact, and every surface carries noise of many octaves. An octave whose cells
shrink below a few pixels is faded out,

    colour = base * (1 + contrast * sum_k fade(cell_k / footprint) * noise_k(u / cell_k, v / cell_k)),

with the footprint of a pixel on the surface known in closed form. Pictures are therefore band-limited:
warping one into another with the true depth and pose leaves little error, wherever the world is static.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FAR = 250.0  # metres; what lies farther is sky
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, VEGETATION, TERRAIN, SKY, CAR = 0, 1, 2, 3, 4, 5, 8, 9, 10, 13
PLAIN, FACADE, LEAVES, BODY, CABIN = range(5)  # how a solid is painted
CELLS = 0.04 * 2.0 ** np.arange(9)  # metres, the noise octaves: 4 cm to 10 m
FINE = np.float32((1.5, 1.5, 1.4, 1.2, 1.0, 0.8, 0.6, 0.5, 0.4))  # their gains where the small prevails


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
        """Focal lengths 0.58 of the width, principal point close to the middle."""
        focal = 0.58 * width
        centre = ((width - 1) / 2 - 0.009 * width, (height - 1) / 2 - 0.03 * height)
        return cls(np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]]), width, height)

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(3, P) rays through pixels (u, v), x right, y down, z forward, with z = 1."""
        pixels = np.stack([u, v, np.ones_like(u)]).astype(np.float64)
        return np.linalg.inv(self.intrinsics) @ pixels


@dataclass(frozen=True)
class View:
    """What a camera sees.

    Args:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis; 0 for the sky.
        semantics: (H, W) uint8 Cityscapes train ids.
        moving: (H, W) bool, pixels on something that moves.
    """

    image: np.ndarray
    depth: np.ndarray
    semantics: np.ndarray
    moving: np.ndarray


@dataclass
class Solid:
    """A box or an ellipsoid, turned about the vertical. Lengths in metres, colours in [0, 1]."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    label: int
    colour: np.ndarray
    paint: int = PLAIN
    contrast: float = 0.2  # of the noise, each octave
    round: bool = False
    mover: int = -1  # index into World.movers; the centre is then relative to it
    pattern: tuple[float, float, float] = (3.0, 3.2, 0.5)  # windows: spacing u, spacing v, width / spacing


@dataclass(frozen=True)
class Mover:
    """A car on the street: `along` the street at time 0, `across` it, metres; `speed` m/s, signed.

    With `follows` the distance counts from the ego vehicle and the speed is relative to it.
    """

    along: float
    across: float
    speed: float
    follows: bool = False


class World:
    """A street to drive along; x forward, y left, z up, the ground at z = 0.

    Args:
        seed: every world has one; equal seeds give equal bytes.
        seconds: how long the drive is at most; the street is built that far and beyond.
    """

    def __init__(self, seed: int, seconds: float = 10.0) -> None:
        self.seed, self.seconds = seed, seconds
        rng = np.random.default_rng([seed, 2016])
        self._noise = _noise_table(np.random.default_rng([seed, 7]))
        self._draw_drive(rng)
        self._draw_light(rng)
        self.movers: list[Mover] = []
        self.solids: list[Solid] = []
        _Builder(self, rng).build()
        self._pack()

    # The drive.

    def _draw_drive(self, rng: np.random.Generator) -> None:
        self.speed = rng.uniform(5, 12)
        self._surge = rng.uniform(0.0, 0.2), rng.uniform(0.3, 0.8), rng.uniform(0, 6.28)
        bend = rng.uniform(0, 0.22)  # the largest slope of the street against the x axis
        self._wave = rng.uniform(90, 220) / 6.283, rng.uniform(0, 6.28)
        self._swing = bend * self._wave[0]
        self.road = rng.uniform(3.2, 5.6)  # metres, half its width
        self.lane = -self.road * rng.uniform(0.42, 0.55)
        # Lateral sway, yaw, pitch, roll, heave: amplitude (m or rad), angular rate (1/s), phase.
        size = np.array([0.25, 0.012, 0.006, 0.005, 0.02]) * rng.uniform(0.4, 1.6, 5)
        self._wobble = np.stack(
            [size, rng.uniform([0.4, 0.6, 2, 1, 3], [1, 2, 6, 4, 7]), rng.uniform(0, 6, 5)]
        )

    def travelled(self, time: float) -> float:
        """Metres along the street since time 0."""
        share, rate, phase = self._surge
        return self.speed * (time + share / rate * (np.sin(rate * time + phase) - np.sin(phase)))

    def centre_line(self, x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """The street's y and its slope dy/dx at x; the drive starts at x = 0."""
        length, phase = self._wave
        return (
            self._swing * (np.sin(x / length + phase) - np.sin(phase)),
            self._swing / length * np.cos(x / length + phase),
        )

    def place(self, along: float, across: float) -> tuple[float, float, float]:
        """x, y and heading of a point `along` the street and `across` it to the left, metres, radians."""
        y, slope = self.centre_line(along)
        heading = float(np.arctan(slope))
        return along - across * np.sin(heading), float(y) + across * np.cos(heading), heading

    def ego_pose(self, time: float) -> np.ndarray:
        """(4, 4) world_from_rig; the rig stands on the ground, x forward, y left, z up."""
        sway, yaw, pitch, roll, heave = self._wobble[0] * np.sin(self._wobble[1] * time + self._wobble[2])
        x, y, heading = self.place(self.travelled(time), self.lane + sway)
        world_from_rig = rotation(heading + yaw, pitch, roll)
        world_from_rig[:3, 3] = x, y, heave
        return world_from_rig

    # The light.

    def _draw_light(self, rng: np.random.Generator) -> None:
        moods = (  # sun, ambient, zenith, horizon, haze distance
            ((0.72, 0.67, 0.58), (0.58, 0.61, 0.67), (0.29, 0.53, 0.86), (0.78, 0.88, 0.95), 420),  # noon
            ((0.92, 0.68, 0.44), (0.58, 0.56, 0.60), (0.42, 0.56, 0.80), (0.98, 0.84, 0.68), 300),  # evening
            ((0.34, 0.34, 0.34), (0.78, 0.80, 0.83), (0.66, 0.73, 0.80), (0.87, 0.90, 0.92), 220),  # overcast
            ((0.76, 0.73, 0.68), (0.56, 0.60, 0.66), (0.20, 0.45, 0.80), (0.72, 0.86, 0.93), 500),  # clear
        )
        mood = moods[rng.integers(len(moods))]
        self._sun, self._ambient, self._zenith, self._horizon = (np.float32(c) for c in mood[:4])
        self._haze = mood[4]
        azimuth, height = rng.uniform(0, 6.28), rng.uniform(0.45, 1.0)
        self._to_sun = np.array(
            [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
        )
        self._clouds = rng.uniform(0.15, 0.9), rng.uniform(0, 50)
        self._asphalt = np.float32(rng.uniform(0.30, 0.48) * np.array([1, 1, rng.uniform(0.96, 1.06)]))
        self._paving = np.float32(rng.uniform(0.52, 0.68) * np.array([1.03, 1, rng.uniform(0.9, 1)]))
        self._grass = np.float32(
            np.array([0.36, 0.50, 0.22]) * rng.uniform([0.8, 0.9, 0.8], [1.25, 1.05, 1.1])
        )

    # Rendering.

    def render(self, camera: Camera, world_from_camera: np.ndarray, time: float) -> View:
        """The world at `time` seconds through `camera`, placed by world_from_camera (4, 4)."""
        height, width = camera.height, camera.width
        solids = self._at(time)
        v, u = (a.ravel() for a in np.mgrid[:height, :width])
        colour, depth, solid, surface = self._look(camera, world_from_camera, solids, u, v)
        edge = _borders(surface.reshape(height, width)).ravel().nonzero()[0]
        # Only pixels where two surfaces meet need more than the ray through their centre: nine.
        dv, du = (a.reshape(-1, 1) / 3 for a in np.mgrid[-1:2, -1:2])
        fine = self._look(camera, world_from_camera, solids, (u[edge] + du).ravel(), (v[edge] + dv).ravel())[
            0
        ]
        colour[edge] = fine.reshape(9, -1, 3).mean(0)
        return View(
            image=(colour.clip(0, 1) * 255 + 0.5).astype(np.uint8).reshape(height, width, 3),
            depth=depth.reshape(height, width),
            semantics=(surface >> 2 & 255).astype(np.uint8).reshape(height, width),
            moving=((solid >= 0) & (solids.mover[solid] >= 0)).reshape(height, width),
        )

    def scan(
        self, world_from_lidar: np.ndarray, time: float, beams: int = 64, azimuths: int = 900
    ) -> np.ndarray:
        """A full turn of a spinning LiDAR, as if taken at one instant.

        Returns:
            (P, 4) float32: x forward, y left, z up in metres, and reflectance in [0, 1].
        """
        elevation = np.radians(np.linspace(2.0, -24.8, beams))[:, None]  # those of the HDL-64E
        azimuth = np.linspace(np.pi, -np.pi, azimuths, endpoint=False)[None]
        rays = np.stack(
            np.broadcast_arrays(
                np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
            )
        ).reshape(3, -1)
        solids = self._at(time)
        directions = (world_from_lidar[:3, :3] @ rays).astype(np.float32)
        distance, solid = _trace(world_from_lidar[:3, 3], directions, solids)
        hit = (distance < 120).nonzero()[0]
        reflectance = np.where(solid[hit] >= 0, solids.colour[solid[hit]].mean(1), self._asphalt.mean())
        return np.concatenate([rays[:, hit] * distance[hit], reflectance[None]]).T.astype(np.float32)

    def _look(
        self, camera: Camera, world_from_camera: np.ndarray, solids: _Packed, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Colour (P, 3), depth (P,), solid (P,) (-1 ground, -2 sky) and a surface number (P,) of pixels."""
        rotate, origin = world_from_camera[:3, :3], world_from_camera[:3, 3]
        directions = (rotate @ camera.directions(u, v)).astype(np.float32)
        step = np.stack([rotate[:, 0] / camera.intrinsics[0, 0], rotate[:, 1] / camera.intrinsics[1, 1]])
        depth, solid = _trace(origin, directions, solids)
        colour = np.empty((len(u), 3), np.float32)
        label = np.full(len(u), SKY)
        face = np.zeros(len(u), np.int64)
        sky, ground, hit = ((solid == -2).nonzero()[0], (solid == -1).nonzero()[0], (solid >= 0).nonzero()[0])
        colour[sky] = self._paint_sky(directions[:, sky])
        if len(ground):
            points = origin[:, None] + depth[ground] * directions[:, ground]
            footprints = _footprints(depth[ground], directions[:, ground], step[:, :, None], 2)
            colour[ground], label[ground] = self._paint_ground(points.astype(np.float32), footprints, solids)
        if len(hit):
            colour[hit], face[hit] = self._paint_solids(
                origin, depth[hit], directions[:, hit], solid[hit], step, solids
            )
            label[hit] = solids.label[solid[hit]]
        clear = np.exp(-depth / self._haze)[:, None]
        clear[sky] = 1
        colour = colour * clear + self._horizon * (1 - clear)
        depth[sky] = 0
        return colour, depth, solid, (np.maximum(solid, -1) + 1) << 10 | label << 2 | face

    def _paint_sky(self, directions: np.ndarray) -> np.ndarray:
        """(P, 3) colour of rays (3, P) that meet nothing: a gradient and soft clouds, infinitely far."""
        x, y, z = directions / np.linalg.norm(directions, axis=0)
        up = z.clip(0, 1)
        colour = self._horizon + (self._zenith - self._horizon) * (up[:, None] ** 0.55)
        amount, shift = self._clouds
        u, v = x / (up + 0.12) + shift, y / (up + 0.12)
        cloud = self._octaves(
            u, v, np.full_like(u, 0.05), (0.35, 0.7, 1.4, 2.8), np.float32((0.4, 0.7, 1, 1))
        )
        cover = _smooth((cloud + amount - 0.6) * 0.9) * _smooth(up * 5)
        return colour + (np.float32((0.98, 0.98, 0.99)) - colour) * (cover * 0.85)[:, None]

    def _paint_ground(
        self, points: np.ndarray, footprints: np.ndarray, solids: _Packed
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour (P, 3) and label (P,) of points (3, P) on the ground; footprints (3, P) metres."""
        x, y, _ = points
        wide, across = footprints.max(0), np.maximum(footprints[1], footprints[0] * 0.2) * 1.5
        along = footprints[0] * 1.5
        middle, slope = self.centre_line(x)
        side = (y - middle) / np.sqrt(1 + slope**2)
        lateral = np.abs(side)

        noise = self._octaves(x, y, wide, CELLS, FINE)
        stain = _smooth(self._octaves(x + 31, y * 2, wide, (1.3, 4.0)) * 1.2 - 0.2)
        asphalt = self._asphalt * (1 + 0.13 * noise - 0.22 * stain)[:, None]
        slabs = 1 - 0.25 * np.maximum(_stripes(x, 0.8, 0.05, along), _stripes(side, 0.8, 0.05, across))
        paving = self._paving * ((1 + 0.12 * noise) * slabs)[:, None]
        dry = _smooth(self._octaves(x, y + 17, wide, (0.7, 3.0, 9.0)) * 0.9 + 0.1)[:, None]
        grass = self._grass * (1 + 0.34 * noise)[:, None] * (1 + dry * np.float32((0.35, 0.10, 0.15)))

        within = (self.road - lateral) / across  # in footprints, so clipping it is a filtered edge
        pavement = (self.road + self.sidewalk - lateral) / across
        label = np.where(pavement > 0, SIDEWALK, TERRAIN)
        colour = grass + (paving - grass) * (pavement + 0.5).clip(0, 1)[:, None]
        kerb = _band(lateral, self.road + 0.1, 0.12, across)[:, None]
        colour += (self._paving * 1.2 - colour) * kerb
        asphalted = (within + 0.5).clip(0, 1)
        for start, end in self.crossings:
            asphalted = np.maximum(asphalted, _band(x, (start + end) / 2, (end - start) / 2, along))
        colour += (asphalt - colour) * asphalted[:, None]
        label[asphalted > 0.5] = ROAD

        lines = np.maximum(
            _stripes(x, 9.0, 3.2, along) * _band(side, 0, 0.08, across),
            0.8 * _band(lateral, self.road - 0.3, 0.06, across),
        )
        for start, end in self.crossings:
            lines *= 1 - _band(x, (start + end) / 2, (end - start) / 2 + 4.5, along)
            zebra = _band(x, start - 2.2, 1.4, along) * _band(side, 0, self.road - 0.4, across)
            lines = np.maximum(lines, zebra * _stripes(side, 1.0, 0.5, across))
        worn = (0.85 - 0.25 * stain + 0.12 * noise)[:, None]
        colour += (np.float32((0.92, 0.92, 0.88)) * worn - colour) * (lines * 0.85)[:, None]
        light = self._ambient + self._sun * np.float32(self._to_sun[2])
        return colour * light * self._shade_under(x, y, solids)[:, None], label

    def _shade_under(self, x: np.ndarray, y: np.ndarray, solids: _Packed) -> np.ndarray:
        """(P,) soft darkening of the ground beneath and beside solids, 1 in the open."""
        shade = np.ones_like(x)
        shift = -self._to_sun[:2] / self._to_sun[2] * np.minimum(1, self._sun.mean() * 2)
        low, high = (np.array([bound(x), bound(y)]) for bound in (np.min, np.max))
        for k in solids.casts:
            centre, reach = solids.centre[k, :2], solids.half[k, :2] + 0.7
            if (centre + 2 * reach.sum() < low).any() or (centre - 2 * reach.sum() > high).any():
                continue
            dx, dy = x - centre[0], y - centre[1]
            height = min(solids.centre[k, 2], 3.0)
            dx, dy = dx - shift[0] * height * 0.5, dy - shift[1] * height * 0.5
            near = (np.abs(dx) + np.abs(dy) < 2 * reach.sum()).nonzero()[0]
            if not len(near):
                continue
            c, s = solids.turn[k]
            a = np.abs(c * dx[near] + s * dy[near]) / reach[0]
            b = np.abs(c * dy[near] - s * dx[near]) / reach[1]
            dark = 1 - 0.6 * _smooth((1.15 - a) * 2.2) * _smooth((1.15 - b) * 2.2)
            shade[near] = np.minimum(shade[near], dark)
        return shade

    def _paint_solids(
        self,
        origin: np.ndarray,
        depth: np.ndarray,
        directions: np.ndarray,
        solid: np.ndarray,
        step: np.ndarray,
        solids: _Packed,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour (P, 3) and face (P,) (the axis its normal follows) where rays meet `solid`."""
        c, s = solids.turn[solid].T
        half = solids.half[solid].T
        ray = _turn(directions, c, s)
        point = _turn(origin[:, None] - solids.centre[solid].T, c, s) + depth * ray
        point = point.astype(np.float32)
        outward = np.abs(point) / half
        face = outward.argmax(0)
        curved = solids.round[solid]
        normal = np.where(curved, point / half**2, (np.arange(3)[:, None] == face) * np.sign(point))
        normal /= np.linalg.norm(normal, axis=0)
        footprints = _footprints(
            depth, ray, np.stack([_turn(step[i][:, None], c, s) for i in range(2)]), face
        )
        bound = 2.5 * depth * np.abs(step).max()
        footprints = np.where(curved, bound, footprints)

        u = np.where(face == 0, point[1], point[0])
        v = np.where(face == 2, point[1], point[2] + half[2])
        fu = np.where(face == 0, footprints[1], footprints[0])
        fv = np.where(face == 2, footprints[1], footprints[2])
        offset = solid * 37.7 + face * 11.3 + np.sign(point[0]) * 5.1
        noise = self._octaves(u + offset.astype(np.float32), v, np.maximum(fu, fv), CELLS, FINE)
        colour = solids.colour[solid] * (1 + solids.contrast[solid] * noise)[:, None]
        for paint, brush in ((FACADE, self._facade), (BODY, _body), (CABIN, _cabin)):
            of = (solids.paint[solid] == paint).nonzero()[0]
            if len(of):
                at = (u, v, fu * 1.5, fv * 1.5, face, np.sign(point[0]), half, solid, noise)
                colour[of] = brush(colour[of], _Spots(*(a[..., of] for a in at)), solids)
        facing = normal[0] * (c * self._to_sun[0] + s * self._to_sun[1])
        facing = (
            facing + normal[1] * (c * self._to_sun[1] - s * self._to_sun[0]) + normal[2] * self._to_sun[2]
        )
        sky = (0.82 + 0.18 * normal[2]) * (0.7 + 0.3 * _smooth((point[2] + solids.centre[solid, 2]) / 1.6))
        light = self._ambient * sky[:, None] + self._sun * facing.clip(0, 1)[:, None]
        return (colour * light).astype(np.float32), face

    def _facade(self, colour: np.ndarray, at: _Spots, solids: _Packed) -> np.ndarray:
        """Windows in rows, a darker ground floor, a cornice; roofs stay plain."""
        wide, tall, share = solids.pattern[at.solid].T
        width, height = at.half_width, at.half[2]
        inset = 0.5 * np.maximum(0.3, (2 * width) % wide)
        wall = _band(at.u, 0, width - inset + 0.01, at.fu)
        wall = wall * _band(at.v, height + 0.2, height - 0.6, at.fv) * at.upright
        gap, across, up = wide * (1 - share) / 2, at.u + width - inset, at.v - 0.9
        pane = _stripes(across - gap, wide, wide * share, at.fu) * _stripes(up, tall, tall * 0.5, at.fv)
        frame = _stripes(across - gap + 0.12, wide, wide * share + 0.24, at.fu)
        frame = frame * _stripes(up + 0.12, tall, tall * 0.5 + 0.24, at.fv)
        column, row = np.floor(across / wide).astype(np.int64), np.floor(up / tall).astype(np.int64)
        lit = self._noise[(column * 131 + row * 57 + at.solid * 1013) & 65535, 0]
        lit = lit * (1.5 - 2 * np.maximum(at.fu / wide, at.fv / tall)).clip(0, 1)
        glass = np.float32((0.22, 0.30, 0.38)) * (1 + 0.5 * lit + 0.12 * at.noise)[:, None]
        base = (_band(at.v, 0, 0.7, at.fv) + 0.6 * _band(at.v, 2 * height, 0.35, at.fv)) * at.upright
        colour = _blend(colour * (1 - 0.3 * base)[:, None], (0.88, 0.86, 0.82), frame * wall * 0.75)
        return _blend(colour, glass, pane * wall)

    def _octaves(
        self,
        u: np.ndarray,
        v: np.ndarray,
        footprint: np.ndarray,
        cells: tuple[float, ...] | np.ndarray,
        gains: np.ndarray | None = None,
    ) -> np.ndarray:
        """(P,) noise at surface coordinates in metres; an octave fades as its cell nears 1.3 footprints."""
        total = np.zeros(len(u), np.float32)
        for k, cell in enumerate(cells):
            weight = ((cell / footprint - 1.3) / 1.5).clip(0, 1)
            some = weight.nonzero()[0]
            if len(some):
                gain = weight[some] if gains is None else weight[some] * gains[k]
                at = u[some] / cell + 17.3 * k, v[some] / cell + 5.9 * k
                total[some] += gain * _value_noise(self._noise, *at)
        return total

    # Solids as arrays.

    def _pack(self) -> None:
        self._packed = _Packed(
            centre=np.array([s.centre for s in self.solids]),
            half=np.array([s.half for s in self.solids], np.float32),
            yaw=np.array([s.yaw for s in self.solids]),
            label=np.array([s.label for s in self.solids]),
            colour=np.array([s.colour for s in self.solids], np.float32),
            paint=np.array([s.paint for s in self.solids]),
            contrast=np.array([s.contrast for s in self.solids], np.float32),
            round=np.array([s.round for s in self.solids]),
            mover=np.array([s.mover for s in self.solids]),
            pattern=np.array([s.pattern for s in self.solids], np.float32),
        )

    def _at(self, time: float) -> _Packed:
        """The solids where they are at `time`."""
        packed = self._packed
        centre, yaw = packed.centre.copy(), packed.yaw.copy()
        for m, mover in enumerate(self.movers):
            along = mover.along + mover.speed * time + (self.travelled(time) if mover.follows else 0)
            x, y, heading = self.place(along, mover.across)
            if mover.across > 0:
                heading += np.pi
            c, s = np.cos(heading), np.sin(heading)
            of = packed.mover == m
            dx, dy, dz = packed.centre[of].T
            centre[of] = np.stack([x + c * dx - s * dy, y + s * dx + c * dy, dz], 1)
            yaw[of] = heading
        moved = _Packed(**{**packed.__dict__, "centre": centre, "yaw": yaw})
        moved.turn = np.stack([np.cos(yaw), np.sin(yaw)], 1).astype(np.float32)
        moved.casts = (packed.paint == BODY).nonzero()[0].tolist()
        moved.casts += (packed.round & (centre[:, 2] > 2)).nonzero()[0].tolist()
        return moved


@dataclass
class _Packed:
    """The solids of a world, one row each."""

    centre: np.ndarray
    half: np.ndarray
    yaw: np.ndarray
    label: np.ndarray
    colour: np.ndarray
    paint: np.ndarray
    contrast: np.ndarray
    round: np.ndarray
    mover: np.ndarray
    pattern: np.ndarray
    turn: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # cos and sin of yaw
    casts: list[int] = field(default_factory=list)  # solids that darken the ground


# Rays.


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(4, 4) Rz(yaw) Ry(pitch) Rx(roll); x forward, y left, z up, radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    matrix = np.eye(4)
    matrix[:3, :3] = (
        np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        @ np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    )
    return matrix


def _trace(origin: np.ndarray, directions: np.ndarray, solids: _Packed) -> tuple[np.ndarray, np.ndarray]:
    """The nearest thing on each ray (3, P): distance in units of the ray, and solid, -1 ground, -2 sky."""
    norm = np.linalg.norm(directions, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(directions[2] < 0, np.float32(-origin[2]) / directions[2], np.inf).astype(
            np.float32
        )
    distance[distance * norm > FAR] = np.inf
    solid = np.where(np.isfinite(distance), -1, -2)
    units = directions / norm
    towards = solids.centre - origin
    reach = np.linalg.norm(towards, axis=1)
    radius = np.where(solids.round, solids.half.max(1), np.linalg.norm(solids.half, axis=1))
    spread = np.arcsin(np.minimum(radius / reach, 1))  # half the angle that a solid's sphere fills
    spread[radius >= reach] = np.pi
    towards = (towards / reach[:, None]).astype(np.float32)
    view = units.sum(1) / max(np.linalg.norm(units.sum(1)), 1e-6)  # all rays lie in a cone around it
    angle = np.arccos((towards @ view).clip(-1, 1)) - np.arccos((view @ units).min().clip(-1, 1))
    for k in np.argsort(reach):  # nearest first, so that later ones find most rays already taken
        if reach[k] - radius[k] > FAR or angle[k] > spread[k]:
            continue
        near = towards[k] @ units > np.float32(np.cos(spread[k]))
        near &= distance * norm > np.float32(reach[k] - radius[k])
        rays = near.nonzero()[0]
        if not len(rays):
            continue
        c, s = solids.turn[k]
        start = _turn(-towards[k] * np.float32(reach[k]), c, s)
        meet = _meet_ellipsoid if solids.round[k] else _meet_box
        found = meet(start, _turn(directions[:, rays], c, s), solids.half[k])
        nearer = found < distance[rays]
        distance[rays[nearer]] = found[nearer]
        solid[rays[nearer]] = k
    return distance, solid


def _meet_box(start: np.ndarray, rays: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(P,) distance to a box around the origin, inf where a ray misses it."""
    rays = np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    middle, reach = -start[:, None] / rays, np.abs(half[:, None] / rays)
    enter, leave = (middle - reach).max(0), (middle + reach).min(0)
    return np.where((enter < leave) & (enter > 0.05), enter, np.float32(np.inf))


def _meet_ellipsoid(start: np.ndarray, rays: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(P,) distance to an ellipsoid around the origin, inf where a ray misses it."""
    start, rays = start / half, rays / half[:, None]
    a, b, c = (rays**2).sum(0), start @ rays, start @ start - 1
    root = b * b - a * c
    enter = (-b - np.sqrt(root.clip(0))) / a
    return np.where((root > 0) & (enter > 0.05), enter, np.float32(np.inf))


def _turn(vectors: np.ndarray, c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """World directions (3, ...) in the frame of a solid whose yaw has cosine c and sine s."""
    x, y, z = vectors
    turned = np.empty((3, *np.broadcast_shapes(np.shape(x), np.shape(c))), np.float32)
    turned[0], turned[1], turned[2] = c * x + s * y, c * y - s * x, z
    return turned


def _footprints(depth: np.ndarray, ray: np.ndarray, step: np.ndarray, face: np.ndarray | int) -> np.ndarray:
    """(3, P) metres that a pixel spans along each axis of a plane with its normal along axis `face`.

    Moving a pixel on changes the ray by `step` (2, 3, P); staying in the plane takes the ray's length along.
    """
    pick = np.broadcast_to(np.asarray(face), depth.shape)[None]
    facing = np.take_along_axis(ray, pick, 0)
    facing = np.where(np.abs(facing) < 1e-3, np.float32(1e-3), facing)
    total = 0
    for shift in step:
        shift = np.broadcast_to(shift, ray.shape)
        total = total + (shift - ray * (np.take_along_axis(shift, pick, 0) / facing)) ** 2
    return (depth * np.sqrt(total)).astype(np.float32) + np.float32(1e-6)


def _borders(surface: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour on another surface."""
    border = np.zeros(surface.shape, bool)
    across, down = surface[:, 1:] != surface[:, :-1], surface[1:] != surface[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border


# Paint: everything is filtered with the pixel's footprint.


def _noise_table(rng: np.random.Generator) -> np.ndarray:
    """(65536, 4) float32 in [-1, 1]: random values on a 256 x 256 torus, each with its three neighbours."""
    values = rng.uniform(-1, 1, (256, 256)).astype(np.float32)
    right, below = np.roll(values, -1, 1), np.roll(values, -1, 0)
    return np.stack([values, right, below, np.roll(right, -1, 0)], -1).reshape(-1, 4).copy()


def _value_noise(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(P,) smooth noise in [-1, 1] whose lattice has spacing 1."""
    column, row = np.floor(u), np.floor(v)
    x, y = u - column, v - row
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    index = (row.astype(np.int64) & 255) << 8 | (column.astype(np.int64) & 255)
    a, b, c, d = table.take(index, 0).T
    top = a + (b - a) * x
    return top + (c + (d - c) * x - top) * y


def _smooth(x: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 below 0, 1 above 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _stripes(
    x: np.ndarray, period: np.ndarray | float, width: np.ndarray | float, footprint: np.ndarray
) -> np.ndarray:
    """(P,) share of the footprint covered by stripes [0, width) repeating every period."""

    def covered(at: np.ndarray) -> np.ndarray:
        turns = np.floor(at / period)
        return turns * width + np.minimum(at - turns * period, width)

    return (covered(x + footprint / 2) - covered(x - footprint / 2)) / footprint


def _band(
    x: np.ndarray, middle: np.ndarray | float, half: np.ndarray | float, footprint: np.ndarray
) -> np.ndarray:
    """(P,) share of the footprint within `half` of `middle`."""
    low, high = x - footprint / 2, x + footprint / 2
    return (np.minimum(high, middle + half) - np.maximum(low, middle - half)).clip(0) / footprint


def _disc(u: np.ndarray, v: np.ndarray, radius: float, footprint: np.ndarray) -> np.ndarray:
    """(P,) share of the footprint within `radius` of (0, 0), about."""
    return ((radius - np.hypot(u, v)) / footprint + 0.5).clip(0, 1)


def _blend(colour: np.ndarray, paint: tuple[float, ...] | np.ndarray, share: np.ndarray) -> np.ndarray:
    """(P, 3): `share` (P,) of the paint over the colour."""
    return colour + (np.float32(paint) - colour) * share[:, None]


@dataclass
class _Spots:
    """Places on the faces of solids, P of them; lengths in metres."""

    u: np.ndarray  # across the face, 0 in the middle
    v: np.ndarray  # up from the foot of the solid
    fu: np.ndarray  # footprint along u
    fv: np.ndarray
    face: np.ndarray  # axis of the normal: 0 an end, 1 a flank, 2 the top
    sign: np.ndarray  # +1 towards the front of the solid, -1 towards the back
    half: np.ndarray  # (3, P)
    solid: np.ndarray
    noise: np.ndarray

    @property
    def upright(self) -> np.ndarray:
        return (self.face != 2).astype(np.float32)

    @property
    def half_width(self) -> np.ndarray:
        return np.where(self.face == 0, self.half[1], self.half[0])


def _body(colour: np.ndarray, at: _Spots, solids: _Packed) -> np.ndarray:
    """The lower part of a car: sills, doors, wheels, lights, plates."""
    flank, end = at.face == 1, at.face == 0
    colour = _blend(colour, (0.07, 0.07, 0.08), _band(at.v, 0, 0.24, at.fv) * at.upright * 0.9)
    colour = _blend(colour, (0.12, 0.12, 0.13), 0.5 * _stripes(at.u + 0.65, 1.1, 0.03, at.fu) * flank)
    for wheel in (-0.62, 0.62):
        u, v, wide = at.u - wheel * at.half[0], at.v - 0.32, np.maximum(at.fu, at.fv)
        colour = _blend(colour, (0.06, 0.06, 0.07), _disc(u, v, 0.36, wide) * flank)
        colour = _blend(colour, (0.55, 0.56, 0.58), _disc(u, v, 0.19, wide) * flank)
    lamps = _band(np.abs(at.u), at.half[1] - 0.22, 0.17, at.fu) * _band(at.v, 0.68, 0.1, at.fv) * end
    colour = _blend(colour, (0.80, 0.10, 0.08), lamps * (at.sign < 0))
    colour = _blend(colour, (0.97, 0.96, 0.86), lamps * (at.sign > 0))
    plate = _band(at.u, 0, 0.26, at.fu) * _band(at.v, 0.45, 0.06, at.fv) * end
    return _blend(colour, (0.92, 0.92, 0.88), plate)


def _cabin(colour: np.ndarray, at: _Spots, solids: _Packed) -> np.ndarray:
    """The upper part of a car: glass with pillars and a roof edge."""
    height = at.half[2]
    glass = _band(at.u, 0, at.half_width - 0.1, at.fu) * _band(at.v, height - 0.02, height - 0.1, at.fv)
    glass = glass * at.upright * (1 - _band(at.u, 0.1, 0.05, at.fu) * (at.face == 1))
    shine = np.float32((0.16, 0.20, 0.25)) * (1 + 0.15 * at.noise + 0.9 * at.v / (2 * height))[:, None]
    return _blend(colour, shine, glass)


# The street.

FACADES = np.array(
    [
        (0.87, 0.78, 0.62), (0.80, 0.58, 0.44), (0.72, 0.42, 0.34), (0.84, 0.82, 0.76), (0.66, 0.70, 0.72),
        (0.70, 0.75, 0.62), (0.88, 0.70, 0.52), (0.62, 0.52, 0.46), (0.56, 0.64, 0.74), (0.82, 0.66, 0.62),
    ]
)  # fmt: skip
PAINTS = np.array(
    [
        (0.75, 0.12, 0.12), (0.90, 0.90, 0.90), (0.12, 0.25, 0.55), (0.16, 0.17, 0.19), (0.62, 0.64, 0.67),
        (0.92, 0.72, 0.16), (0.13, 0.44, 0.44), (0.45, 0.12, 0.18), (0.30, 0.42, 0.30), (0.85, 0.42, 0.14),
    ]
)  # fmt: skip


class _Builder:
    """Furnishes a world's street: stretches of town, suburb, canyon and open land follow one another."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.goal = world.travelled(world.seconds)

    def build(self) -> None:
        world, rng = self.world, self.rng
        world.sidewalk = rng.uniform(1.4, 3.2)
        self.end = self.goal + 190
        world.crossings = []
        blocked = rng.random() < 0.4  # the street ends at a wall across: a T-junction
        if blocked:
            self.end = self.goal + rng.uniform(14, 60)
            world.crossings.append((self.end - 10.0, self.end - 3.0))
        x = rng.uniform(10, 60)
        while x < self.end - 40:
            if rng.random() < 0.6:
                world.crossings.append((x, x + rng.uniform(6, 9)))
            x += rng.uniform(45, 110)
        x = -25.0
        limit = self.end - (14 if blocked else 0)
        while x < limit:
            stretch = rng.uniform(25, 70)
            self._furnish(x, min(x + stretch, limit), rng.choice(4, p=(0.34, 0.28, 0.16, 0.22)))
            x += stretch
        if blocked:
            self._end_wall()
        self._horizon()
        self._traffic()

    def _furnish(self, start: float, end: float, style: int) -> None:
        """One stretch of street, both sides. Styles: 0 town, 1 suburb, 2 canyon, 3 open land."""
        rng, world = self.rng, self.world
        kerb = world.road + world.sidewalk
        for side in (-1, 1):
            setback = (
                kerb
                + (rng.uniform(0, 2), rng.uniform(4, 11), rng.uniform(0, 0.6), rng.uniform(14, 30))[style]
            )
            x = start
            while x < end:
                length = min(rng.uniform(*((8, 20), (8, 14), (14, 34), (10, 18))[style]), max(end - x, 4))
                height = rng.uniform(*((6, 17), (4, 7.5), (3, 12), (4, 8))[style])
                if not self._crossed(x, x + length) and rng.random() < (0.95, 0.85, 0.97, 0.3)[style]:
                    self._building(x, length, height, side, setback + rng.uniform(0, 1.2), style)
                x += length + rng.uniform(*((0, 2.5), (3, 12), (0, 3), (8, 30))[style])
            if style in (1, 3) and rng.random() < 0.6:
                self._hedge(start, end, side * (kerb + rng.uniform(0.5, 2.5)))
            self._along(start, end, side, (0.25, 0.5, 0.05, 0.75)[style], (7, 16), self._tree)
            self._along(start, end, side, 0.7, (18, 30), self._lamp)
            self._along(start, end, side, (0.6, 0.35, 0.4, 0.05)[style], (5.6, 9), self._parked)

    def _along(self, start, end, side, chance, spacing, put) -> None:
        x = start + self.rng.uniform(0, spacing[0])
        while x < end:
            if self.rng.random() < chance and not self._crossed(x - 3, x + 3):
                put(x, side)
            x += self.rng.uniform(*spacing)

    def _crossed(self, start: float, end: float) -> bool:
        return any(start < b + 3 and end > a - 3 for a, b in self.world.crossings)

    def _solid(self, along, across, centre_z, half, label, colour, **more) -> None:
        x, y, heading = self.world.place(along, across)
        colour = np.clip(colour, 0.02, 1)
        self.world.solids.append(Solid((x, y, centre_z), tuple(half), heading, label, colour, **more))

    def _building(self, x, length, height, side, setback, style) -> None:
        rng = self.rng
        depth = rng.uniform(7, 13)
        across = side * (setback + depth / 2)
        colour = FACADES[rng.integers(len(FACADES))] * rng.uniform(0.85, 1.1)
        half = np.array([length, depth, height]) / 2
        bare = rng.random() < (0.08, 0.05, 0.5, 0.1)[style]  # few marks to match: hard for photometric losses
        if bare:
            label = WALL if height < 5 else BUILDING
            self._solid(x + half[0], across, half[2], half, label, colour, contrast=rng.uniform(0.03, 0.08))
            return
        pattern = rng.uniform(1.9, 3.6), rng.uniform(2.6, 3.4), rng.uniform(0.38, 0.62)
        more = {"paint": FACADE, "contrast": rng.uniform(0.07, 0.14), "pattern": pattern}
        self._solid(x + half[0], across, half[2], half, BUILDING, colour, **more)
        roof = np.array((0.40, 0.22, 0.18)) if rng.random() < 0.6 else np.array((0.26, 0.28, 0.32))
        for step in range(1 if style == 0 else 3):  # a hipped roof, in steps
            shrink = 1.05 - 0.27 * step
            top = half * (shrink, shrink, 1)
            top[2] = 0.3 if style == 0 else 0.45
            self._solid(
                x + half[0],
                across,
                height + top[2] * (1 + 2 * step),
                top,
                BUILDING,
                roof * (1 + 0.1 * step),
                contrast=0.2,
            )

    def _hedge(self, start, end, across) -> None:
        x, tall = start, self.rng.uniform(0.35, 0.8)
        fence = self.rng.random() < 0.35
        colour = np.array((0.55, 0.42, 0.30)) if fence else self._green()
        while x + 4 < end:
            if not self._crossed(x, x + 4):
                label = FENCE if fence else VEGETATION
                half = (2.0, 0.08 if fence else 0.45, tall)
                self._solid(x + 2, across, tall, half, label, colour, contrast=0.3)
            x += 4

    def _green(self) -> np.ndarray:
        return np.array((0.30, 0.44, 0.18)) * self.rng.uniform([0.7, 0.8, 0.7], [1.5, 1.1, 1.2])

    def _tree(self, x, side) -> None:
        rng, world = self.rng, self.world
        across = side * (world.road + world.sidewalk + rng.uniform(-0.6, 4))
        trunk, size, colour = rng.uniform(1.0, 1.8), rng.uniform(1.1, 2.2), self._green()
        bark = np.array((0.36, 0.27, 0.20)) * rng.uniform(0.8, 1.1)
        self._solid(x, across, trunk, (0.14, 0.14, trunk), VEGETATION, bark, contrast=0.25)
        for _ in range(5):
            dx, dy, dz = rng.uniform(-0.65, 0.65, 3) * size
            half = size * rng.uniform(0.55, 0.85, 3)
            z = 2 * trunk + size * 0.6 + dz
            shade = colour * rng.uniform(0.85, 1.15)
            more = {"paint": LEAVES, "contrast": 0.36, "round": True}
            self._solid(x + dx, across + dy, z, half, VEGETATION, shade, **more)

    def _lamp(self, x, side) -> None:
        across = side * (self.world.road + 0.5)
        grey = np.array((0.34, 0.37, 0.38))
        self._solid(x, across, 2.6, (0.09, 0.09, 2.6), POLE, grey, contrast=0.15)
        self._solid(x, across - side * 0.7, 5.15, (0.12, 0.8, 0.08), POLE, grey, contrast=0.1)

    def _parked(self, x, side) -> None:
        world = self.world
        if world.road + world.sidewalk > 5.6 or side > 0:
            self._car(x, side * (world.road + 0.35), flip=side > 0)

    def _car(self, along, across, flip=False, mover=-1) -> None:
        rng = self.rng
        colour = PAINTS[rng.integers(len(PAINTS))] * rng.uniform(0.85, 1.1)
        length, width, van = rng.uniform(1.9, 2.3), rng.uniform(0.82, 0.92), rng.random() < 0.18
        body = np.array([length, width, 0.46])
        cabin = np.array([length * (0.9 if van else 0.55), width * 0.9, 0.55 if van else 0.31])
        ahead = (0.1 if van else -0.2) * (-1 if flip and mover < 0 else 1)
        x, y, heading = (0.0, 0.0, 0.0) if mover >= 0 else self.world.place(along, across)
        for half, z, dx, paint in ((body, 0.46, 0, BODY), (cabin, 0.92 + cabin[2], ahead, CABIN)):
            centre = (x + dx * np.cos(heading), y + dx * np.sin(heading), z)
            yaw = heading + (np.pi if flip and mover < 0 else 0)
            more = {"paint": paint, "contrast": 0.07, "mover": mover}
            self.world.solids.append(Solid(centre, tuple(half), yaw, CAR, np.clip(colour, 0.03, 1), **more))

    def _traffic(self) -> None:
        rng, world = self.rng, self.world
        tracks = []
        if rng.random() < 0.35:  # someone ahead, a few m/s slower or faster
            gap = rng.uniform(10, 32)
            slowest = (8 - gap) / max(world.seconds, 1)
            tracks.append(Mover(gap, world.lane, max(rng.uniform(-2.5, 3), slowest), follows=True))
        if rng.random() < 0.75:
            x, speed = rng.uniform(15, 60), rng.uniform(3, 9)
            while x < self.goal + speed * world.seconds + 120:
                tracks.append(Mover(x, -world.lane, -speed))
                x += rng.uniform(14, 70)
        for track in tracks:
            world.movers.append(track)
            self._car(0, 0, mover=len(world.movers) - 1)

    def _end_wall(self) -> None:
        """The far side of the crossing street that ends ours."""
        rng, y = self.rng, -45.0
        while y < 45:
            width = rng.uniform(9, 20)
            height = rng.uniform(5, 14)
            half = np.array([5, width / 2, height / 2])
            colour = FACADES[rng.integers(len(FACADES))] * rng.uniform(0.85, 1.1)
            pattern = rng.uniform(1.9, 3.6), rng.uniform(2.6, 3.4), rng.uniform(0.38, 0.62)
            more = {"paint": FACADE, "contrast": rng.uniform(0.07, 0.14), "pattern": pattern}
            self._solid(self.end + 5, y + width / 2, half[2], half, BUILDING, colour, **more)
            y += width + (0 if rng.random() < 0.7 else 2.0)

    def _horizon(self) -> None:
        """Woods in the distance, so that the ground does not end in the sky."""
        rng = self.rng
        far = self.goal + 235
        for x in np.arange(-40, far, 22.0):
            for side in (-1, 1):
                half = np.array((13, 8, rng.uniform(2.5, 6)))
                across = side * rng.uniform(70, 110)
                self._solid(x, across, half[2], half, VEGETATION, self._green(), round=True, contrast=0.36)
        for y in np.arange(-120, 121, 17.0):
            half = np.array((8, 11, rng.uniform(4, 9)))
            self._solid(far, y, half[2] * 0.6, half, VEGETATION, self._green(), round=True, contrast=0.36)
