"""KITTI's inertial unit: 30 values per frame in oxts/data/<frame>.txt, as poses and as speed.

    x = s R lon,  y = s R ln tan(pi / 4 + lat / 2),  z = alt,      s = cos(lat of the first frame)
    rotation = Rz(yaw) Ry(pitch) Rx(roll)

The Mercator projection of KITTI's development kit (Geiger et al. 2013). The world's axes are east, north, up;
the unit's are forward, left, up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import InputError, nearest_name, read_lines, read_text

EARTH_RADIUS = 6378137.0  # metres, as in the development kit
VALUES = 30
SPEED_RULES = ("velocity", "positions")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)?$")


class Oxts(NamedTuple):
    """One record.

    Attributes:
        latitude, longitude: degrees.
        altitude: metres.
        roll, pitch, yaw: radians; yaw is 0 towards east.
        forward, leftward, upward: velocity along the unit's axes, metres per second.
    """

    latitude: float
    longitude: float
    altitude: float
    roll: float
    pitch: float
    yaw: float
    forward: float
    leftward: float
    upward: float

    @property
    def speed(self) -> float:
        """Metres per second over ground."""
        return float(np.hypot(self.forward, self.leftward))


def read_oxts(path: str | Path) -> Oxts:
    """A record of KITTI's inertial unit.

    Raises:
        InputError: no such file, not numbers, fewer than 30 values.
    """
    words = read_text(path).split()
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{path}: a record of oxts is {VALUES} numbers ({error})") from None
    if len(values) < VALUES or not np.isfinite(values[:11]).all():
        raise InputError(f"{path}: a record of oxts is {VALUES} finite numbers, got {len(values)}")
    return Oxts(*values[:6], *values[8:11])  # values 6 and 7 are the velocity to the north and east


def world_from_imu(record: Oxts, first_latitude: float) -> np.ndarray:
    """(4, 4) pose of the inertial unit; `first_latitude` (degrees) sets the scale of the projection."""
    scale = np.cos(np.radians(first_latitude))
    pose = np.eye(4)
    pose[:3, :3] = _turn(2, record.yaw) @ _turn(1, record.pitch) @ _turn(0, record.roll)
    pose[:3, 3] = (
        scale * EARTH_RADIUS * np.radians(record.longitude),
        scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + record.latitude) / 2)),
        record.altitude,
    )
    return pose


def camera_motion(
    world_from_imu_target: np.ndarray, world_from_imu_source: np.ndarray, camera_from_imu: np.ndarray
) -> np.ndarray:
    """(4, 4) T_source_from_target of a camera fixed to the inertial unit, metres."""
    imu_source_from_imu_target = np.linalg.inv(world_from_imu_source) @ world_from_imu_target
    return camera_from_imu @ imu_source_from_imu_target @ np.linalg.inv(camera_from_imu)


def read_timestamps(path: str | Path) -> np.ndarray:
    """(n,) float64 seconds since the first line of a KITTI timestamps.txt.

    Raises:
        InputError: no such file, a line that is not a time, times that do not increase.
    """
    seconds = []
    for number, line in enumerate(read_lines(path), 1):
        match = _STAMP.match(line)
        if not match:
            raise InputError(
                f"{path}, line {number}: expected a time such as 2011-09-26 13:02:25.964, got '{line}'"
            )
        whole = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S") - datetime(2011, 1, 1)
        seconds.append(whole.total_seconds() + float(match[2] or 0))
    times = np.array(seconds)
    if len(times) == 0 or (np.diff(times) <= 0).any():
        raise InputError(f"{path}: times must increase from line to line")
    return times - times[0]


class OxtsDrive:
    """Poses and speeds of one drive; records are read when they are first used.

    Args:
        folder: folder of the drive, with oxts/data and timestamps.
        rule: rule for the mean speed between two frames: `velocity`, the mean of the measured velocities over
            ground, or `positions`, the distance of the two positions over the time.

    Raises:
        InputError: an unknown rule, no oxts.
    """

    def __init__(self, folder: str | Path, rule: str = "velocity") -> None:
        if rule not in SPEED_RULES:
            raise InputError(f"there is no speed rule '{rule}'{nearest_name(rule, SPEED_RULES)}")
        self.folder, self.rule = Path(folder), rule
        times = self.folder / "oxts" / "timestamps.txt"
        if not times.is_file():
            raise InputError(
                f"there is no file {times}; unpack the drive's oxts next to its images, or leave out "
                "--dataset.speed"
            )
        self.times = read_timestamps(times)
        self._records: dict[int, Oxts] = {}

    def check_covers(self, frames: Iterable[int]) -> None:
        """Refuse frames without a record or a time. The folder is listed once.

        Raises:
            InputError: names the first of them.
        """
        folder = self.folder / "oxts" / "data"
        files = set(os.listdir(folder)) if folder.is_dir() else set()
        wanted = sorted(frames)
        missing = [frame for frame in wanted if f"{frame:010d}.txt" not in files]
        if missing:
            raise InputError(
                f"{folder} has no record of frame {missing[0]}; {len(missing)} of the {len(wanted)} "
                "frames that "
                "are read lack one; unpack the drive's oxts again, or leave the drive out of the list"
            )
        self.time_step(wanted[0], wanted[-1])

    def record(self, frame: int) -> Oxts:
        """The record of a frame.

        Raises:
            InputError: there is none.
        """
        if frame not in self._records:
            self._records[frame] = read_oxts(self.folder / "oxts" / "data" / f"{frame:010d}.txt")
        return self._records[frame]

    def time_step(self, target: int, source: int) -> float:
        """Seconds from target to source, negative for earlier sources.

        Raises:
            InputError: a frame beyond the timestamps.
        """
        for frame in (target, source):
            if not 0 <= frame < len(self.times):
                raise InputError(
                    f"{self.folder / 'oxts' / 'timestamps.txt'} has {len(self.times)} times and none of "
                    f"frame {frame}; is the file complete?"
                )
        return float(self.times[source] - self.times[target])

    def world_from_imu(self, frame: int) -> np.ndarray:
        """(4, 4), scaled by the latitude of the drive's first record, as the development kit does."""
        return world_from_imu(self.record(frame), self.record(0).latitude)

    def speed(self, target: int, source: int) -> float:
        """Mean speed between two frames, metres per second."""
        if self.rule == "positions":
            here, there = self.world_from_imu(target), self.world_from_imu(source)
            return float(np.linalg.norm(there[:3, 3] - here[:3, 3]) / abs(self.time_step(target, source)))
        first, last = sorted((target, source))
        speeds = np.array([self.record(frame).speed for frame in range(first, last + 1)])
        steps = np.array([self.time_step(frame, frame + 1) for frame in range(first, last)])
        return float(((speeds[1:] + speeds[:-1]) / 2 * steps).sum() / steps.sum())


def _turn(axis: int, angle: float) -> np.ndarray:
    """(3, 3) rotation about axis 0, 1 or 2."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array(
        [
            [[1, 0, 0], [0, c, -s], [0, s, c]],
            [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        ][axis]
    )
