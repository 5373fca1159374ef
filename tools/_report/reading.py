"""A run folder as the report shows it: options, log, evaluations of depth, segmentation and trajectories."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.comparison import FILE, Images, bootstrap, read_images, scene_of
from metrics import METRICS
from trajectories import ALIGNMENTS, GROUND_TRUTH_FILE, PATH_FILE, SCORES_FILE, read_path
from utils import InputError, read_yaml

Curve = tuple[list[float], list[float]]  # steps, values


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of depth.

    Attributes:
        name: its folder below `evaluation/`.
        results: results.json.
        images: per_image.csv.
    """

    name: str
    results: Mapping[str, Any]
    images: Images

    @property
    def ratios(self) -> list[tuple[str, str, float]]:
        """Name, camera and scale ratio of each image."""
        return self.images.ratios

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric → 95 % interval of the mean over images, by scene. For a rig each camera has the same
        weight, as in the mean of results.json."""
        keys = list(self.images.errors)
        cameras = [camera for _, camera in keys]
        weight = [len(keys) / (len(set(cameras)) * cameras.count(camera)) for camera in cameras]
        values = np.stack(list(self.images.errors.values())) * np.array(weight)[:, None]
        low, high = bootstrap(values, [scene_of(name) for name, _ in keys])
        return {metric: (float(low[n]), float(high[n])) for n, metric in enumerate(METRICS)}


@dataclass(frozen=True)
class Segmentation:
    """One evaluation of segmentation.

    Attributes:
        results: results.json without its confusion matrix.
        confusion: (classes, classes) pixels; row: ground truth, column: prediction.
    """

    results: Mapping[str, Any]
    confusion: np.ndarray


@dataclass(frozen=True)
class Trajectory:
    """One evaluation of a camera path.

    Attributes:
        scores: metrics.json.
        path, ground_truth: (N, 4, 4) world_from_camera before alignment.
    """

    scores: Mapping[str, Any]
    path: np.ndarray
    ground_truth: np.ndarray


@dataclass(frozen=True)
class Run:
    """A run as read from its folder.

    Attributes:
        name: a name that no other run of the report has.
        folder: the run folder.
        options: options.yaml; empty if the run has none.
        curves: name → steps and values, as logged.
        steps: last step that was logged.
        evaluations: name → evaluation of depth.
        segmentations: name → evaluation of segmentation.
        trajectories: name → evaluation of a camera path.
        missing: sentences on evaluations that cannot be shown.
    """

    name: str
    folder: Path
    options: Mapping[str, Any]
    curves: Mapping[str, Curve]
    steps: int
    evaluations: Mapping[str, Evaluation]
    segmentations: Mapping[str, Segmentation]
    trajectories: Mapping[str, Trajectory]
    missing: Sequence[str]

    @property
    def evaluated(self) -> list[str]:
        """Names of all evaluations."""
        return [*self.evaluations, *self.segmentations, *self.trajectories]


def read_run(folder: Path, name: str) -> Run:
    """A run from its folder.

    Raises:
        InputError: no such folder, one that is not a run or logged nothing, a file that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no run folder {folder}; give the folder that run.py wrote, runs/<name>")
    curves, steps = _curves(folder / "log.jsonl")
    depth, segmentation, paths, missing = {}, {}, {}, []
    for file in sorted(folder.glob("evaluation/**/results.json")):
        results, own = _results(file), _own_name(file, folder)
        if "confusion" in results:
            segmentation[own] = _segmentation(file, results)
        else:
            depth[own] = _depth(file, own, results)
    for file in sorted(folder.glob(f"evaluation/**/{SCORES_FILE}")):
        if file.with_name(GROUND_TRUTH_FILE).is_file():
            paths[_own_name(file, folder)] = _trajectory(file)
        else:  # an earlier version did not write it
            missing.append(f"no path of {_own_name(file, folder)}: evaluate it again with evaluate_pose.py")
    if not (curves or depth or segmentation or paths or missing):
        raise InputError(
            f"{folder} is empty: it holds neither a step in log.jsonl nor an evaluation; train it first: "
            f"python run.py --model_name {folder.name} ..."
        )
    options = _options(folder / "options.yaml")
    return Run(name, folder, options, curves, steps, depth, segmentation, paths, missing)


def _own_name(file: Path, folder: Path) -> str:
    return str(file.parent.relative_to(folder / "evaluation"))


def _results(file: Path) -> dict[str, Any]:
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(results, dict):
            return results
    except ValueError:
        pass
    raise _damaged(file)


def _damaged(file: Path) -> InputError:
    return InputError(f"{file} is damaged; remove its folder and evaluate again")


def _depth(file: Path, name: str, results: dict[str, Any]) -> Evaluation:
    means = results.get("mean")
    if not {"card", "protocol"} <= set(results) or not isinstance(means, dict) or set(METRICS) - set(means):
        raise _damaged(file)
    return Evaluation(name, results, read_images(file.with_name(FILE)))


def _segmentation(file: Path, results: dict[str, Any]) -> Segmentation:
    try:
        confusion, classes = np.array(results.pop("confusion"), np.int64), results["classes"]
        whole = confusion.shape == 2 * (len(classes),) and {"summary", "protocol"} <= set(results)
        whole &= all({"class", "iou", "pixels"} <= set(row) for row in classes)
    except (ValueError, TypeError, KeyError, OverflowError):
        whole = False
    if not whole:
        raise _damaged(file)
    return Segmentation(results, confusion)


def _trajectory(file: Path) -> Trajectory:
    scores = _results(file)
    path, ground_truth = (read_path(file.with_name(name)) for name in (PATH_FILE, GROUND_TRUTH_FILE))
    if len(path) != len(ground_truth) or scores.get("alignment") not in ALIGNMENTS:
        raise _damaged(file)
    return Trajectory(scores, path, ground_truth)


def _options(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return dict(read_yaml(file.read_text(encoding="utf-8")) or {})
    except (ValueError, TypeError) as error:
        raise InputError(f"{file} is damaged: {error}") from None


def _curves(file: Path) -> tuple[dict[str, Curve], int]:
    """Curves of a log.jsonl and its last step; a killed process may leave half a line at the end."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    lines = text.splitlines()
    curves: dict[str, Curve] = {}
    step = 0
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            step = int(record.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError):
            if number == len(lines):
                break
            raise InputError(f"{file}, line {number} is damaged; remove this line") from None
        for name, value in record.items():
            number_known = isinstance(value, (int, float)) and math.isfinite(value)
            if number_known and name not in ("epoch", "time"):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(float(value))
    return curves, step
