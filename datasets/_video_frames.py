"""The frames of a video that training can use: cuts, repeated frames, standing scenes and uneven times.

    repeat   the frame equals the one before: the frame rate was raised, or the camera stands still
    cut      another scene begins: image and colours change far more than between the frames before
    pause    the time to the next frame is much longer than usual

Repeats are left out. A cut or a pause is a gap in the numbers of the files, which no sample reaches across
(image_files.frame_runs). `times.txt` holds the time of each frame, so that a variable rate is known.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

SAME = 0.25  # mean difference of two small frames, of 255, below which nothing has moved
CUT, CUT_TIMES = 12.0, 1.8  # the same at a cut at least, and relative to the median of the frames before
# Share of the pixels whose colour is new at a cut. Walks in synthetic rooms have at most 0.08 between frames,
# and 0.32 to 0.87 at cuts from one to another.
CUT_COLOURS = 0.25
PAUSE = 0.5  # seconds, and 5 usual steps, at a pause at least
GAP = 10  # numbers that are left out at a cut
SMALL = (64, 36)  # pixels, width and height of the compared frames


@dataclass
class FrameFilter:
    """Decides for one frame after another whether it is kept, and under which number.

    Attributes:
        count: frames so far, with those left out.
        numbers, times: numbers of the kept frames and their times in seconds.
        cuts, pauses: times in seconds.
    """

    count: int = 0
    numbers: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    _steps: list[float] = field(default_factory=list)  # seconds between frames, with those left out
    _changes: deque[float] = field(default_factory=lambda: deque(maxlen=12))
    _small: np.ndarray | None = None
    _last: float = 0.0

    def number(self, frame: np.ndarray, time: float) -> int | None:
        """The number of a frame (h, w, 3) uint8 at `time` seconds; None if it is left out."""
        small = cv2.resize(frame, SMALL, interpolation=cv2.INTER_AREA).astype(np.int16)
        self.count += 1
        step, self._last = time - self._last, time
        if self._small is None:
            return self._keep(small, time, 0)
        paused = len(self._steps) >= 3 and step > max(PAUSE, 5 * statistics.median(self._steps[-30:]))
        self._steps.append(step)
        change = float(np.abs(small - self._small).mean())
        if change < SAME and not paused:
            return None
        usual = statistics.median(self._changes) if len(self._changes) >= 3 else change
        cut = change > max(CUT, CUT_TIMES * usual) and _new_colours(self._small, small) > CUT_COLOURS
        self._changes.append(change)
        if cut:
            self.cuts.append(time)
            self._changes.clear()
        elif paused:
            self.pauses.append(time)
        return self._keep(small, time, self.numbers[-1] + (GAP if cut or paused else 1))

    def _keep(self, small: np.ndarray, time: float, number: int) -> int:
        self._small = small
        self.numbers.append(number)
        self.times.append(time)
        return number

    def report(self) -> list[str]:
        """Repeats, cuts, pauses and a variable frame rate, in words."""
        said = []
        if left := self.count - len(self.numbers):
            said.append(f"{left} of {self.count} frames repeat the one before and are left out")
        for places, words in ((self.cuts, "cut"), (self.pauses, "pause")):
            if places:
                when = ", ".join(f"{time:.1f} s" for time in places[:5]) + (", ..." if places[5:] else "")
                many = "s" if places[1:] else ""
                said.append(f"{len(places)} {words}{many} at {when}, which no sample reaches across")
        steps = [step for step in self._steps if step > 0]
        if len(steps) >= 8:
            low, high = np.quantile(steps, [0.1, 0.9])
            if high > 1.5 * low:
                said.append(
                    f"the frame rate varies, {1 / high:.0f} to {1 / low:.0f} a second; times.txt has the "
                    "time of each frame"
                )
        return said


def _new_colours(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels of `after` whose colours `before` does not have, by histograms of 4^3 cells."""

    def histogram(small: np.ndarray) -> np.ndarray:
        cells = (small // 64).reshape(-1, 3) @ (16, 4, 1)
        return np.bincount(cells, minlength=64) / len(cells)

    return float(0.5 * np.abs(histogram(after) - histogram(before)).sum())
