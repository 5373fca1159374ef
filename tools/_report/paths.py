"""Trajectories in the report: path and ground truth from above, errors, distance over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tools._report.charts import GREY, chart, colour_of
from tools._report.reading import Run, Trajectory
from tools._report.tables import number_words, soft, table
from trajectories import align

WIDTH, HEIGHT, MARGIN = 680, 420, 26  # pixels of the view from above
POINTS = 800  # of a drawn path
COLUMNS = {  # of metrics.json → heading, decimals
    "t_err": ("drift, %", 2),
    "r_err": ("drift, degrees / 100 m", 2),
    "ate": ("ATE, m", 3),
    "rpe_translation": ("RPE, m", 4),
    "rpe_rotation_rms": ("RPE, degrees", 4),
    "scale": ("scale", 4),
    "length": ("length, m", 1),
}
WORDS = (
    "From above: x right, z forward of the first camera. Dashed: ground truth; a dot marks the start. ATE "
    "and RPE (frame to frame) are root mean squares; drift is measured over 100 m and more."
)


def trajectory_html(name: str, runs: Sequence[Run]) -> str:
    """One evaluated sequence: errors, the paths from above, their distance from the ground truth.

    Args:
        name: name of the evaluation.
        runs: the runs of the report; their position is their colour.
    """
    found = {n: run.trajectories[name] for n, run in enumerate(runs) if name in run.trajectories}
    head = ("run", "alignment", *(words for words, _ in COLUMNS.values()))
    rows = [
        (
            runs[n].name,
            one.scores["alignment"],
            *(number_words(one.scores.get(key), digits) for key, (_, digits) in COLUMNS.items()),
        )
        for n, one in found.items()
    ]
    paths = {n: positions(one) for n, one in found.items()}
    away = {n: np.linalg.norm(path - known, axis=1) for n, (path, known) in paths.items()}
    curves = {n: (np.arange(len(values)), values) for n, values in away.items()}
    drawn = f"<div>{from_above(paths)}</div>{chart('distance from the ground truth, m', curves, 'frame')}"
    return f"{table([head, *rows], [None, *found])}{soft(WORDS)}<div class='panels path'>{drawn}</div>"


def positions(one: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Aligned path and ground truth, (N, 3) each, in the axes of the ground truth's first camera."""
    first = np.linalg.inv(one.ground_truth[0])
    aligned, _ = align(one.path, one.ground_truth, one.scores["alignment"])
    return (first @ aligned)[:, :3, 3], (first @ one.ground_truth)[:, :3, 3]


def from_above(paths: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> str:
    """Paths from above as SVG, with a bar of a round length.

    Args:
        paths: position of a run → its path and its ground truth, (N, 3) x right, y down, z forward, metres.
    """
    everything = np.concatenate([part[:, ::2] for pair in paths.values() for part in pair])
    low, high = everything.min(0), everything.max(0)
    sides = np.array([WIDTH - 2 * MARGIN, HEIGHT - 3 * MARGIN])
    per_metre = float((sides / np.maximum(high - low, 1e-3)).min())
    centre = np.array([WIDTH / 2, (HEIGHT - MARGIN) / 2])

    def line(part: np.ndarray, style: str) -> str:
        step = max(1, math.ceil(len(part) / POINTS))
        kept = np.r_[part[:-1:step], part[-1:]]
        drawn = centre + (kept[:, ::2] - (low + high) / 2) * per_metre * np.array([1, -1])
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        return f"<polyline points='{points}' fill='none' stroke-linejoin='round' {style}/>"

    known_paths: list[np.ndarray] = []
    for _, known in paths.values():
        if not any(np.array_equal(known, other) for other in known_paths):
            known_paths.append(known)
    lines = [line(known, "stroke='#66707c' stroke-width='2' stroke-dasharray='6 5'") for known in known_paths]
    lines += [line(path, f"stroke='{colour_of(n)}' stroke-width='2'") for n, (path, _) in paths.items()]
    x, y = centre - (low + high) / 2 * per_metre * np.array([1, -1])  # of the first camera
    lines.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='#1f242b'/>")
    metres = round_length((WIDTH / 3) / per_metre)
    end, bar = MARGIN + metres * per_metre, HEIGHT - 12
    lines.append(f"<path d='M{MARGIN} {bar - 4}v8m0 -4H{end:.1f}m0 -4v8' fill='none' stroke='{GREY}'/>")
    lines.append(f"<text x='{end + 8:.1f}' y='{bar + 4}'>{metres:g} m</text>")
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' font-size='13' fill='#66707c'>{''.join(lines)}</svg>"


def round_length(longest: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= longest)
