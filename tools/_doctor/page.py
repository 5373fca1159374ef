"""The page of tools/doctor.py: findings with images in one self-contained HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools._doctor.reading import LEVELS, Figure, Finding
from tools._page import expanding_list, figure_html, write_document

HOW_TO_READ = {
    "warp": "The source, warped by motion and depth from matches, should look like the target, and the last "
    "image should be darker than the one before it. Grey: outside of the source.",
    "focal length": "Cost of each focal length: how badly it explains the motion between the frames. The "
    "given (or guessed) one should lie in the valley.",
    "stereo": "Lines join matches of left and right. They should be horizontal; the others are red.",
    "ground truth": "Edges of the depth should lie on edges of the image.",
    "overlay": "Edges of the depth should lie on edges of the image; near is red.",
    "order": "Neighbours should look alike.",
}

LEGEND = (
    "<b>problem</b>: fix it first. <b>warning</b>: training runs, with worse results. <b>note</b>: worth "
    "knowing. Remedies are in docs/own-data.md."
)


def write_page(
    path: Path, title: str, facts: str, verdict: str, findings: Sequence[Finding], image_grid: Figure | None
) -> None:
    """Write the page.

    Args:
        path: the .html file to write.
        title: the dataset, in a few words.
        facts: a line under the title.
        verdict: the result in a sentence.
        findings: sorted by level.
        image_grid: some of the images; None if none can be read.

    Raises:
        InputError: the file cannot be written.
    """
    level = min((f.level for f in findings if f.level != "note"), key=LEVELS.index, default="good")
    sign = {"problem": "✕", "warning": "!", "good": "✓"}[level]
    sections = _sections(findings)
    parts = [
        f"<div class='verdict {level}'><span>{sign}</span><span>{html.escape(verdict)}</span></div>",
        f"<section><table>{_rows(findings, list(sections))}</table></section>",
    ]
    if image_grid is not None:
        parts.append(f"<section><h2>Images</h2>{figure_html(image_grid)}</section>")
    for topic, figures in sections.items():
        words = f"<p class='soft'>{HOW_TO_READ[topic]}</p>" if topic in HOW_TO_READ else ""
        parts.append(
            f"<section id='{_anchor(topic)}'><h2>{html.escape(topic.capitalize())}</h2>{words}"
            f"{''.join(figures)}</section>"
        )
    write_document(path, title, facts, [*parts, f"<footer>{LEGEND}</footer>"])


def _sections(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Topic → its figures as HTML, each once; topics without figures are left out."""
    sections: dict[str, list[str]] = {}
    for finding in findings:
        drawn = [figure_html(figure) for figure in finding.figures]
        drawn += [_drawing(finding)] if finding.curve else []
        if drawn:
            own = sections.setdefault(finding.topic, [])
            own += [figure for figure in drawn if figure not in own]
    return sections


def _rows(findings: Sequence[Finding], linked: Sequence[str]) -> str:
    """One row per finding; good findings of several cameras share a row that expands."""
    rows = []
    fine: dict[str, list[str]] = {}
    for finding in findings:
        if finding.level == "good":
            fine.setdefault(finding.topic, []).append(finding.text)
    for finding in findings:
        more = expanding_list(f"all {len(finding.names)}", finding.names)
        if finding.level == "good":
            texts = fine.pop(finding.topic, None)
            if texts is None:
                continue
            more = expanding_list(f"and {len(texts) - 1} more", texts[1:])
        topic = html.escape(finding.topic)
        if finding.topic in linked:
            topic = f"<a href='#{_anchor(finding.topic)}'>{topic}</a>"
        rows.append(
            f"<tr><td><span class='level {finding.level}'>{finding.level}</span></td>"
            f"<td class='topic'>{topic}</td><td>{html.escape(finding.text)}{more}</td></tr>"
        )
    return "".join(rows)


def _anchor(topic: str) -> str:
    return topic.replace(" ", "-")


def _drawing(finding: Finding) -> str:
    """A curve over a logarithmic axis: a line marks the given value, a dot the best."""
    name, points, given = finding.curve
    x, y = np.log([p[0] for p in points]), np.array([p[1] for p in points])
    left, right, top, bottom = 24, 656, 34, 190

    def across(value: float) -> float:
        return left + (right - left) * (value - x[0]) / (x[-1] - x[0])

    up = bottom - (bottom - top) * (y - y.min()) / max(float(np.ptp(y)), 1e-9)
    line = " ".join(f"{across(a):.1f},{b:.1f}" for a, b in zip(x, up))
    mark, best = across(np.log(given)), int(y.argmin())
    ticks = "".join(
        f"<line x1='{across(x[n]):.1f}' x2='{across(x[n]):.1f}' y1='{bottom + 8}' y2='{bottom + 13}'/>"
        f"<text x='{across(x[n]):.0f}' y='{bottom + 28}' text-anchor='middle' stroke='none'>"
        f"{points[n][0]:.0f}</text>"
        for n in range(0, len(points), 5)
    )
    return (
        f"<figure><figcaption>{html.escape(finding.text)}</figcaption>"
        "<svg viewBox='0 0 680 240' font-size='13' fill='#66707c' stroke='#b9bec5'>"
        f"<line x1='{left}' x2='{right}' y1='{bottom + 8}' y2='{bottom + 8}'/>{ticks}"
        f"<text x='{right}' y='{bottom + 46}' text-anchor='end' stroke='none'>{html.escape(name)}</text>"
        f"<line x1='{mark:.1f}' x2='{mark:.1f}' y1='20' y2='{bottom + 8}' stroke='#c9472b'/>"
        f"<text x='{mark:.1f}' y='14' text-anchor='middle' fill='#c9472b' stroke='none'>given</text>"
        f"<polyline points='{line}' fill='none' stroke='#2a4a75' stroke-width='2'/>"
        f"<circle cx='{across(x[best]):.1f}' cy='{up[best]:.1f}' r='4.5' fill='#2a4a75' stroke='none'/>"
        "</svg></figure>"
    )
