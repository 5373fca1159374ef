"""The street: a gentle curve with stretches of town, suburb, canyon and open land, and with cars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._rays import BODY, CABIN, FACADE, LEAVES, Solid

# Cityscapes train ids.
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, VEGETATION, TERRAIN, SKY, CAR = 0, 1, 2, 3, 4, 5, 8, 9, 10, 13
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


@dataclass(frozen=True)
class Mover:
    """A moving car: position `along` and `across` the street at time 0, metres; `speed` m/s, signed.

    With `follows`, position and speed are relative to the ego vehicle.
    """

    along: float
    across: float
    speed: float
    follows: bool = False


class Street:
    """A street and everything along it; x forward, y left, z up, the ground at z = 0, metres.

    Args:
        rng: generator of the street.
        traffic: cars on the lanes: `usual`; `dense`, with a car ahead and oncoming cars wherever there is
            room; `queues`, which is dense, but in every second street, at random, all cars stand.
    """

    def __init__(self, rng: np.random.Generator, traffic: str = "usual") -> None:
        self.rng, self.traffic = rng, traffic
        bend = rng.uniform(0, 0.22)  # the largest slope of the street against the x axis
        self._wave = rng.uniform(90, 220) / 6.283, rng.uniform(0, 6.28)
        self._swing = bend * self._wave[0]
        self.road = rng.uniform(3.2, 5.6)  # half its width
        self.sidewalk = rng.uniform(1.4, 3.2)
        self.lane = -self.road * rng.uniform(0.42, 0.55)  # position of the ego lane across the street
        self.crossings: list[tuple[float, float]] = []  # crossing streets: x of both edges
        self.solids: list[Solid] = []
        self.movers: list[Mover] = []

    def centre_line(self, x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """The street's y and its slope dy/dx at x; the drive starts at x = 0."""
        length, phase = self._wave
        return (
            self._swing * (np.sin(x / length + phase) - np.sin(phase)),
            self._swing / length * np.cos(x / length + phase),
        )

    def pose(self, along: float, across: float) -> tuple[float, float, float]:
        """x, y and heading of a point `along` the street and `across` it to the left, metres, radians."""
        y, slope = self.centre_line(along)
        heading = float(np.arctan(slope))
        return along - across * np.sin(heading), float(y) + across * np.cos(heading), heading

    def furnish(self, goal: float, seconds: float) -> None:
        """Add buildings, plants and cars along the street, for a drive of `goal` metres in `seconds`."""
        rng, self.goal, self.seconds = self.rng, goal, seconds
        self.end = self.goal + 190
        blocked = rng.random() < 0.4  # the street ends at a wall across: a T-junction
        if blocked:
            self.end = self.goal + rng.uniform(14, 60)
            self.crossings.append((self.end - 10.0, self.end - 3.0))
        x = rng.uniform(10, 60)
        while x < self.end - 40:
            if rng.random() < 0.6:
                self.crossings.append((x, x + rng.uniform(6, 9)))
            x += rng.uniform(45, 110)
        x = -25.0
        limit = self.end - (14 if blocked else 0)
        while x < limit:
            length = rng.uniform(25, 70)
            self._stretch(x, min(x + length, limit), rng.choice(4, p=(0.34, 0.28, 0.16, 0.22)))
            x += length
        if blocked:
            self._end_wall()
        self._horizon()
        self._traffic()

    def _stretch(self, start: float, end: float, style: int) -> None:
        """One stretch of street, both sides. Styles: 0 town, 1 suburb, 2 canyon, 3 open land."""
        rng = self.rng
        kerb = self.road + self.sidewalk
        for side in (-1, 1):
            setback = kerb + rng.uniform(*((0, 2), (4, 11), (0, 0.6), (14, 30))[style])
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

    def _along(
        self,
        start: float,
        end: float,
        side: int,
        chance: float,
        spacing: tuple[float, float],
        put: Callable[[float, int], None],
    ) -> None:
        """Call `put` every `spacing` metres, each time with probability `chance`, but not at crossings."""
        x = start + self.rng.uniform(0, spacing[0])
        while x < end:
            if self.rng.random() < chance and not self._crossed(x - 3, x + 3):
                put(x, side)
            x += self.rng.uniform(*spacing)

    def _crossed(self, start: float, end: float) -> bool:
        return any(start < b + 3 and end > a - 3 for a, b in self.crossings)

    def _solid(
        self,
        along: float,
        across: float,
        z: float,
        half: np.ndarray | tuple[float, float, float],
        label: int,
        colour: np.ndarray,
        **more: Any,
    ) -> None:
        """A solid with its middle at a point of the street, aligned with the street."""
        x, y, heading = self.pose(along, across)
        colour = np.clip(colour, 0.02, 1)
        self.solids.append(Solid((x, y, z), tuple(half), heading, label, colour, **more))

    def _building(
        self, x: float, length: float, height: float, side: int, setback: float, style: int
    ) -> None:
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
        self._solid(x + half[0], across, half[2], half, BUILDING, colour, **self._windows())
        roof = np.array((0.40, 0.22, 0.18)) if rng.random() < 0.6 else np.array((0.26, 0.28, 0.32))
        for step in range(1 if style == 0 else 3):  # a hipped roof, in steps
            shrink = 1.05 - 0.27 * step
            top = half * (shrink, shrink, 1)
            top[2] = 0.3 if style == 0 else 0.45
            z, colour = height + top[2] * (1 + 2 * step), roof * (1 + 0.1 * step)
            self._solid(x + half[0], across, z, top, BUILDING, colour)

    def _windows(self) -> dict:
        """Settings of a `Solid` for a wall with windows."""
        rng = self.rng
        pattern = rng.uniform(1.9, 3.6), rng.uniform(2.6, 3.4), rng.uniform(0.38, 0.62)
        return {"paint": FACADE, "contrast": rng.uniform(0.07, 0.14), "pattern": pattern}

    def _hedge(self, start: float, end: float, across: float) -> None:
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

    def _tree(self, x: float, side: int) -> None:
        rng = self.rng
        across = side * (self.road + self.sidewalk + rng.uniform(-0.6, 4))
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

    def _lamp(self, x: float, side: int) -> None:
        across = side * (self.road + 0.5)
        grey = np.array((0.34, 0.37, 0.38))
        self._solid(x, across, 2.6, (0.09, 0.09, 2.6), POLE, grey, contrast=0.15)
        self._solid(x, across - side * 0.7, 5.15, (0.12, 0.8, 0.08), POLE, grey, contrast=0.1)

    def _parked(self, x: float, side: int) -> None:
        if self.road + self.sidewalk > 5.6 or side > 0:
            self._car(x, side * (self.road + 0.35), flip=side > 0)

    def _car(self, along: float, across: float, flip: bool = False, mover: int = -1) -> None:
        rng = self.rng
        colour = PAINTS[rng.integers(len(PAINTS))] * rng.uniform(0.85, 1.1)
        length, width, van = rng.uniform(1.9, 2.3), rng.uniform(0.82, 0.92), rng.random() < 0.18
        body = np.array([length, width, 0.46])
        cabin = np.array([length * (0.9 if van else 0.55), width * 0.9, 0.55 if van else 0.31])
        ahead = (0.1 if van else -0.2) * (-1 if flip and mover < 0 else 1)
        x, y, heading = (0.0, 0.0, 0.0) if mover >= 0 else self.pose(along, across)
        for half, z, dx, paint in ((body, 0.46, 0, BODY), (cabin, 0.92 + cabin[2], ahead, CABIN)):
            centre = (x + dx * np.cos(heading), y + dx * np.sin(heading), z)
            yaw = heading + (np.pi if flip and mover < 0 else 0)
            more = {"paint": paint, "contrast": 0.07, "mover": mover}
            self.solids.append(Solid(centre, tuple(half), yaw, CAR, np.clip(colour, 0.03, 1), **more))

    def _traffic(self) -> None:
        rng, dense = self.rng, self.traffic != "usual"
        last = self.end - 14  # limit of all cars
        if self.traffic == "queues" and rng.random() < 0.5:
            self._queue(self.goal + rng.uniform(8, 14), last, self.lane)
            self._queue(rng.uniform(5, 15), last, -self.lane)
            return
        room = last - self.goal
        if (rng.random() < 0.35 or dense) and room > 12:  # a car ahead, a few m/s slower or faster
            gap = rng.uniform(10, min(room, 32))
            slowest, fastest = (8 - gap) / self.seconds, (room - gap) / self.seconds
            speed = np.clip(rng.uniform(-2.5, 3), slowest, fastest)
            self.movers.append(Mover(gap, self.lane, speed, follows=True))
        if rng.random() < 0.75 or dense:
            x, speed = rng.uniform(15, 60), rng.uniform(3, 9)
            while x < min(self.goal + speed * self.seconds + 120, last):
                self.movers.append(Mover(x, -self.lane, -speed))
                x += rng.uniform(10, 25) if dense else rng.uniform(14, 70)
        for mover in range(len(self.movers)):
            self._car(0, 0, mover=mover)

    def _queue(self, start: float, end: float, across: float) -> None:
        """Cars that stand one behind the other on a lane."""
        while start < end:
            self._car(start, across, flip=across > 0)
            start += self.rng.uniform(6, 12)

    def _end_wall(self) -> None:
        """Buildings on the far side of the crossing street at the end of the drive."""
        rng, y = self.rng, -45.0
        while y < 45:
            width = rng.uniform(9, 20)
            height = rng.uniform(5, 14)
            half = np.array([5, width / 2, height / 2])
            colour = FACADES[rng.integers(len(FACADES))] * rng.uniform(0.85, 1.1)
            self._solid(self.end + 5, y + width / 2, half[2], half, BUILDING, colour, **self._windows())
            y += width + (0 if rng.random() < 0.7 else 2.0)

    def _horizon(self) -> None:
        """Distant woods, so that the ground does not end at the sky."""
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
