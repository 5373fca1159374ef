"""One self-contained HTML file: style, tables, images as data URLs. Pages of the doctor and of the report."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from files import writing
from images import resized

WIDTH = 1080  # width of a row of images, pixels
JPEG_QUALITY = 85

STYLE = """
:root { color-scheme: light; --ink: #1f242b; --soft: #66707c; --line: #e6e4dd; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; color: var(--ink);
  background: #f7f6f2; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 44px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 4px; overflow-wrap: anywhere; }
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
@media (max-width: 700px) { .panels { grid-template-columns: minmax(0, 1fr) !important; } td { display: block;
  border-top: 0; padding: 2px 0; } tr { display: block; border-top: 1px solid var(--line); padding: 8px 0; } }
"""


@dataclass
class Figure:
    """Images of one figure on the page.

    Attributes:
        caption: a line above them.
        panels: (label, (H, W, 3) uint8).
        across: number of columns.
        sharp: text or cells, which are embedded without loss and not enlarged.
    """

    caption: str
    panels: list[tuple[str, np.ndarray]]
    across: int = 3
    sharp: bool = False


def write_document(path: Path, title: str, facts: str, parts: Sequence[str], style: str = "") -> None:
    """Write a page.

    Args:
        path: the file.
        title: heading of the page and of its tab.
        facts: a line below the heading.
        parts: HTML below it, in order.
        style: further CSS.

    Raises:
        InputError: the file cannot be written.
    """
    head = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1><p class='soft'>{html.escape(facts)}</p>",
    ]
    with writing(path) as temporary:
        temporary.write_text("\n".join([*head, *parts, "</main></body></html>\n"]), encoding="utf-8")


def expanding_list(summary: str, items: Sequence[str], most: int = 200) -> str:
    """A list that expands below a summary; empty without items."""
    if not items:
        return ""
    more = f"<li>and {len(items) - most} more</li>" if len(items) > most else ""
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items[:most])
    return f"<details><summary>{summary}</summary><ul>{listed}{more}</ul></details>"


def figure_html(figure: Figure) -> str:
    """A figure with its caption; each image is embedded."""
    across = min(figure.across, len(figure.panels))
    embed = _png_url if figure.sharp else functools.partial(_jpeg_url, across=across)
    panels = "".join(_panel(label, image, embed(image), figure.sharp) for label, image in figure.panels)
    columns = f"repeat({across}, minmax(0, 1fr))"  # equal, however long the labels
    return (
        f"<figure><figcaption>{html.escape(figure.caption)}</figcaption>"
        f"<div class='panels' style='grid-template-columns: {columns}'>{panels}</div></figure>"
    )


def _panel(label: str, image: np.ndarray, source: str, sharp: bool) -> str:
    label = html.escape(label)
    most = f" style='max-width: {image.shape[1]}px'" if sharp else ""
    return f"<div><span title='{label}'>{label}</span><img alt='{label}' src='{source}'{most}></div>"


def _jpeg_url(image: np.ndarray, across: int) -> str:
    """An image as a JPEG data URL, at most twice as wide as it is shown."""
    most = min(1440, 2 * WIDTH // across)
    image = resized(image, most) if image.shape[1] > most else image
    return _data_url(image, "jpeg", quality=JPEG_QUALITY)


def _png_url(image: np.ndarray) -> str:
    return _data_url(image, "png", optimize=True)


def _data_url(image: np.ndarray, kind: str, **settings: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **settings)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
