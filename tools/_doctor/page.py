"""The page that tools/doctor.py leaves: its findings with pictures, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pictures import writing
from tools._doctor.reading import LEVELS, Finding

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #23272e; background: #fafaf8; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 44px 0 8px; }
.verdict { padding: 14px 18px; border-radius: 8px; font-weight: 600; margin: 20px 0 24px; }
.facts { color: #69707a; margin: 0; }
table { border-collapse: collapse; width: 100%; }
td { padding: 8px 12px 8px 0; vertical-align: top; border-top: 1px solid #e7e6e1; }
td.topic { white-space: nowrap; color: #69707a; }
.level { display: inline-block; min-width: 68px; text-align: center; border-radius: 999px; font-size: 13px;
  font-weight: 600; padding: 1px 8px; }
.problem { background: #fbe0dc; color: #9b2114; } .warning { background: #fdf0cd; color: #7a5200; }
.note { background: #e3ebf5; color: #2c4f7c; } .good { background: #dff1e3; color: #1f6b35; }
figure { margin: 14px 0 22px; } figcaption { font-size: 14px; color: #69707a; margin-top: 6px; }
img { max-width: 100%; width: 100%; border-radius: 6px; display: block; }
svg { width: 100%; max-width: 640px; background: #fff; border: 1px solid #e7e6e1; border-radius: 6px; }
details { margin: 8px 0; font-size: 14px; } summary { cursor: pointer; color: #69707a; }
li { overflow-wrap: anywhere; }
"""


def write_page(
    path: Path, title: str, facts: str, verdict: str, findings: Sequence[Finding], sheet: np.ndarray | None
) -> None:
    """Write the page.

    Args:
        path: of the .html file.
        title: the dataset, in a few words.
        facts: a line under the title.
        verdict: the sentence that counts.
        findings: in the order of their levels.
        sheet: some of the pictures, (H, W, 3) uint8; None where none could be read.

    Raises:
        InputError: it could not be written.
    """
    level = min((f.level for f in findings), key=LEVELS.index, default="good")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1><p class='facts'>{html.escape(facts)}</p>",
        f"<div class='verdict {level}'>{html.escape(verdict)}</div><table>",
    ]
    for finding in findings:
        parts.append(
            f"<tr><td><span class='level {finding.level}'>{finding.level}</span></td>"
            f"<td class='topic'>{html.escape(finding.topic)}</td><td>{html.escape(finding.text)}"
            f"{_names(finding.names)}</td></tr>"
        )
    parts.append("</table>")
    if sheet is not None:
        parts += ["<h2>What was looked at</h2>", _figure("some of the targets", sheet)]
    for topic in dict.fromkeys(finding.topic for finding in findings):
        own = [finding for finding in findings if finding.topic == topic]
        figures = [_figure(*picture) for finding in own for picture in finding.pictures]
        figures = list(dict.fromkeys(figures)) + [_drawing(f) for f in own if f.curve]
        if figures:
            parts += [f"<h2>{html.escape(topic.capitalize())}</h2>", *_words(topic), *figures]
    parts.append("</main></body></html>\n")
    with writing(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _words(topic: str) -> list[str]:
    """How to read the pictures of a topic."""
    words = {
        "warp": "Above: target, source, and the source warped into the target (dark: nothing to see there). "
        "Below: depth that was used, difference to the target before and after. After should be darker.",
        "focal length": "How badly each focal length explains the motion; the line is the given one. It "
        "should stand in the valley.",
        "stereo": "Lines join matches of left and right. They should be level.",
    }
    return [f"<p class='facts'>{words[topic]}</p>"] if topic in words else []


def _names(names: Sequence[str], most: int = 200) -> str:
    if not names:
        return ""
    more = f"<li>and {len(names) - most} more</li>" if len(names) > most else ""
    items = "".join(f"<li>{html.escape(name)}</li>" for name in names[:most])
    return f"<details><summary>all {len(names)}</summary><ul>{items}{more}</ul></details>"


def _figure(caption: str, picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=85)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    words = html.escape(caption)
    return (
        f"<figure><img alt='{words}' src='data:image/jpeg;base64,{encoded}'>"
        f"<figcaption>{words}</figcaption></figure>"
    )


def _drawing(finding: Finding) -> str:
    """A curve over a logarithmic axis, with a line where the given value is."""
    name, points, given = finding.curve
    x, y = np.log([p[0] for p in points]), np.array([p[1] for p in points])
    left, right, top, bottom = 20, 620, 20, 180

    def across(value: float) -> float:
        return left + (right - left) * (value - x[0]) / (x[-1] - x[0])

    up = bottom - (bottom - top) * (y - y.min()) / max(float(np.ptp(y)), 1e-9)
    line = " ".join(f"{across(a):.1f},{b:.1f}" for a, b in zip(x, up))
    mark, best = across(np.log(given)), int(y.argmin())
    ticks = "".join(
        f"<text x='{across(x[n]):.0f}' y='204' text-anchor='middle'>{points[n][0]:.0f}</text>"
        for n in range(0, len(points), 5)
    )
    return (
        "<figure><svg viewBox='0 0 640 214' font-size='13' fill='#69707a'>"
        f"<line x1='{mark:.1f}' x2='{mark:.1f}' y1='10' y2='188' stroke='#c9472b' stroke-width='1.5'/>"
        f"<polyline points='{line}' fill='none' stroke='#2c4f7c' stroke-width='2'/>"
        f"<circle cx='{across(x[best]):.1f}' cy='{up[best]:.1f}' r='4' fill='#2c4f7c'/>{ticks}</svg>"
        f"<figcaption>{html.escape(name)}. {html.escape(finding.text)}</figcaption></figure>"
    )
