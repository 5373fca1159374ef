"""Results of an evaluation: one row for each image, means, protocol card, tables and files.

Shards from several processes are joined by `gather`; an image that two shards hold counts once.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from datasets.surround import RING
from evaluation.details import DETAILS, REGIONS
from evaluation.scale_drift import scale_drift
from evaluation.verdict import CONSTANT, PIXEL_MEAN, beats, cause_in_depth, sentence
from metrics import METRICS, Protocol
from processes import Processes
from utils import InputError, atomic_path

LATEX = ("abs_diff", "abs_rel", "sq_rel", "log10", "rmse", "rmse_log", "a1", "a2", "a3")
R = TypeVar("R")  # the result of a task


@dataclass(frozen=True)
class Row:
    """The errors of one image.

    Attributes:
        index: index of the sample in its dataset.
        camera: number of the camera in its rig, 0 for a single camera.
        name: the dataset's name of the sample.
        pixels: valid pixels of ground truth.
        ratio: median(ground truth) / median(prediction), whether or not the protocol aligns by it.
        errors: metric -> value.
        baselines: baseline -> metric -> value, such as those of one constant depth, see verdict.py.
        structure: standard deviation of log prediction and of log ground truth, and their correlation.
        details: name -> value of evaluation/details.py; a band without ground truth is absent.
    """

    index: int
    camera: int
    name: str
    pixels: int
    ratio: float
    errors: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    structure: tuple[float, float, float] | None = None
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """Results of an evaluation.

    Attributes:
        protocol: crop, depth range, alignment, resizing.
        rows: one for each image, in the dataset's order.
        evaluated: number of images evaluated, including those without valid ground truth, which have no row.
        about: further lines of the protocol card, such as split and flip.
        camera_names: the cameras of a rig by name; empty for a single camera.
    """

    protocol: Protocol
    rows: list[Row]
    evaluated: int
    about: dict[str, str] = field(default_factory=dict)
    camera_names: tuple[str, ...] = ()

    @staticmethod
    def join(shards: Sequence[Result]) -> Result:
        """One result from several over different samples of one dataset; a sample given twice counts once.

        Raises:
            InputError: no shard has valid ground truth.
        """
        rows = {(row.index, row.camera): row for shard in shards for row in shard.rows}
        missing = sum(shard.evaluated - len(shard.rows) for shard in shards)
        if not rows:
            raise InputError(f"no pixel of {shards[0].protocol.name}'s ground truth is valid")
        rows = [rows[key] for key in sorted(rows)]
        return dataclasses.replace(shards[0], rows=rows, evaluated=len(rows) + missing)

    @property
    def mean(self) -> dict[str, float]:
        """Metric -> mean over images, as papers report it. For a rig it is the mean over the cameras' means
        (SurroundDepth's "all"), so that a camera with less ground truth has the same weight."""
        cameras = list(self.cameras.values())
        if len(cameras) < 2:
            return self._mean(self.rows)
        return {key: float(np.mean([camera[key] for camera in cameras])) for key in METRICS}

    @property
    def constant(self) -> dict[str, float] | None:
        """The `mean` of one constant depth by the same protocol; None if it was not measured."""
        return self.baselines.get(CONSTANT)

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Baseline -> its `mean` by the same protocol, of those that were measured for every image."""
        means = {}
        for name in self.rows[0].baselines if self.rows else ():
            if all(name in row.baselines for row in self.rows):
                rows = [dataclasses.replace(row, errors=row.baselines[name]) for row in self.rows]
                means[name] = dataclasses.replace(self, rows=rows).mean
        return means

    @property
    def structure(self) -> tuple[float, float, float] | None:
        """Means over images of `Row.structure`; None if it was not measured."""
        rows = [row.structure for row in self.rows if row.structure is not None]
        return tuple(float(n) for n in np.mean(rows, 0)) if rows else None

    @property
    def details(self) -> dict[str, float]:
        """Means over the images that have ground truth there, by name; absent if none has."""
        found = {name: [row for row in self.rows if name in row.details] for name in DETAILS}
        return {
            name: self._mean_of([row.details[name] for row in rows], rows if _of_image(name) else [])
            for name, rows in found.items()
            if rows
        }

    @property
    def regions(self) -> dict[str, dict[str, float]]:
        """Region -> mean errors over the images that have it; empty if no image has a mask."""
        found = self.details
        named = {region: f"_{region}" for region in REGIONS if f"abs_rel_{region}" in found}
        return {region: {key: found[key + ending] for key in METRICS} for region, ending in named.items()}

    @property
    def details_per_pixel(self) -> dict[str, float]:
        """abs_rel of each band and region with each pixel counted once, over all images, by name.

        sum over images of  abs_rel x pixels of the part,   over the pixels of the part
        """
        found = {}
        for name in self.details:
            share = name.replace("abs_rel", "share")
            if name != share:
                rows = [row for row in self.rows if name in row.details]
                pixels = np.array([row.pixels * row.details[share] for row in rows])
                found[name] = float(np.average([row.details[name] for row in rows], weights=pixels))
        return found

    def verdict(self) -> str | None:
        """One sentence with the likely cause if a baseline is not worse, else None."""
        goal, structure = self.protocol.goal, self.structure
        for name, mean in self.baselines.items() if structure is not None else ():
            if not beats(self.mean[goal], mean[goal], self.protocol):
                return sentence(goal, self.mean[goal], mean[goal], [cause_in_depth(*structure)], name)
        return None

    @property
    def ratio_median(self) -> float:
        """Median over images of median(ground truth) / median(prediction); see `Protocol.median`."""
        ratios = sorted(row.ratio for row in self.rows)
        if self.protocol.median == "lower" and ratios:
            return ratios[(len(ratios) - 1) // 2]
        return float(np.median(ratios)) if ratios else math.nan

    @property
    def ratio_std(self) -> float:
        """Standard deviation of the ratios, relative to their median: 0.1 is 10 %. See `Protocol.median`."""
        ratios = np.array([row.ratio for row in self.rows]) / self.ratio_median
        fewer = self.protocol.median == "lower"
        return float(np.std(ratios, ddof=int(fewer))) if len(ratios) > fewer else math.nan

    @property
    def cameras(self) -> dict[int, dict[str, float]]:
        """Camera -> mean errors over its images."""
        numbers = sorted({row.camera for row in self.rows})
        return {n: self._mean([row for row in self.rows if row.camera == n]) for n in numbers}

    def camera_name(self, camera: int) -> str:
        """The dataset's name for a camera, or its number."""
        return self.camera_names[camera] if self.camera_names else f"camera {camera}"

    def _mean(self, rows: list[Row]) -> dict[str, float]:
        return {key: self._mean_of([row.errors[key] for row in rows], rows) for key in METRICS}

    def _mean_of(self, values: list[float], rows: list[Row]) -> float:
        """Mean of values. Those of whole images come with their rows; see `Protocol.dynamic_twice`."""
        if not values:
            return math.nan
        if not (self.protocol.dynamic_twice and rows):
            return float(np.mean(values))
        return float(np.average(values, weights=[1 + ("abs_rel_dynamic" in row.details) for row in rows]))

    def latex(self) -> str:
        """Names and means of `LATEX` as two lines of a LaTeX table, as SC-Depth's test.py prints them."""
        means = {**self.mean, **self.details}
        values = [f"& {means.get(key, math.nan):.3f}" for key in LATEX]
        names = ["& " + key.replace("_", r"\_") for key in LATEX]
        return "\n".join(" ".join([*words, r"\\"]) for words in (names, values))

    def card(self) -> dict[str, str]:
        """The protocol card: everything that is needed to compare the numbers with others."""
        missing = self.evaluated - len(self.rows)
        images = f"{len(self.rows)}" + (f" ({missing} more have no valid ground truth)" if missing else "")
        some = 0 < len(self.camera_names) < len(RING)
        cameras = {"cameras": f"{', '.join(self.camera_names)} only"} if some else {}
        return {**self.protocol.card(), "images": images, **cameras, **self.about}

    def table(self) -> str:
        """The protocol card and the means, as text."""
        rows = {"": self.mean}
        if len(self.cameras) > 1:
            rows = {self.camera_name(n): mean for n, mean in self.cameras.items()}
            rows["mean over cameras"] = self.mean
        rows |= {f"{region} pixels": mean for region, mean in self.regions.items()}
        if baselines := self.baselines:
            rows = {name or "model": mean for name, mean in rows.items()} | baselines
        verdict = self.verdict()
        ratio = f"ground truth / prediction {self.ratio_median:.4g} (median"
        ratio += f"; spread {100 * self.ratio_std:.1f} %)" if math.isfinite(self.ratio_std) else ")"
        card = {**self.card(), "ratio": ratio}
        space = max(map(len, card)) + 2
        return "\n".join(
            [
                *(f"  {key:<{space}}{value}" for key, value in card.items()),
                "",
                _table(rows, self.protocol.reported),
                *([f"\n{verdict}"] if verdict else []),
            ]
        )

    def save(self, folder: str | Path) -> None:
        """Write `results.json` and `per_image.csv` into `folder`."""
        folder = Path(folder)
        several = len(self.cameras) > 1
        summary = {
            "card": self.card(),
            "protocol": dataclasses.asdict(self.protocol),
            "images": len(self.rows),
            "without_ground_truth": self.evaluated - len(self.rows),
            "mean": self.mean,
            "constant": self.constant,
            "pixel_mean": self.baselines.get(PIXEL_MEAN),
            "verdict": self.verdict(),
            "details": self.details,
            "details_per_pixel": self.details_per_pixel,
            "cameras": {self.camera_name(n): mean for n, mean in self.cameras.items()} if several else {},
            "ratio": {"median": self.ratio_median, "std_over_median": self.ratio_std},
            "scale_drift": scale_drift([(row.name, row.camera, row.ratio) for row in self.rows]),
        }
        with atomic_path(folder / "results.json") as path:
            path.write_text(json.dumps(without_nan(summary), indent=2, allow_nan=False) + "\n")
        with atomic_path(folder / "per_image.csv") as path, open(path, "w", newline="") as file:
            writer = csv.writer(file)
            further = list(self.details)
            writer.writerow(["index", "camera", "name", "pixels", "ratio", *METRICS, *further])
            for row in self.rows:
                numbers = [row.ratio, *(row.errors[key] for key in METRICS)]
                numbers += [row.details.get(name, math.nan) for name in further]
                camera = self.camera_names[row.camera] if self.camera_names else row.camera
                writer.writerow([row.index, camera, row.name, row.pixels, *(f"{n:.9g}" for n in numbers)])


def _of_image(name: str) -> bool:
    """Whether a number of `details` is that of a whole image, and not of a region."""
    return not name.endswith(tuple(f"_{region}" for region in REGIONS))


def compare(results: Mapping[str, Result]) -> str:
    """The means of several evaluations side by side, as text; "-" where a benchmark lacks a metric."""
    rows = {
        name: {key: value for key, value in result.mean.items() if key in result.protocol.reported}
        for name, result in results.items()
    }
    return _table(rows, [key for key in METRICS if any(key in row for row in rows.values())])


def gather(result: R) -> R:
    """Join the shards of all ranks; every rank gets the whole.

    Args:
        result: this rank's, of depth or of segmentation; `join` of its class makes one of several.

    Raises:
        InputError: no shard has valid ground truth.
    """
    shards = Processes(torch.device("cpu")).gather(result)
    return result.join(shards) if len(shards) > 1 else result


def without_nan(value: Any) -> Any:
    """The same with None for nan and inf, which JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    first = max(len(name) for name in rows) + 4
    head = " " * first + " ".join(f"{key:>9}" for key in columns)
    body = [
        f"  {name:<{first - 2}}"
        + " ".join(f"{mean[key]:9.3f}" if key in mean else f"{'-':>9}" for key in columns)
        for name, mean in rows.items()
    ]
    return "\n".join([head, *body])
