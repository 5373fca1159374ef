"""Speed of a camera, from `speed.csv` or from poses, as a mean between two frames.

    seconds,metres_per_second
    0.00,8.31
    0.02,8.33

The times have the same origin as those of the frames. Between rows the speed is interpolated linearly; the
mean over an interval is its integral over the length:

    v = (1 / (b - a)) integral from a to b of v(t) dt,     distance = v |b - a|
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from utils import InputError, read_lines

SPEED_FILE = "speed.csv"
TIMES_FILE = "times.txt"
PLAUSIBLE = (0.1, 60.0)  # metres per second, of the median of a moving camera: a slow walk to 216 km/h
LONGEST_GAP = 1.0  # seconds between two rows that are interpolated
_KNOWN_TIMES = {"s", "sec", "seconds", "time", "time_s", "timestamp", "t"}
_KNOWN_SPEEDS = {
    "m/s",
    "mps",
    "metres_per_second",
    "meters_per_second",
    "speed",
    "speed_mps",
    "speed_m/s",
    "v",
}


class SpeedTrack:
    """Speeds over time.

    Args:
        times: (n,) seconds, increasing.
        speeds: (n,) metres per second; the sign, of a vehicle that reverses, is dropped.
        source: the file they come from, for errors.
        plausible: bounds of the median, metres per second.
        longest_gap: seconds between two rows, up to which the speed between them is interpolated.

    Raises:
        InputError: another number of times than of speeds, fewer than two rows, values that are not finite,
            times that are negative or do not increase, speeds that are 0 throughout or not plausible.
    """

    def __init__(
        self,
        times: np.ndarray,
        speeds: np.ndarray,
        source: str,
        plausible: tuple[float, float] = PLAUSIBLE,
        longest_gap: float = LONGEST_GAP,
    ) -> None:
        times, speeds = np.asarray(times, np.float64), np.abs(np.asarray(speeds, np.float64))
        if times.shape != speeds.shape or times.ndim != 1:
            raise InputError(
                f"{source}: {times.size} times and {speeds.size} speeds; one speed for each time"
            )
        if len(times) < 2:
            raise InputError(f"{source}: speed needs at least two rows, got {len(times)}")
        if not (np.isfinite(times).all() and np.isfinite(speeds).all()):
            raise InputError(f"{source}: times and speeds are finite numbers; leave out rows without a speed")
        if times[0] < 0:
            raise InputError(f"{source}: times begin at {times[0]:g} s; the first frame is at 0 s")
        if (np.diff(times) <= 0).any():
            row = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 2
            raise InputError(
                f"{source}, row {row}: times must increase, but {times[row - 1]:g} s follows "
                f"{times[row - 2]:g} s"
            )
        check_speeds(speeds, source, plausible)
        self.times, self.speeds, self.source, self.longest_gap = times, speeds, source, longest_gap
        steps = np.diff(times)
        self._travelled = np.concatenate([[0.0], np.cumsum((speeds[1:] + speeds[:-1]) / 2 * steps)])

    def mean(self, start: float, end: float) -> float:
        """Mean speed between two times in either order, metres per second.

        Raises:
            InputError: equal times, or a time that `check_covers` refuses.
        """
        if start == end:
            raise InputError(f"{self.source}: the mean speed needs two times, got {start:g} s twice")
        self.check_covers(np.array([min(start, end), max(start, end)]))
        first, last = self._distance(start), self._distance(end)
        return float((last - first) / (end - start))

    def check_covers(self, frame_times: np.ndarray) -> None:
        """Refuse frames whose speed is not known.

        Args:
            frame_times: (n,) seconds, increasing.

        Raises:
            InputError: times before the first or after the last row, or within a gap.
        """
        low, high = float(frame_times[0]), float(frame_times[-1])
        if low < self.times[0] - 1e-6 or high > self.times[-1] + 1e-6:
            raise InputError(
                f"{self.source} covers {self.times[0]:g} to {self.times[-1]:g} s and the frames {low:g} to "
                f"{high:g} s; are the times of both in seconds from the same start?"
            )
        for row in np.flatnonzero(np.diff(self.times) > self.longest_gap):
            begin, end = self.times[row], self.times[row + 1]
            # A gap between two frames matters as well: the mean between them is unknown.
            if low < end and high > begin:
                raise InputError(
                    f"{self.source} has a gap from {begin:g} to {end:g} s, in which frames lie; fill it, or "
                    "leave the frames out"
                )

    def _distance(self, time: float) -> float:
        """Metres from the first row to a time within the rows."""
        time = float(np.clip(time, self.times[0], self.times[-1]))
        row = int(np.clip(np.searchsorted(self.times, time, "right") - 1, 0, len(self.times) - 2))
        speed = np.interp(time, self.times, self.speeds)
        return float(self._travelled[row] + (self.speeds[row] + speed) / 2 * (time - self.times[row]))


class SceneSpeed:
    """Times and speeds of the frames of one scene, from files next to them.

    Args:
        folder: with `speed.csv` and, unless `fps` is given, `times.txt`.
        frames: number of frames.
        fps: frames per second, from 0 s on; None reads `times.txt`.
        settings: `plausible` and `longest_gap` of `SpeedTrack`.

    Raises:
        InputError: no such file, or a file that does not fit the frames.
    """

    def __init__(self, folder: str | Path, frames: int, fps: float | None = None, **settings) -> None:
        folder = Path(folder)
        if fps is not None and fps <= 0:
            raise InputError(f"fps must be positive, got {fps}")
        if not (folder / SPEED_FILE).is_file():
            raise InputError(
                f"there is no file {folder / SPEED_FILE}; write seconds and metres per second into it, "
                "one row "
                "for each measurement, or leave out --dataset.speed"
            )
        if fps is None and not (folder / TIMES_FILE).is_file():
            raise InputError(
                f"{folder} has a {SPEED_FILE} and no {TIMES_FILE}; write the seconds of each frame there, "
                "one a line, or give the frames per second, such as --dataset.speed 25"
            )
        self.times = np.arange(frames) / fps if fps else read_times(folder / TIMES_FILE, frames)
        self.track = read_speed_csv(folder / SPEED_FILE, **settings)
        self.track.check_covers(self.times)

    def motion(self, target: int, source: int) -> tuple[float, float]:
        """Mean speed (metres per second) between two frames, and seconds from target to source."""
        start, end = self.times[target], self.times[source]
        return self.track.mean(start, end), float(end - start)


def read_speed_csv(path: str | Path, **settings) -> SpeedTrack:
    """`speed.csv`: two columns, seconds and metres per second, with or without a line of names.

    Args:
        path: path of the file.
        settings: `plausible` and `longest_gap` of `SpeedTrack`.

    Raises:
        InputError: no such file, other columns, another unit, or what `SpeedTrack` refuses.
    """
    rows = [re.split(r"[,;\s]+", line) for line in read_lines(path) if not line.startswith("#")]
    if rows and not _is_number(rows[0][0]):
        _check_names(path, rows[0])
        rows = rows[1:]
    values = []
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(map(_is_number, row)):
            raise InputError(
                f"{path}, row {number}: expected seconds and metres per second, got '{','.join(row)}'"
            )
        values.append([float(word) for word in row])
    table = np.array(values).reshape(-1, 2)
    return SpeedTrack(table[:, 0], table[:, 1], str(path), **settings)


def read_times(path: str | Path, frames: int) -> np.ndarray:
    """(frames,) seconds from `times.txt`, one for each frame.

    Raises:
        InputError: no such file, not numbers, another count, times that are negative or do not increase.
    """
    lines = read_lines(path)
    if not all(map(_is_number, lines)):
        raise InputError(f"{path}: expected one time in seconds a line")
    times = np.array([float(line) for line in lines])
    if len(times) != frames:
        raise InputError(f"{path} has {len(times)} times for {frames} frames; it needs one for each")
    if (times < 0).any() or (np.diff(times) <= 0).any():
        raise InputError(f"{path}: times must be at least 0 and increase from frame to frame")
    return times


def speed_of_motion(T_source_from_target: np.ndarray, time_step: float) -> float:
    """Mean speed of a camera between two known poses, metres per second, from (4, 4) and seconds.

    Raises:
        InputError: the time step is 0.
    """
    if time_step == 0:
        raise InputError("the speed between two poses needs a time step, got 0 s")
    return float(np.linalg.norm(T_source_from_target[:3, 3]) / abs(time_step))


def check_speeds(speeds: np.ndarray, source: str, plausible: tuple[float, float] = PLAUSIBLE) -> None:
    """Refuse speeds that are not plausible as metres per second.

    Args:
        speeds: (n,) at least 0.
        source: where they come from.
        plausible: bounds of the median of the speeds above 0.

    Raises:
        InputError: 0 throughout, or a median out of bounds.
    """
    moving = speeds[speeds > 0]
    if not len(moving):
        raise InputError(
            f"{source}: every speed is 0; a camera that stands still gives no scale; leave out "
            "--dataset.speed"
        )
    median = float(np.median(moving))
    if not plausible[0] <= median <= plausible[1]:
        raise InputError(
            f"{source}: the median speed is {median:g} m/s ({3.6 * median:g} km/h), outside "
            f"{plausible[0]:g} to "
            f"{plausible[1]:g} m/s; is it in another unit? Convert it to metres per second"
        )


def _check_names(path: str | Path, names: list[str]) -> None:
    if len(names) != 2:
        raise InputError(
            f"{path} has the columns {', '.join(names)}; it needs two: seconds, metres_per_second"
        )
    for name, known, unit in zip(names, (_KNOWN_TIMES, _KNOWN_SPEEDS), ("seconds", "metres_per_second")):
        if name.lower().strip("\"'") not in known:
            raise InputError(f"{path} has a column '{name}' where {unit} is expected; convert and rename it")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
