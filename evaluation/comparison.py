"""Two evaluations of the same images compared: paired differences with bootstrap intervals by scene.

    d_i  = metric of B - metric of A on image i            interval: 2.5 and 97.5 % of mean(d) over resamples

Images of one drive resemble each other, so whole scenes are drawn with replacement (cluster bootstrap; Efron
and Tibshirani 1993, chapter 8). A difference is called clear if the interval does not hold 0. Evaluations are
read from the per_image.csv that each evaluation saves.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.frame_names import parse_frame
from metrics import ACCURACIES, METRICS
from utils import InputError

FILE = "per_image.csv"
RESAMPLES = 10_000
SEED = 0
FEW_SCENES = 5  # with fewer, an interval over scenes says little

Key = tuple[str, str]  # name and camera of an image


@dataclass(frozen=True)
class Images:
    """The rows of a per_image.csv.

    Attributes:
        source: the file.
        errors: (name, camera) -> errors in the order of `METRICS`; camera "" if there is one.
        ratios: name, camera and median(ground truth) / median(prediction), in the dataset's order.
    """

    source: Path
    errors: dict[Key, np.ndarray]
    ratios: list[tuple[str, str, float]]


@dataclass(frozen=True)
class Difference:
    """B - A for one metric.

    Attributes:
        metric: its name.
        a, b: means over the shared images.
        low, high: 95 % interval of the mean difference.
        improved: share of images on which B is better.
    """

    metric: str
    a: float
    b: float
    low: float
    high: float
    improved: float

    @property
    def words(self) -> str:
        """`B is better`, `A is better` or `not clear`."""
        if self.low <= 0 <= self.high:
            return "not clear"
        return "B is better" if (self.a < self.b) == (self.metric in ACCURACIES) else "A is better"


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images.

    Attributes:
        differences: one for each metric.
        images, scenes: number compared.
        only_one: number of images that only one evaluation holds; they are left out.
        gained, lost: images on which B improves and worsens most in `METRICS[0]`, with their difference.
    """

    differences: list[Difference]
    images: int
    scenes: int
    only_one: int
    gained: list[tuple[Key, float]]
    lost: list[tuple[Key, float]]

    def table(self) -> str:
        """The comparison as text."""
        lines = [f"  {self.images:,} images of {self.scenes:,} scenes; intervals of 95 % by scene"]
        if self.only_one:
            lines.append(f"  {self.only_one:,} images are in one evaluation only and left out")
        if self.scenes < FEW_SCENES:
            lines.append(f"  {self.scenes} scenes are few: the intervals say little about other scenes")
        lines.append(f"\n  {'':<10}{'A':>9}{'B':>9}{'B - A':>10}   {'interval':<20}{'B better on':>12}")
        for one in self.differences:
            interval = f"[{one.low:+.4f}, {one.high:+.4f}]"
            lines.append(
                f"  {one.metric:<10}{one.a:9.4f}{one.b:9.4f}{one.b - one.a:+10.4f}   {interval:<20}"
                f"{one.improved:>11.0%}   {one.words}"
            )
        for heading, images in (("gained most", self.gained), ("lost most", self.lost)):
            lines.append(f"\n  B {heading} ({METRICS[0]}):")
            lines += [f"    {value:+.4f}  {' '.join(filter(None, key))}" for key, value in images]
        return "\n".join(lines)


def read_images(path: str | Path) -> Images:
    """The per_image.csv of a file, of a folder of results, or of the one evaluation that a run holds.

    Raises:
        InputError: no such file, several, or one without the columns of an evaluation.
    """
    file = _find(Path(path))
    errors: dict[Key, np.ndarray] = {}
    ratios = []
    with open(file, newline="") as opened:
        reader = csv.DictReader(opened)
        if missing := {"name", "camera", "ratio", *METRICS} - set(reader.fieldnames or ()):
            raise InputError(
                f"{file} is not the {FILE} of an evaluation: it lacks the column {sorted(missing)[0]}"
            )
        for row in reader:
            camera = "" if row["camera"] == "0" else row["camera"]
            errors[row["name"], camera] = np.array([float(row[metric]) for metric in METRICS])
            ratios.append((row["name"], camera, float(row["ratio"])))
    if not errors:
        raise InputError(f"{file} holds no image")
    return Images(file, errors, ratios)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    found = sorted(path.glob(f"evaluation/**/{FILE}")) if path.is_dir() else []
    if not found:
        raise InputError(f"there is no {FILE} in {path}; evaluate it first: evaluate_depth.py --run {path}")
    if len(found) > 1:
        names = ", ".join(str(file.parent.relative_to(path)) for file in found)
        raise InputError(f"{path} holds several evaluations ({names}); name the folder of one")
    return found[0]


def compare_images(a: Images, b: Images, shown: int = 5) -> Comparison:
    """Paired differences of the images that both evaluations hold.

    Args:
        a, b: from `read_images`.
        shown: number of images listed as gained and lost.

    Raises:
        InputError: the evaluations share no image.
    """
    keys = [key for key in a.errors if key in b.errors]
    if not keys:
        raise InputError(f"{a.source} and {b.source} share no image; compare evaluations of one split")
    scenes = [scene_of(name) for name, _ in keys]
    of_a, of_b = (np.stack([one.errors[key] for key in keys]) for one in (a, b))
    intervals = bootstrap(of_b - of_a, scenes)
    differences = []
    for n, metric in enumerate(METRICS):
        sign = 1 if metric in ACCURACIES else -1
        improved = float(np.mean(sign * (of_b - of_a)[:, n] > 0))
        means = float(of_a[:, n].mean()), float(of_b[:, n].mean())
        differences.append(Difference(metric, *means, *map(float, intervals[:, n]), improved))
    change = (of_b - of_a)[:, 0]
    order = np.argsort(change, kind="stable")
    gained = [(keys[n], float(change[n])) for n in order[:shown] if change[n] < 0]
    lost = [(keys[n], float(change[n])) for n in order[::-1][:shown] if change[n] > 0]
    only_one = len(a.errors) + len(b.errors) - 2 * len(keys)
    return Comparison(differences, len(keys), len(set(scenes)), only_one, gained, lost)


def bootstrap(values: np.ndarray, groups: Sequence[str], resamples: int = RESAMPLES) -> np.ndarray:
    """95 % intervals of the mean, by drawing whole groups with replacement.

    Args:
        values: (images, M).
        groups: the group of each image; with a single group, images are drawn instead.
        resamples: number of draws.

    Returns:
        (2, M): low and high.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    if number.max() == 0:
        number = np.arange(len(values))
    count = np.bincount(number).astype(float)
    sums = np.stack([np.bincount(number, column) for column in values.T], 1)  # (G, M)
    random = np.random.default_rng(SEED)
    # How often each group is drawn, a hundred draws at a time so that memory stays small.
    means = []
    for start in range(0, resamples, 100):
        draws = min(100, resamples - start)
        times = random.multinomial(len(count), np.full(len(count), 1 / len(count)), draws)
        means.append((times @ sums) / (times @ count)[:, None])
    return np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)


def scene_of(name: str) -> str:
    """The scene of an image's name; an image without one is its own scene."""
    return parse_frame(name).scene or name
