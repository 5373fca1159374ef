"""Line charts as SVG: one curve for each run over a common axis."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

COLOURS = ("#2a4a75", "#c9472b", "#2f8a5b", "#8a5bb0", "#b8860b", "#3a9db8", "#7a4b2a", "#5c6670")
LEFT, RIGHT, TOP, BOTTOM = 58, 328, 8, 132  # pixels of the axes in a chart of 340 x 160
GREY = "#b9bec5"
POINTS = 300  # of a curve; longer ones show the mean of neighbours

Curve = tuple[Sequence[float], Sequence[float]]


def colour_of(number: int) -> str:
    """Colour of a run by its position."""
    return COLOURS[number % len(COLOURS)]


def charts_html(
    charts: Sequence[tuple[str, Mapping[int, Curve]]],
    axis: str,
    level: float | None = None,
    around: float = 0.0,
) -> str:
    """Charts next to each other; arguments as in `chart`, with the title of each."""
    drawn = "".join(chart(title, curves, axis, level, around) for title, curves in charts)
    return f"<div class='panels charts'>{drawn}</div>"


def chart(
    title: str, curves: Mapping[int, Curve], axis: str = "", level: float | None = None, around: float = 0.0
) -> str:
    """A chart as HTML.

    Args:
        title: above the chart.
        curves: position of a run → x and y values.
        axis: quantity along x, in words.
        level: value of a dashed line; None for none.
        around: the chart shows at least `level` plus and minus this.
    """
    thin = {number: _thinned(*curve) for number, curve in curves.items()}
    x, y = (np.concatenate([curve[n] for curve in thin.values()]) for n in (0, 1))
    y = y if level is None else np.r_[y, level - around, level + around]
    span_x, span_y = max(float(np.ptp(x)), 1e-12), max(float(np.ptp(y)), 1e-12)

    def up(values: np.ndarray | float) -> np.ndarray | float:
        return BOTTOM - (BOTTOM - TOP) * (values - y.min()) / span_y

    lines = []
    if level is not None:
        lines.append(f"<path d='M{LEFT} {up(level):.1f}H{RIGHT}' stroke='{GREY}' stroke-dasharray='4 4'/>")
    for number, (xs, ys) in thin.items():
        across, down = LEFT + (RIGHT - LEFT) * (xs - x.min()) / span_x, up(ys)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down))
        colour = colour_of(number)
        lines.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
        lines.append(f"<circle cx='{across[-1]:.1f}' cy='{down[-1]:.1f}' r='3' fill='{colour}'/>")
    labels = [
        (LEFT - 6, TOP + 6, "end", f"{y.max():.4g}"),
        (LEFT - 6, BOTTOM, "end", f"{y.min():.4g}"),
        (LEFT, BOTTOM + 22, "start", f"{x.min():.4g}"),
        ((LEFT + RIGHT) / 2, BOTTOM + 22, "middle", axis),
        (RIGHT, BOTTOM + 22, "end", f"{x.max():.4g}"),
    ]
    words = "".join(
        f"<text x='{a}' y='{b}' text-anchor='{anchor}'>{html.escape(text)}</text>"
        for a, b, anchor, text in labels
    )
    axes = f"<path d='M{LEFT} {TOP}V{BOTTOM + 4}H{RIGHT}' fill='none' stroke='{GREY}'/>"
    shown = html.escape(title, quote=True)
    return (
        f"<div><span title='{shown}'>{shown}</span><svg viewBox='0 0 340 160' font-size='11' fill='#66707c'>"
        f"{axes}{words}{''.join(lines)}</svg></div>"
    )


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    parts = min(POINTS, len(x))
    return tuple(np.array([part.mean() for part in np.array_split(np.asarray(v), parts)]) for v in (x, y))
