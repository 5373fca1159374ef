"""Appearance: light, sky, ground and solids, all filtered with the pixel's footprint.

An octave of noise whose cells become smaller than a few footprints is faded out, and edges of stripes and
windows are averaged over the footprint. An image therefore contains nothing finer than its pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._rays import BODY, CABIN, FACADE, Solids, footprints_of, turn
from ._street import ROAD, SIDEWALK, TERRAIN, Street

CELLS = 0.04 * 2.0 ** np.arange(9)  # metres, the noise octaves: 4 cm to 10 m
FINE = np.float32((1.5, 1.5, 1.4, 1.2, 1.0, 0.8, 0.6, 0.5, 0.4))  # gains of the octaves, fine ones larger


class Paint:
    """Colours of a street: random light, and a brush for each kind of surface.

    Args:
        rng: generator of light and noise.
        street: street with the ground to paint.
    """

    def __init__(self, rng: np.random.Generator, street: Street) -> None:
        self.street = street
        self.brushes: dict[int, Brush] = {FACADE: self._facade, BODY: _body, CABIN: _cabin}
        self._noise = _noise_table(rng)
        self._draw_light(rng)

    def _draw_light(self, rng: np.random.Generator) -> None:
        moods = (  # sun, ambient, zenith, horizon, haze distance
            ((0.72, 0.67, 0.58), (0.58, 0.61, 0.67), (0.29, 0.53, 0.86), (0.78, 0.88, 0.95), 420),  # noon
            ((0.92, 0.68, 0.44), (0.58, 0.56, 0.60), (0.42, 0.56, 0.80), (0.98, 0.84, 0.68), 300),  # evening
            ((0.34, 0.34, 0.34), (0.78, 0.80, 0.83), (0.66, 0.73, 0.80), (0.87, 0.90, 0.92), 220),  # overcast
            ((0.76, 0.73, 0.68), (0.56, 0.60, 0.66), (0.20, 0.45, 0.80), (0.72, 0.86, 0.93), 500),  # clear
        )
        mood = moods[rng.integers(len(moods))]
        self._sun, self._ambient, self._zenith, self.horizon = (np.float32(c) for c in mood[:4])
        self.haze = mood[4]
        azimuth, height = rng.uniform(0, 6.28), rng.uniform(0.45, 1.0)
        flat = np.cos(height)
        self._to_sun = np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(height)])
        self._clouds = rng.uniform(0.15, 0.9), rng.uniform(0, 50)
        self.asphalt = np.float32(rng.uniform(0.30, 0.48) * np.array([1, 1, rng.uniform(0.96, 1.06)]))
        self._paving = np.float32(rng.uniform(0.52, 0.68) * np.array([1.03, 1, rng.uniform(0.9, 1)]))
        tint = rng.uniform([0.8, 0.9, 0.8], [1.25, 1.05, 1.1])
        self._grass = np.float32(np.array([0.36, 0.50, 0.22]) * tint)

    def sky(self, directions: np.ndarray) -> np.ndarray:
        """(P, 3) colour of rays (3, P) that hit nothing: a gradient and soft clouds, infinitely far."""
        x, y, z = directions / np.linalg.norm(directions, axis=0)
        up = z.clip(0, 1)
        colour = self.horizon + (self._zenith - self.horizon) * (up[:, None] ** 0.55)
        amount, shift = self._clouds
        u, v = x / (up + 0.12) + shift, y / (up + 0.12)
        cells, gains = (0.35, 0.7, 1.4, 2.8), np.float32((0.4, 0.7, 1, 1))
        cloud = self._octaves(u, v, np.full_like(u, 0.05), cells, gains)
        cover = _smooth((cloud + amount - 0.6) * 0.9) * _smooth(up * 5)
        return colour + (np.float32((0.98, 0.98, 0.99)) - colour) * (cover * 0.85)[:, None]

    def ground(
        self, points: np.ndarray, footprints: np.ndarray, solids: Solids
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour (P, 3) and label (P,) of points (3, P) on the ground; footprints (3, P) metres."""
        x, y, _ = points
        wide, across = footprints.max(0), np.maximum(footprints[1], footprints[0] * 0.2) * 1.5
        along = footprints[0] * 1.5
        middle, slope = self.street.centre_line(x)
        side = (y - middle) / np.sqrt(1 + slope**2)
        lateral = np.abs(side)

        noise = self._octaves(x, y, wide, CELLS, FINE)
        stain = _smooth(self._octaves(x + 31, y * 2, wide, (1.3, 4.0)) * 1.2 - 0.2)
        asphalt = self.asphalt * (1 + 0.13 * noise - 0.22 * stain)[:, None]
        slabs = 1 - 0.25 * np.maximum(_stripes(x, 0.8, 0.05, along), _stripes(side, 0.8, 0.05, across))
        paving = self._paving * ((1 + 0.12 * noise) * slabs)[:, None]
        dry = _smooth(self._octaves(x, y + 17, wide, (0.7, 3.0, 9.0)) * 0.9 + 0.1)[:, None]
        grass = self._grass * (1 + 0.34 * noise)[:, None] * (1 + dry * np.float32((0.35, 0.10, 0.15)))

        within = (
            self.street.road - lateral
        ) / across  # in footprints, so that clipping gives a filtered edge
        pavement = (self.street.road + self.street.sidewalk - lateral) / across
        label = np.where(pavement > 0, SIDEWALK, TERRAIN)
        colour = grass + (paving - grass) * (pavement + 0.5).clip(0, 1)[:, None]
        kerb = _band(lateral, self.street.road + 0.1, 0.12, across)[:, None]
        colour += (self._paving * 1.2 - colour) * kerb
        asphalted = (within + 0.5).clip(0, 1)
        for start, end in self.street.crossings:
            asphalted = np.maximum(asphalted, _band(x, (start + end) / 2, (end - start) / 2, along))
        colour += (asphalt - colour) * asphalted[:, None]
        label[asphalted > 0.5] = ROAD

        lines = np.maximum(
            _stripes(x, 9.0, 3.2, along) * _band(side, 0, 0.08, across),
            0.8 * _band(lateral, self.street.road - 0.3, 0.06, across),
        )
        for start, end in self.street.crossings:
            lines *= 1 - _band(x, (start + end) / 2, (end - start) / 2 + 4.5, along)
            zebra = _band(x, start - 2.2, 1.4, along) * _band(side, 0, self.street.road - 0.4, across)
            lines = np.maximum(lines, zebra * _stripes(side, 1.0, 0.5, across))
        worn = (0.85 - 0.25 * stain + 0.12 * noise)[:, None]
        colour += (np.float32((0.92, 0.92, 0.88)) * worn - colour) * (lines * 0.85)[:, None]
        light = self._ambient + self._sun * np.float32(self._to_sun[2])
        return colour * light * self._shade_under(x, y, solids)[:, None], label

    def _shade_under(self, x: np.ndarray, y: np.ndarray, solids: Solids) -> np.ndarray:
        """(P,) soft shadow on the ground below and next to solids, 1 in the open."""
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

    def solids(
        self,
        origin: np.ndarray,
        depth: np.ndarray,
        directions: np.ndarray,
        solid: np.ndarray,
        step: np.ndarray,
        solids: Solids,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour (P, 3) and face (P,) (the axis of its normal) where rays hit `solid`."""
        c, s = solids.turn[solid].T
        half = solids.half[solid].T
        ray = turn(directions, c, s)
        point = turn(origin[:, None] - solids.centre[solid].T, c, s) + depth * ray
        point = point.astype(np.float32)
        outward = np.abs(point) / half
        face = outward.argmax(0)
        curved = solids.round[solid]
        normal = np.where(curved, point / half**2, (np.arange(3)[:, None] == face) * np.sign(point))
        normal /= np.linalg.norm(normal, axis=0)
        footprints = footprints_of(depth, ray, np.stack([turn(step[i], c, s) for i in range(2)]), face)
        bound = 2.5 * depth * np.abs(step).max()
        footprints = np.where(curved, bound, footprints)

        u = np.where(face == 0, point[1], point[0])
        v = np.where(face == 2, point[1], point[2] + half[2])
        fu = np.where(face == 0, footprints[1], footprints[0])
        fv = np.where(face == 2, footprints[1], footprints[2])
        offset = self._offset(solid, face, point)
        noise = self._octaves(u + offset.astype(np.float32), v, np.maximum(fu, fv), CELLS, FINE)
        colour = solids.colour[solid] * (1 + solids.contrast[solid] * noise)[:, None]
        for paint, brush in self.brushes.items():
            of = (solids.paint[solid] == paint).nonzero()[0]
            if len(of):
                at = (u, v, fu * 1.5, fv * 1.5, face, np.sign(point[0]), half, solid, noise)
                colour[of] = brush(colour[of], Spots(*(a[..., of] for a in at)), solids)
        facing = normal[0] * (c * self._to_sun[0] + s * self._to_sun[1])
        facing = (
            facing + normal[1] * (c * self._to_sun[1] - s * self._to_sun[0]) + normal[2] * self._to_sun[2]
        )
        sky = (0.82 + 0.18 * normal[2]) * (0.7 + 0.3 * _smooth((point[2] + solids.centre[solid, 2]) / 1.6))
        light = self._ambient * sky[:, None] + self._sun * facing.clip(0, 1)[:, None]
        return (colour * light).astype(np.float32), face

    def _offset(self, solid: np.ndarray, face: np.ndarray, point: np.ndarray) -> np.ndarray:
        """(P,) shift of the noise in metres, so that solids differ."""
        return solid * 37.7 + face * 11.3 + np.sign(point[0]) * 5.1

    def _facade(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Windows in rows, a darker ground floor, a cornice; roofs are plain."""
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


def _noise_table(rng: np.random.Generator) -> np.ndarray:
    """(65536, 4) float32 in [-1, 1]: random values on a 256 x 256 torus, each with three neighbours."""
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
    """(P,) approximate share of the footprint within `radius` of (0, 0)."""
    return ((radius - np.hypot(u, v)) / footprint + 0.5).clip(0, 1)


def _blend(colour: np.ndarray, paint: tuple[float, ...] | np.ndarray, share: np.ndarray) -> np.ndarray:
    """(P, 3) colour blended with the paint, whose weight is `share` (P,)."""
    return colour + (np.float32(paint) - colour) * share[:, None]


@dataclass
class Spots:
    """P points on the faces of solids; lengths in metres."""

    u: np.ndarray  # across the face, 0 in the middle
    v: np.ndarray  # up from the foot of the solid
    fu: np.ndarray  # footprint along u
    fv: np.ndarray
    face: np.ndarray  # axis of the normal: 0 an end, 1 a flank, 2 the top
    sign: np.ndarray  # +1 in the front half of the solid, -1 in the back half
    half: np.ndarray  # (3, P)
    solid: np.ndarray
    noise: np.ndarray

    @property
    def upright(self) -> np.ndarray:
        return (self.face != 2).astype(np.float32)

    @property
    def half_width(self) -> np.ndarray:
        return np.where(self.face == 0, self.half[1], self.half[0])


Brush = Callable[[np.ndarray, Spots, Solids], np.ndarray]  # colour (P, 3) → colour (P, 3)


def _body(colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
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


def _cabin(colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
    """The upper part of a car: glass with pillars and a roof edge."""
    height = at.half[2]
    glass = _band(at.u, 0, at.half_width - 0.1, at.fu) * _band(at.v, height - 0.02, height - 0.1, at.fv)
    glass = glass * at.upright * (1 - _band(at.u, 0.1, 0.05, at.fu) * (at.face == 1))
    shine = np.float32((0.16, 0.20, 0.25)) * (1 + 0.15 * at.noise + 0.9 * at.v / (2 * height))[:, None]
    return _blend(colour, shine, glass)
