"""Ray casting: the first solid on each ray, and the footprint of a pixel on its surface."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

FAR = 250.0  # metres; everything farther is sky
PLAIN, FACADE, LEAVES, BODY, CABIN = range(5)  # how a solid is painted


@dataclass
class Solid:
    """A box or an ellipsoid, turned about the vertical. Lengths in metres, colours in [0, 1]."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    label: int
    colour: np.ndarray
    paint: int = PLAIN
    contrast: float = 0.2  # contrast of each octave of the noise
    round: bool = False
    mover: int = -1  # index into the street's movers; the centre is then relative to it
    pattern: tuple[float, float, float] = (3.0, 3.2, 0.5)  # windows: spacing u, spacing v, width / spacing


@dataclass
class Solids:
    """Many solids at one time, one row each."""

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

    @classmethod
    def of(cls, solids: list[Solid]) -> Solids:
        """The record of a list of solids."""
        kinds = {"half": np.float32, "colour": np.float32, "contrast": np.float32, "pattern": np.float32}
        names = ("centre", "half", "yaw", "label", "colour", "paint", "contrast", "round", "mover", "pattern")
        return cls(**{n: np.array([getattr(s, n) for s in solids], kinds.get(n)) for n in names})

    def placed(self, centre: np.ndarray, yaw: np.ndarray) -> Solids:
        """The same solids with other poses: centre (K, 3) metres, yaw (K,) radians."""
        turn = np.stack([np.cos(yaw), np.sin(yaw)], 1).astype(np.float32)
        casts = (self.paint == BODY) | (self.round & (centre[:, 2] > 2))
        return replace(self, centre=centre, yaw=yaw, turn=turn, casts=casts.nonzero()[0].tolist())


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


def trace(origin: np.ndarray, directions: np.ndarray, solids: Solids) -> tuple[np.ndarray, np.ndarray]:
    """The first hit of each ray (3, P): distance in units of the ray, and solid, -1 ground, -2 sky."""
    norm = np.linalg.norm(directions, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(directions[2] < 0, -origin[2] / directions[2], np.inf).astype(np.float32)
    distance[distance * norm > FAR] = np.inf
    solid = np.where(np.isfinite(distance), -1, -2)
    units = directions / norm
    towards = solids.centre - origin
    reach = np.linalg.norm(towards, axis=1)
    radius = np.where(solids.round, solids.half.max(1), np.linalg.norm(solids.half, axis=1))
    spread = np.arcsin(np.minimum(radius / reach, 1))  # half the angle of a solid's bounding sphere
    spread[radius >= reach] = np.pi
    towards = (towards / reach[:, None]).astype(np.float32)
    view = units.sum(1) / max(np.linalg.norm(units.sum(1)), 1e-6)  # all rays lie in a cone around it
    angle = np.arccos((towards @ view).clip(-1, 1)) - np.arccos((view @ units).min().clip(-1, 1))
    for k in np.argsort(reach):  # nearest first, so that most rays already have a hit for the later solids
        if reach[k] - radius[k] > FAR or angle[k] > spread[k]:
            continue
        near = towards[k] @ units > np.float32(np.cos(spread[k]))
        near &= distance * norm > np.float32(reach[k] - radius[k])
        rays = near.nonzero()[0]
        if not len(rays):
            continue
        c, s = solids.turn[k]
        start = turn(-towards[k] * np.float32(reach[k]), c, s)
        hit = _hit_ellipsoid if solids.round[k] else _hit_box
        found = hit(start, turn(directions[:, rays], c, s), solids.half[k])
        nearer = found < distance[rays]
        distance[rays[nearer]] = found[nearer]
        solid[rays[nearer]] = k
    return distance, solid


def _hit_box(start: np.ndarray, rays: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(P,) distance to a box around the origin, inf for a ray that misses it."""
    rays = np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    middle, reach = -start[:, None] / rays, np.abs(half[:, None] / rays)
    enter, leave = (middle - reach).max(0), (middle + reach).min(0)
    return np.where((enter < leave) & (enter > 0.05), enter, np.float32(np.inf))


def _hit_ellipsoid(start: np.ndarray, rays: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(P,) distance to an ellipsoid around the origin, inf for a ray that misses it."""
    start, rays = start / half, rays / half[:, None]
    a, b, c = (rays**2).sum(0), start @ rays, start @ start - 1
    root = b * b - a * c
    enter = (-b - np.sqrt(root.clip(0))) / a
    return np.where((root > 0) & (enter > 0.05), enter, np.float32(np.inf))


def turn(vectors: np.ndarray, c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """World directions (3, ...) in the frame of a solid whose yaw has cosine c and sine s."""
    x, y, z = vectors
    turned = np.empty((3, *np.broadcast_shapes(np.shape(x), np.shape(c))), np.float32)
    turned[0], turned[1], turned[2] = c * x + s * y, c * y - s * x, z
    return turned


def footprints_of(depth: np.ndarray, ray: np.ndarray, step: np.ndarray, face: np.ndarray | int) -> np.ndarray:
    """(3, P) extent of a pixel in metres along each axis of a plane with its normal along axis `face`.

    The next pixel's ray differs by `step` (2, 3, P or 1), and its length is the distance to the plane.
    """
    pick = np.broadcast_to(np.asarray(face), depth.shape)[None]
    facing = np.take_along_axis(ray, pick, 0)
    facing = np.where(np.abs(facing) < 1e-3, np.float32(1e-3), facing)
    total = 0
    for shift in step:
        shift = np.broadcast_to(shift, ray.shape)
        total = total + (shift - ray * (np.take_along_axis(shift, pick, 0) / facing)) ** 2
    return (depth * np.sqrt(total)).astype(np.float32) + np.float32(1e-6)


def some(step: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """(2, 3, K or 1), the steps of the K `rays` selected by index; those of a pinhole are all equal."""
    return step if step.shape[2] == 1 else step[:, :, rays]


def borders(surface: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour on another surface."""
    border = np.zeros(surface.shape, bool)
    across, down = surface[:, 1:] != surface[:, :-1], surface[1:] != surface[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
