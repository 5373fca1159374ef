"""Consistency over time: the scale ratio along each sequence, as curves and as drift.

    r_n = median(ground truth) / median(prediction) of frame n, shown relative to its median over the sequence

A model of one scale has a straight line at 1, whatever its unit (evaluation/scale_drift.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.scale_drift import FEWEST, ratios_of_scenes, scale_drift
from tools._report.charts import Curve, charts_html
from tools._report.reading import Run
from tools._report.tables import soft, table

DRIFT = ("frames", "max_over_min", "std_log", "slope")
SCENES = 6  # sequences that are shown, those with the largest drift
AROUND = 0.1  # a chart shows at least 1 - 0.1 to 1 + 0.1, so that a small drift looks small

WORDS = (
    "Ground truth / prediction of each frame, relative to its median over the sequence; largest drift first. "
    "A straight line at 1 means one scale and no drift."
)


def drift_html(name: str, runs: Sequence[Run]) -> str:
    """Curves and drift of an evaluation's sequences; empty if no sequence has enough frames.

    Args:
        name: name of the evaluation.
        runs: the runs of the report; their position is their colour.
    """
    ratios = {n: run.evaluations[name].ratios for n, run in enumerate(runs) if name in run.evaluations}
    drifts = {n: drift for n, images in ratios.items() if (drift := scale_drift(images))}
    if not drifts:
        return ""
    largest: dict[str, float] = {}
    for drift in drifts.values():
        for scene, one in drift.items():
            largest[scene] = max(one["std_log"], largest.get(scene, 0.0))
    scenes = sorted(largest.keys() - {"mean"}, key=lambda scene: (-largest[scene], scene))[:SCENES]
    curves = {n: _relative(ratios[n]) for n in drifts}
    charts = [
        (scene, {n: of_run[scene] for n, of_run in curves.items() if scene in of_run}) for scene in scenes
    ]
    rows: list[Sequence[Any]] = [
        ("run", "sequence", "frames", "max / min", "std of log", "log scale in 100 frames")
    ]
    numbers: list[int | None] = [None]
    for n, drift in drifts.items():
        for scene in ("mean", *scenes):
            if one := drift.get(scene):
                rows.append((runs[n].name, scene, *("" if k not in one else f"{one[k]:.3g}" for k in DRIFT)))
                numbers.append(n)
    return f"{soft(WORDS)}{charts_html(charts, 'frame', level=1, around=AROUND)}{table(rows, numbers)}"


def _relative(images: Sequence[tuple[str, str, float]]) -> dict[str, Curve]:
    """Sequence → numbers of its frames and ratios over their median."""
    found = {}
    for scene, values in ratios_of_scenes(images).items():
        if len(values) >= FEWEST:
            numbers, ratios = zip(*sorted(values))
            found[scene] = (numbers, np.array(ratios) / np.median(ratios))
    return found
