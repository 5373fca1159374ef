"""The page of tools/report.py: one section for each part, the runs side by side in each."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.comparison import FEW_SCENES, compare_images, scene_of
from metrics import METRICS
from tools._page import Figure, figure_html, write_document
from tools._report import cloud
from tools._report.charts import charts_html
from tools._report.consistency import drift_html
from tools._report.images import Cloud
from tools._report.paths import trajectory_html
from tools._report.reading import Run
from tools._report.segmentation import segmentation_html
from tools._report.tables import notes, number_words, protocol, section, soft, table
from utils import InputError

FIRST = ("loss", *(f"val/{metric}" for metric in METRICS), "val/loss")  # charts that are always open

STYLE = (
    """
.wide { overflow-x: auto; } .wide table { font-variant-numeric: tabular-nums; margin: 8px 0; }
.wide td, .wide td:last-child { width: auto; padding: 7px 18px 7px 0; overflow-wrap: normal;
  white-space: nowrap; }
.wide .words td { white-space: normal; } .wide td:first-child { white-space: nowrap; }
.wide td:first-child { position: sticky; left: 0; background: #fff; }
td small { color: var(--soft); display: block; font-size: 12px; }
tr.head td { color: var(--soft); font-size: 14px; vertical-align: bottom; }
section > .soft { margin-top: 6px; } h3 { font-size: 16px; margin: 20px 0 4px; }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px; }
.charts { grid-template-columns: repeat(3, minmax(0, 1fr)); margin-top: 10px; }
.path { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); align-items: end; }
@media (max-width: 700px) { section { padding: 16px; } .words { min-width: 560px; }
  .wide tr { display: table-row; padding: 0; }
  .wide td { display: table-cell; border-top: 1px solid var(--line); padding: 7px 14px 7px 0; } }
"""
    + cloud.STYLE
)


@dataclass
class Shown:
    """Additions to the files of one run, from its model.

    Attributes:
        figures: name of an evaluation → best and worst images.
        cloud: points and colours; None if the dataset or the model is not there.
        missing: sentences that say what is not shown, and why.
        unit: unit of the cloud, in words.
    """

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    cloud: Cloud | None = None
    missing: list[str] = field(default_factory=list)
    unit: str = ""


def write_report(path: Path, runs: Sequence[Run], shown: Sequence[Shown]) -> None:
    """Write the page.

    Args:
        path: the .html file.
        runs: in order; their position is their colour.
        shown: images and cloud of each run.

    Raises:
        InputError: the file cannot be written.
    """
    parts = [section("Runs", _overview(runs)), section("Training", _curves(runs))]
    for name in _names(run.evaluations for run in runs):
        parts.append(section(f"Evaluation: {name}", _evaluation(name, runs)))
    for name in _names(run.segmentations for run in runs):
        parts.append(section(f"Segmentation: {name}", segmentation_html(name, runs)))
    for name in _names(run.trajectories for run in runs):
        parts.append(section(f"Trajectory: {name}", trajectory_html(name, runs)))
    if missing := [(run.name, text) for run, one in zip(runs, shown) for text in one.missing]:
        parts.append(section("Not shown", table([("run", "reason"), *missing], words=True)))
    for number, (run, one) in enumerate(zip(runs, shown)):
        figures = "".join(figure_html(figure) for drawn in one.figures.values() for figure in drawn)
        if figures:
            parts.append(section(f"Images: {run.name}", figures, number))
    for name in _names(run.evaluations for run in runs):
        if text := drift_html(name, runs):
            parts.append(section(f"Consistency over time: {name}", text))
    for number, (run, one) in enumerate(zip(runs, shown)):
        if one.cloud is not None:
            words = f"One image as points; drag turns, wheel or two fingers zoom. Unit of depth: {one.unit}."
            canvas = f"{soft(words)}{cloud.cloud_html(*one.cloud)}"
            parts.append(section(f"Point cloud: {run.name}", canvas, number))
    if any(one.cloud for one in shown):
        parts.append(f"<script>{cloud.SCRIPT}</script>")
    facts = "Intervals: 95 %, bootstrap over whole scenes. The page needs no network."
    write_document(path, ", ".join(run.name for run in runs), facts, parts, STYLE)


def _names(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the evaluations of all runs, each once."""
    return list(dict.fromkeys(name for of_run in found for name in of_run))


def _overview(runs: Sequence[Run]) -> str:
    head = ("run", "method", "dataset", "network size", "steps", "evaluations")
    rows = []
    for run in runs:
        named = [_name_of(run.options.get(key)) for key in ("method", "dataset")]
        size = " x ".join(str(run.options.get(key, "-")) for key in ("width", "height"))
        rows.append((run.name, *named, size, f"{run.steps:,}", ", ".join(run.evaluated) or "none"))
    return table([head, *rows], [None, *range(len(runs))], words=True)


def _name_of(section: Any) -> str:
    return str(section.get("name", "-") if isinstance(section, Mapping) else section or "-")


def _curves(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(name for run in runs for name in run.curves))
    if not names:
        return soft("No run here holds a log.jsonl.")
    long = [name for name in names if any(len(run.curves.get(name, ((),))[0]) > 1 for run in runs)]
    charts = {
        name: (name, {n: run.curves[name] for n, run in enumerate(runs) if name in run.curves})
        for name in long
    }
    ends = [[name, *(_last(run, name) for run in runs)] for name in names if name not in long]
    opened = [charts[name] for name in FIRST if name in charts]
    others = [charts[name] for name in long if name not in FIRST]
    more = f"<details><summary>{len(others)} more</summary>{charts_html(others, 'step')}</details>"
    once = table([("logged once", *(run.name for run in runs)), *ends]) if ends else ""
    return f"{charts_html(opened, 'step')}{more if others else ''}{once}"


def _last(run: Run, name: str) -> str:
    return f"{run.curves[name][1][-1]:.4g}" if name in run.curves else "-"


def _evaluation(name: str, runs: Sequence[Run]) -> str:
    """Table with intervals, comparison with the first run, protocol cards of one evaluation."""
    found = {n: run.evaluations[name] for n, run in enumerate(runs) if name in run.evaluations}
    rows: list[Sequence[Any]] = [("", *METRICS)]
    said = []
    for n, one in found.items():
        intervals = one.intervals()
        cells = [
            (number_words(one.results["mean"][key]), "{:.3f} to {:.3f}".format(*intervals[key]))
            for key in METRICS
        ]
        rows.append((runs[n].name, *cells))
        scenes = len({scene_of(image) for image, _ in one.images.errors})
        if scenes < FEW_SCENES:
            few = f"{scenes} scenes are few" if scenes > 1 else "one scene, so images are drawn instead"
            said.append((runs[n].name, f"{few}; the intervals say little about other scenes."))
        if verdict := one.results.get("verdict"):
            said.append((runs[n].name, f"{verdict}."))
    first, *others = found
    baselines = _baselines({runs[n].name: one.results for n, one in found.items()})
    text = table([*rows, *baselines], [None, *found, *(None for _ in baselines)]) + notes(said)
    text += "".join(_comparison(runs[first].name, runs[n].name, found[first], found[n]) for n in others)
    return text + protocol({runs[n].name: _card(one.results["card"]) for n, one in found.items()})


def _card(card: Mapping[str, str]) -> dict[str, str]:
    """A protocol card without the path of the model on this machine."""
    return {key: words for key, words in card.items() if key != "predictions"}


def _baselines(results: Mapping[str, Mapping[str, Any]]) -> list[Sequence[str]]:
    """Rows of the baselines; one that is the same for all runs is one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for key, words in (("constant", "one constant depth"), ("pixel_mean", "mean depth of each pixel")):
        for name, of_run in results.items():
            if mean := of_run.get(key):
                rows.setdefault((words, *(number_words(mean.get(m)) for m in METRICS)), []).append(name)
    return [
        (words if len(names) == len(results) else f"{words}, {', '.join(names)}", *values)
        for (words, *values), names in rows.items()
    ]


def _comparison(a: str, b: str, first: Any, second: Any) -> str:
    try:
        found = compare_images(first.images, second.images)
    except InputError as error:
        return soft(str(error))
    head = ("", "difference", "interval", "better on", "")
    rows = [
        (one.metric, f"{one.b - one.a:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}", f"{one.improved:.0%}",
         one.words.replace("A is", f"{a} is").replace("B is", f"{b} is"))
        for one in found.differences
    ]  # fmt: skip
    words = f"{b} minus {a}, {found.images:,} images of {found.scenes:,} scenes"
    return f"<h3>{html.escape(words)}</h3>{table([head, *rows])}"
