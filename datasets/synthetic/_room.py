"""A furnished room, recorded with a hand-held camera.

Four walls (some almost without texture), floor and ceiling are boxes, and so is the furniture: bookshelves,
cupboards, tables, sofas, doors, paintings, lamps, a rug. The camera turns fast and moves slowly, which makes
indoor video hard for photometric training.
"""

from __future__ import annotations

import numpy as np

from ._paint import CELLS, Paint, Spots, _band, _blend, _smooth, _stripes
from ._rays import PLAIN, Solid, Solids, rotation, trace
from ._view import Camera, View, render

FLOOR, WALL, CEILING, FURNITURE, PAINTING = 1, 3, 2, 4, 5  # labels of a room, not those of Cityscapes
PLANKS, PAPER, ART, BOOKS, PANELS = range(10, 15)  # kinds of paint, in addition to those of a street
WALLS = np.array(
    [
        (0.80, 0.76, 0.66), (0.66, 0.74, 0.78), (0.78, 0.64, 0.58), (0.68, 0.76, 0.64), (0.86, 0.84, 0.80),
        (0.74, 0.68, 0.80), (0.62, 0.54, 0.46), (0.86, 0.74, 0.52),
    ]
)  # fmt: skip
WOODS = np.array([(0.62, 0.44, 0.28), (0.48, 0.33, 0.22), (0.74, 0.60, 0.42), (0.34, 0.26, 0.22)])
CLOTHS = np.array(
    [(0.66, 0.20, 0.18), (0.20, 0.34, 0.52), (0.28, 0.44, 0.30), (0.78, 0.62, 0.24), (0.46, 0.28, 0.46)]
)
BASE = 0.1  # metres, height of the floor, which is a slab
CLEAR = 1.05  # metres between camera and walls, more than the depth of any furniture


class Room:
    """A room to walk through; x and y from its middle, z up, metres.

    Args:
        seed: seed of all random numbers; equal seeds give equal bytes.
        seconds: largest duration of the recording; it does not change the size of the room.
    """

    def __init__(self, seed: int, seconds: float = 10.0) -> None:
        if seconds <= 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        self.seed, self.seconds = seed, seconds
        rng = np.random.default_rng([seed, 2012])
        furnished = _Furnished(rng)
        self._draw_walk(rng, furnished.half)
        solids = Solids.of(furnished.solids)
        self._solids = solids.placed(solids.centre, solids.yaw)
        self._paint = RoomPaint(np.random.default_rng([seed, 2013]))

    def _draw_walk(self, rng: np.random.Generator, half: np.ndarray) -> None:
        space = half - CLEAR
        # x, y, height, yaw, pitch, roll: amplitude (m or rad), angular rate (1/s), phase, of two waves each.
        slow = np.array([*(space * 0.8), 0.12, rng.uniform(0.7, 1.3), 0.14, 0.07])
        quick = np.array([*(space * 0.1), 0.03, 0.10, 0.05, 0.03])
        slow_rate = rng.uniform([0.25, 0.25, 0.4, 0.4, 0.5, 0.6], [0.5, 0.5, 0.9, 0.7, 1.1, 1.2])
        quick_rate = rng.uniform(1.5, 3.0, 6)
        self._waves = np.stack([[slow, quick], [slow_rate, quick_rate], rng.uniform(0, 6.28, (2, 6))])
        self._middle = np.array([0, 0, BASE + rng.uniform(1.35, 1.65), rng.uniform(0, 6.28), 0.10, 0])

    def ego_pose(self, time: float) -> np.ndarray:
        """(4, 4) world_from_rig; the rig is the hand-held camera, x forward, y left, z up."""
        size, rate, phase = self._waves
        *position, yaw, pitch, roll = self._middle + (size * np.sin(rate * time + phase)).sum(0)
        world_from_rig = rotation(yaw, pitch, roll)
        world_from_rig[:3, 3] = position
        return world_from_rig

    def render(self, camera: Camera, world_from_camera: np.ndarray, time: float) -> View:
        """The room from `camera` with the pose world_from_camera (4, 4); nothing moves in it."""
        return render(lambda u, v: self._shade(camera, world_from_camera, u, v), camera.height, camera.width)

    def _shade(
        self, camera: Camera, world_from_camera: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The outputs that `render` needs at pixels (u, v)."""
        rotate, origin = world_from_camera[:3, :3], world_from_camera[:3, 3]
        directions = (rotate @ camera.directions(u, v)).astype(np.float32)
        step = camera.steps(rotate, u, v)
        depth, solid = trace(origin, directions, self._solids)
        if (solid < 0).any():
            raise ValueError("the camera looks out of the room; is it inside?")
        colour, face = self._paint.solids(origin, depth, directions, solid, step, self._solids)
        label = self._solids.label[solid]
        return colour, depth, label, np.zeros(len(u), bool), solid << 2 | face


class _Furnished:
    """The solids of a room; `half` (2,) is half its length along x and y, metres."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.half = rng.uniform([2.4, 2.1], [3.8, 3.2])
        self.height = rng.uniform(2.4, 2.9)
        self.solids: list[Solid] = []
        self._shell()
        for side in range(4):
            self._along_wall(side, door=side == 0)
        self._middle()

    def _shell(self) -> None:
        rng, (a, b), height = self.rng, self.half, self.height
        wood = WOODS[rng.integers(len(WOODS))] * rng.uniform(0.9, 1.15)
        floor = {"paint": PLANKS, "pattern": (rng.uniform(0.1, 0.22), rng.uniform(0.9, 1.8), 0)}
        self._box((0, 0, -BASE / 2), (a + 0.3, b + 0.3, BASE / 2), FLOOR, wood, contrast=0.14, **floor)
        white = np.array((0.95, 0.95, 0.93))
        self._box((0, 0, height + 0.1), (a + 0.3, b + 0.3, 0.1), CEILING, white, contrast=0.03)
        colour, other = WALLS[rng.choice(len(WALLS), 2, replace=False)]
        bare = rng.random(4) < (0.35, 0.2, 0.35, 0.2)
        for side in range(4):
            along = self._spans(side)[0]
            pattern = rng.uniform(0.12, 0.5), 0, (0 if rng.random() < 0.5 else rng.uniform(0.3, 0.6))
            contrast = rng.uniform(0.01, 0.025) if bare[side] else rng.uniform(0.05, 0.10)
            pattern = (1, 0, 0) if bare[side] else pattern
            paint = other if side == 2 else colour
            self._stand(side, 0, -0.1, (along + 0.2, 0.1, height / 2), WALL, paint, height / 2,
                        paint=PAPER, contrast=contrast, pattern=pattern)  # fmt: skip

    def _along_wall(self, side: int, door: bool) -> None:
        """Furniture from one corner to the other, with paintings above low pieces."""
        rng, (along, _) = self.rng, self._spans(side)
        x = -along + 0.75  # the corner belongs to the other wall
        while x < along - 1.1:
            width = min(rng.uniform(0.6, 1.7), along - 0.7 - x)
            middle = x + width / 2
            if door:
                self._door(side, middle)
                width, door = 1.0, False
            elif rng.random() < 0.8:
                low = self._furniture(side, middle, width / 2)
                if low and rng.random() < 0.8:
                    self._painting(side, middle, width / 2)
            elif rng.random() < 0.8:
                self._painting(side, middle, width / 2)
            x += width + rng.uniform(0.05, 0.7)

    def _furniture(self, side: int, x: float, half: float) -> bool:
        """One piece at a wall, `half` its width; True if it is low."""
        rng, kind = self.rng, self.rng.choice(4, p=(0.3, 0.25, 0.25, 0.2))
        wood = WOODS[rng.integers(len(WOODS))] * rng.uniform(0.8, 1.2)
        cloth = CLOTHS[rng.integers(len(CLOTHS))] * rng.uniform(0.8, 1.2)
        if kind == 0:
            tall = rng.uniform(0.8, 1.1)
            self._stand(side, x, 0.16, (half, 0.16, tall), FURNITURE, wood, tall, paint=BOOKS)
            return False
        if kind == 1:
            tall = rng.uniform(0.75, 1.05)
            self._stand(side, x, 0.28, (half, 0.28, tall), FURNITURE, wood, tall, paint=PANELS)
            return False
        if kind == 2:  # a chest with something on it
            tall, deep = rng.uniform(0.35, 0.5), rng.uniform(0.2, 0.3)
            self._stand(side, x, deep, (half, deep, tall), FURNITURE, wood, tall, paint=PANELS)
            size = rng.uniform([0.08, 0.08, 0.1], [0.16, 0.16, 0.22])
            self._stand(side, x + rng.uniform(-0.5, 0.5) * half, deep, size, FURNITURE, cloth,
                        2 * tall + size[2], round=bool(rng.random() < 0.5), contrast=0.2)  # fmt: skip
            return True
        seat = rng.uniform(0.2, 0.26)  # a sofa
        self._stand(side, x, 0.42, (half, 0.42, seat), FURNITURE, cloth, seat, contrast=0.2)
        self._stand(side, x, 0.1, (half, 0.1, 0.42), FURNITURE, cloth * 0.9, 0.42, contrast=0.2)
        for end in (-1, 1):
            self._stand(side, x + end * (half - 0.08), 0.42, (0.08, 0.42, 0.3), FURNITURE, cloth * 0.95, 0.3)
        return True

    def _painting(self, side: int, x: float, half: float) -> None:
        rng = self.rng
        size = min(half * 0.8, rng.uniform(0.2, 0.5)), 0.015, rng.uniform(0.18, 0.36)
        frame = WOODS[rng.integers(len(WOODS))] * rng.uniform(0.5, 1.3)
        self._stand(side, x, 0.015, size, PAINTING, frame, rng.uniform(1.5, 1.65), paint=ART, contrast=0.1)

    def _door(self, side: int, x: float) -> None:
        wood = np.array((0.84, 0.82, 0.76)) if self.rng.random() < 0.5 else WOODS[0]
        self._stand(side, x, 0.02, (0.45, 0.02, 1.02), FURNITURE, wood, 1.02, paint=PANELS, contrast=0.08)

    def _middle(self) -> None:
        """A rug, a lamp, and often a table with chairs that the camera passes above."""
        rng = self.rng
        cloth = CLOTHS[rng.integers(len(CLOTHS))]
        size = (*rng.uniform(0.7, 1.2, 2), 0.008)
        x, y = rng.uniform(-0.4, 0.4, 2)
        self._box((x, y, 0.008), size, FURNITURE, cloth, rng.uniform(-0.4, 0.4), paint=ART, contrast=0.3)
        self._box((x, y, self.height - 0.3), (0.2, 0.2, 0.12), FURNITURE, cloth * 1.1, round=True)
        self._box((x, y, self.height - 0.1), (0.015, 0.015, 0.1), FURNITURE, np.full(3, 0.2))
        if rng.random() < 0.6:
            wood = WOODS[rng.integers(len(WOODS))]
            yaw = rng.uniform(-0.5, 0.5)
            long, wide, turn = *rng.uniform([0.5, 0.35], [0.8, 0.5]), rotation(yaw)[:2, :2]
            self._box((x, y, 0.72), (long, wide, 0.02), FURNITURE, wood, yaw, paint=PLANKS,
                      contrast=0.2, pattern=(0.12, 1.2, 0))  # fmt: skip
            for i, j in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
                dx, dy = turn @ (i * (long - 0.06), j * (wide - 0.06))
                self._box((x + dx, y + dy, 0.35), (0.03, 0.03, 0.35), FURNITURE, wood, yaw)
                dx, dy = turn @ (i * long * 0.5, j * (wide + 0.15))
                self._box((x + dx, y + dy, 0.22), (0.19, 0.19, 0.22), FURNITURE, cloth, yaw + 0.1 * i * j)
            dx, dy = turn @ rng.uniform(-0.25, 0.25, 2)
            size = rng.uniform([0.06, 0.06, 0.05], [0.16, 0.12, 0.13])
            self._box((x + dx, y + dy, 0.74 + size[2]), size, FURNITURE, CLOTHS[3], yaw + 0.7)

    def _spans(self, side: int) -> tuple[float, float]:
        """Half the length of a wall, and its distance from the room's middle."""
        a, b = self.half
        return (a, b) if side % 2 == 0 else (b, a)

    def _stand(self, side: int, x: float, out: float, half: tuple, label: int, colour: np.ndarray,
               z: float, **more: object) -> None:  # fmt: skip
        """A solid at a wall: its middle `x` along it, `out` from it and `z` above the floor."""
        yaw = side * np.pi / 2
        px, py = rotation(yaw)[:2, :2] @ (x, self._spans(side)[1] - out)
        self._box((px, py, z), half, label, colour, yaw, **more)

    def _box(
        self, centre: tuple, half: tuple, label: int, colour: np.ndarray, yaw: float = 0.0, **more: object
    ) -> None:
        x, y, z = centre
        settings = {"paint": PLAIN, "contrast": 0.1, **more}
        colour = np.clip(colour, 0.03, 0.95)
        self.solids.append(Solid((x, y, z + BASE), tuple(half), yaw, label, colour, **settings))


class RoomPaint(Paint):
    """Colours of a room: soft light from above, and a brush for each kind of surface.

    Args:
        rng: generator of light and noise.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng, street=None)
        self.brushes = {
            PLANKS: self._planks,
            PAPER: self._paper,
            ART: self._art,
            BOOKS: self._books,
            PANELS: self._panels,
        }

    def _draw_light(self, rng: np.random.Generator) -> None:
        warmth = rng.uniform(-0.06, 0.10)
        self._ambient = np.float32(rng.uniform(0.78, 0.96) * np.array([1 + warmth, 1, 1 - warmth]))
        self._sun = np.float32(rng.uniform(0.14, 0.30) * np.array([1.05, 1, 0.92]))
        azimuth, height = rng.uniform(0, 6.28), rng.uniform(0.3, 0.8)
        flat = np.cos(height)
        self._to_sun = np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(height)])

    def _offset(self, solid: np.ndarray, face: np.ndarray, point: np.ndarray) -> np.ndarray:
        """The shift for a street without its seam in the middle of a wall."""
        return solid * 37.7 + face * 11.3

    def _tints(self, x: np.ndarray, period: np.ndarray, footprint: np.ndarray, key: np.ndarray) -> np.ndarray:
        """(P,) a random value in [-1, 1] for each cell of `period`, averaged over the footprint."""
        low, high = np.floor((x - footprint / 2) / period), np.floor((x + footprint / 2) / period)
        share = np.where(low == high, 1, (x + footprint / 2 - high * period) / footprint)

        def value(cell: np.ndarray) -> np.ndarray:
            return self._noise[(cell.astype(np.int64) * 131 + key * 1013) & 65535, 0]

        fade = (1.5 - footprint / period).clip(0, 1)
        return (value(high) * share + value(low) * (1 - share)) * fade

    def _planks(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Boards along u: one tint each, dark joints, butt joints shifted from board to board."""
        wide, long, _ = solids.pattern[at.solid].T
        board = np.floor(at.v / wide).astype(np.int64)
        shift = at.u + long * self._noise[(board * 977) & 65535, 1]
        tint = self._tints(at.v, wide, at.fv, at.solid) + 0.5 * self._tints(shift, long, at.fu, board)
        joint = np.maximum(_stripes(at.v, wide, 0.006, at.fv), _stripes(shift, long, 0.005, at.fu))
        return colour * (1 + 0.16 * tint - 0.6 * joint)[:, None]

    def _paper(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Wallpaper with or without stripes, above a skirting board."""
        period, _, share = solids.pattern[at.solid].T
        stripes = _stripes(at.u, period, period * share, at.fu)
        colour = colour * (1 - 0.16 * stripes * (share > 0))[:, None]
        return _blend(colour, (0.86, 0.84, 0.80), _band(at.v, 0, 0.09, at.fv))

    def _art(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Texture of paintings and rugs: large patches of colour within a plain border."""
        wide = np.maximum(at.fu, at.fv)
        flat = at.half[2] < 0.05  # a rug lies flat, a painting hangs
        reach = np.where(flat, at.half[1], at.half[2])
        v = np.where(flat, at.v, at.v - reach)
        border = np.where(flat, 0.1, 0.03)
        inside = _band(at.u, 0, at.half_width - border, at.fu) * _band(v, 0, reach - border, at.fv)
        inside = inside * np.where(flat, at.face == 2, at.face == 1)
        key = (at.solid * 3.7).astype(np.float32)
        blots = [
            0.5 + 0.42 * self._octaves(at.u + key + 11.1 * k, v - key, wide, CELLS[1:5]) for k in range(3)
        ]
        return _blend(colour, np.stack(blots, 1).clip(0.05, 0.95) ** 1.2, inside)

    def _books(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Boards with rows of books of many colours between them."""
        tall = 0.34
        row = np.floor(at.v / tall).astype(np.int64)
        key = at.solid * 17 + row
        thick = 0.045 + 0.0 * at.u
        spines = np.stack(
            [0.42 + 0.3 * self._tints(at.u, thick, at.fu, key * 3 + channel) for channel in range(3)], 1
        )
        spines = spines * (1 - 0.5 * _stripes(at.u, thick, 0.006, at.fu))[:, None]
        top = 0.22 + 0.05 * self._tints(at.u, thick, at.fu, key + 71)
        books = _stripes(at.v - 0.03, tall, top, at.fv)
        hollow = _stripes(at.v - 0.03, tall, tall - 0.03, at.fv)
        front = (at.face == 1) * _band(at.u, 0, at.half_width - 0.03, at.fu)
        colour = _blend(colour, (0.10, 0.09, 0.08), hollow * front)
        return _blend(colour, spines, books * front)

    def _panels(self, colour: np.ndarray, at: Spots, solids: Solids) -> np.ndarray:
        """Doors and drawers: framed fields with a knob's shadow, on every upright face."""
        width, height = 2 * at.half_width / np.maximum(1, np.round(at.half_width / 0.3)), at.half[2]
        field = _stripes(at.u + at.half_width - 0.05, width, width - 0.1, at.fu)
        field = field * _stripes(at.v - 0.06, height, height - 0.12, at.fv) * at.upright
        gap = np.maximum(_stripes(at.u + at.half_width + 0.004, width, 0.008, at.fu), 0) * at.upright
        shade = 1 - 0.16 * field - 0.5 * gap
        knob = _stripes(at.u + at.half_width - 0.02, width, 0.03, at.fu) * _band(at.v, height, 0.03, at.fv)
        colour = colour * shade[:, None]
        return _blend(colour, (0.18, 0.17, 0.16), _smooth(knob) * at.upright)
