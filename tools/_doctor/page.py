"""The page of tools/doctor.py: findings with images in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from files import writing
from tools._doctor.reading import LEVELS, Figure, Finding

WIDTH = 1080  # width of a row of images, pixels

STYLE = """
:root { color-scheme: light; --ink: #1f242b; --soft: #66707c; --line: #e6e4dd; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; color: var(--ink);
  background: #f7f6f2; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 44px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 4px; }
.soft, footer { color: var(--soft); margin: 0; }
.verdict { display: flex; align-items: baseline; gap: 12px; padding: 16px 20px; border-radius: 10px;
  font-size: 19px; font-weight: 600; margin: 22px 0; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px;
  margin-top: 22px; scroll-margin-top: 12px; }
table { border-collapse: collapse; width: 100%; }
td { padding: 9px 16px 9px 0; vertical-align: top; border-top: 1px solid var(--line); }
tr:first-child td { border-top: 0; }
td:last-child { width: 100%; padding-right: 0; overflow-wrap: anywhere; }
td.topic { white-space: nowrap; color: var(--soft); }
a { color: inherit; text-decoration-color: #b9bec5; text-underline-offset: 3px; }
.level { display: inline-block; min-width: 64px; text-align: center; border-radius: 999px; font-size: 13px;
  font-weight: 600; padding: 2px 9px; }
.problem { background: #fbe0dc; color: #94200f; } .warning { background: #fcecc4; color: #6f4a00; }
.note { background: #e3ebf5; color: #2a4a75; } .good { background: #dcf0e1; color: #1a6331; }
figure { margin: 18px 0 4px; }
figcaption { font-size: 15px; font-weight: 600; margin-bottom: 4px; overflow-wrap: anywhere; }
.panels { display: grid; gap: 12px 10px; }
.panels span { display: block; font-size: 13px; color: var(--soft); margin-bottom: 3px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
img { width: 100%; border-radius: 5px; display: block; }
svg { width: 100%; max-width: 680px; display: block; }
details { margin-top: 4px; font-size: 14px; color: var(--soft); } summary { cursor: pointer; }
ul { margin: 4px 0; padding-left: 20px; }
footer { font-size: 14px; margin-top: 26px; }
@media (max-width: 700px) { .panels { grid-template-columns: 1fr !important; } td { display: block;
  border-top: 0; padding: 2px 0; } tr { display: block; border-top: 1px solid var(--line); padding: 8px 0; } }
"""

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
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1><p class='soft'>{html.escape(facts)}</p>",
        f"<div class='verdict {level}'><span>{sign}</span><span>{html.escape(verdict)}</span></div>",
        f"<section><table>{_rows(findings, list(sections))}</table></section>",
    ]
    if image_grid is not None:
        parts.append(f"<section><h2>Images</h2>{_figure(image_grid)}</section>")
    for topic, figures in sections.items():
        words = f"<p class='soft'>{HOW_TO_READ[topic]}</p>" if topic in HOW_TO_READ else ""
        parts.append(
            f"<section id='{_anchor(topic)}'><h2>{html.escape(topic.capitalize())}</h2>{words}"
            f"{''.join(figures)}</section>"
        )
    parts.append(f"<footer>{LEGEND}</footer></main></body></html>\n")
    with writing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _sections(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Topic → its figures as HTML, each once; topics without figures are left out."""
    sections: dict[str, list[str]] = {}
    for finding in findings:
        drawn = [_figure(figure) for figure in finding.figures]
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
        more = _list(f"all {len(finding.names)}", finding.names)
        if finding.level == "good":
            texts = fine.pop(finding.topic, None)
            if texts is None:
                continue
            more = _list(f"and {len(texts) - 1} more", texts[1:])
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


def _list(summary: str, items: Sequence[str], most: int = 200) -> str:
    """A list that expands below a summary; empty without items."""
    if not items:
        return ""
    more = f"<li>and {len(items) - most} more</li>" if len(items) > most else ""
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items[:most])
    return f"<details><summary>{summary}</summary><ul>{listed}{more}</ul></details>"


def _figure(figure: Figure) -> str:
    across = min(figure.across, len(figure.panels))
    panels = "".join(_panel(label, _encoded(image, across)) for label, image in figure.panels)
    return (
        f"<figure><figcaption>{html.escape(figure.caption)}</figcaption>"
        f"<div class='panels' style='grid-template-columns: repeat({across}, 1fr)'>{panels}</div></figure>"
    )


def _panel(label: str, source: str) -> str:
    label = html.escape(label)
    return f"<div><span>{label}</span><img alt='{label}' src='{source}'></div>"


def _encoded(image: np.ndarray, across: int) -> str:
    """An image as a JPEG data URL, at most twice as wide as it is shown."""
    height, width = image.shape[:2]
    most = min(1440, 2 * WIDTH // across)
    if width > most:
        image = cv2.resize(image, (most, round(height * most / width)), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
