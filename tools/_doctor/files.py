"""Images: missing and damaged files, sizes, grey, dark and empty images, black borders."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.sequence import SequenceDataset
from datasets.sizes import fitting_size
from structures import Frame
from tools._doctor.reading import Figure, Finding, Sample, camera_label, spread
from utils import InputError


@dataclass
class Decoded:
    """Facts about a decoded image.

    Attributes:
        camera: index of its camera.
        size: (height, width), pixels.
        grey: its channels are equal.
        mean, spread: mean and standard deviation of its values, 0 to 255.
        name: its path.
    """

    camera: int
    size: tuple[int, int]
    grey: bool
    mean: float
    spread: float
    name: str


def decode(
    dataset: SequenceDataset, everything: bool, workers: int, most: int = 60
) -> tuple[list[Decoded], list[str], int]:
    """Decode every image of the dataset, or about `most` spread over it.

    Returns:
        Facts about the decoded images, sentences about those that cannot be read, the number of all images.
    """
    seen: set[Path] = set()
    tasks = []
    for line in dataset.samples:
        for frame in dataset.frame_ids:
            paths = dataset.paths(line, frame)
            if not seen.issuperset(paths):
                tasks.append((line, frame))
                seen.update(paths)
    if not everything:
        tasks = [tasks[n] for n in spread(len(tasks), max(1, most // dataset.cameras))]

    def one(task: tuple[Any, Frame]) -> list[Decoded] | str:
        try:
            images = dataset.read_images(*task)
        except InputError as error:
            return str(error)
        except Exception as error:  # one odd file does not end the examination, whatever a decoder raises
            names = ", ".join(str(path) for path in dataset.paths(*task))
            return f"{names} cannot be read ({str(error) or type(error).__name__})"
        paths = dataset.paths(*task)
        return [
            _decoded(n, image.numpy(), str(paths[min(n, len(paths) - 1)])) for n, image in enumerate(images)
        ]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = list(pool.map(one, tasks))
    broken = list(dict.fromkeys(result for result in results if isinstance(result, str)))
    whole = itertools.chain.from_iterable(result for result in results if not isinstance(result, str))
    return list(whole), broken, len(seen)


def _decoded(camera: int, image: np.ndarray, name: str) -> Decoded:
    few = image[:, ::4, ::4].astype(np.int16)
    grey = int(np.abs(few - few[:1]).max()) <= 2
    return Decoded(camera, image.shape[-2:], grey, float(few.mean()), float(few.std()), name)


def check_files(decoded: list[Decoded], broken: list[str], count: int, everything: bool) -> list[Finding]:
    """Every listed image opens; opening the dataset has checked that all of them exist."""
    everything = everything or len(decoded) + len(broken) >= count
    more = "" if everything else " (--all_files opens every one)"
    if broken:
        text = (
            f"{len(broken)} of {len(decoded) + len(broken)} opened images cannot be read{more}: {broken[0]}"
        )
        return [Finding("problem", "files", text, names=broken)]
    share = "all" if everything else f"{len(decoded)}, evenly spread,"
    return [Finding("good", "files", f"all {count} images exist; {share} were opened{more}")]


def check_sizes(dataset: SequenceDataset, decoded: list[Decoded]) -> list[Finding]:
    """Images of one camera have one size, and the network's input has about their aspect ratio."""
    findings = []
    sizes: Counter = Counter()
    for camera in range(dataset.cameras):
        own = Counter(item.size for item in decoded if item.camera == camera)
        sizes.update(own)
        if len(own) > 1:
            listed = ", ".join(f"{w}x{h} ({n})" for (h, w), n in own.most_common(4))
            findings.append(
                Finding(
                    "note",
                    "sizes",
                    f"{camera_label(dataset, camera)}images of {len(own)} sizes: {listed}; all are resized "
                    "to the network's size, and each size needs its own intrinsics",
                )
            )
    if not sizes:
        return findings
    (height, width), _ = sizes.most_common(1)[0]
    stretch = (dataset.width / dataset.height) / (width / height)
    net = f"the network's {dataset.width}x{dataset.height}"
    against = []
    if not 0.75 < stretch < 1.34:
        against.append(f"stretches them {max(stretch, 1 / stretch):.2f} times in one direction")
    if dataset.width > 1.05 * width:
        against.append("is wider than they are")
    if against:
        fitting_width, fitting_height = fitting_size(width, height, dataset.width * dataset.height)
        text = (
            f"images are {width}x{height}: {net} {' and '.join(against)}; "
            f"--height {fitting_height} --width {fitting_width} fits"
        )
        findings.append(Finding("note", "sizes", text))
    elif not findings:
        findings.append(Finding("good", "sizes", f"images are {width}x{height}, {net} fits them"))
    return findings


def check_looks(decoded: list[Decoded]) -> list[Finding]:
    """Grey, dark and empty images."""
    findings = []
    grey = sum(item.grey for item in decoded)
    if decoded and grey == len(decoded):
        text = "images are grey, which is fine; jitter of hue and saturation has no effect on them"
        findings.append(Finding("note", "colour", text))
    elif grey > 0.02 * len(decoded):
        text = f"{grey} of {len(decoded)} images are grey, the others in colour; are these two cameras?"
        findings.append(Finding("warning", "colour", text))
    dark = [item for item in decoded if item.mean < 20]
    if len(dark) > 0.8 * len(decoded):
        text = (
            f"{len(dark)} of {len(decoded)} images are nearly black, such as {dark[0].name} with a "
            f"brightness of {dark[0].mean:.0f} of 255; do 16-bit files hold 10 or 12? Scale them to 16"
        )
        return [*findings, Finding("problem", "dark", text)]
    empty = [item for item in decoded if item.spread < 4]
    if empty:
        level = "problem" if len(empty) > 0.2 * len(decoded) else "warning"
        text = (
            f"{len(empty)} of {len(decoded)} images are empty (uniform, brightness "
            f"{empty[0].mean:.0f} of 255), such as {empty[0].name}; leave them out"
        )
        findings.append(Finding(level, "empty", text, names=[item.name for item in empty]))
    dark = [item for item in dark if item.spread >= 4]
    if len(dark) > 0.2 * len(decoded):
        text = f"{len(dark)} of {len(decoded)} images are very dark, such as {dark[0].name}"
        findings.append(Finding("warning", "dark", text))
    return findings


def check_borders(dataset: SequenceDataset, samples: list[Sample]) -> list[Finding]:
    """Black bars around every image, as in letterboxed video."""
    findings = []
    for camera in range(dataset.cameras):
        images = [sample.looks[0][camera].image for sample in samples]
        if len({image.shape for image in images}) != 1:
            continue
        brightest = np.max([image.max(2) for image in images], 0)
        rows, columns = (np.percentile(brightest, 95, axis=axis) < 12 for axis in (1, 0))
        top, bottom, left, right = (_leading(dark) for dark in (rows, rows[::-1], columns, columns[::-1]))
        share = max((top + bottom) / len(rows), (left + right) / len(columns))
        if 0.02 < share < 1:
            findings.append(
                Finding(
                    "warning",
                    "borders",
                    f"{camera_label(dataset, camera)}black bars take {share:.0%} of every image (top "
                    f"{top}, bottom {bottom}, left {left}, right {right} of {len(columns)}x{len(rows)}); "
                    "crop them, and shift the principal point accordingly",
                )
            )
    return findings


def _leading(flags: Iterable[bool]) -> int:
    """Number of true flags before the first false one."""
    return sum(1 for _ in itertools.takewhile(bool, flags))


def image_grid(dataset: SequenceDataset, samples: list[Sample], most: int = 6) -> Figure:
    """Targets of a few samples, or all cameras of one sample."""
    if dataset.cameras > 1:
        names = [camera_label(dataset, n)[:-2] for n in range(dataset.cameras)]
        looks = samples[0].looks[0]
        return Figure(samples[0].name, [(name, look.image) for name, look in zip(names, looks)])
    chosen = [samples[n] for n in spread(len(samples), most)]
    return Figure("some of the targets", [(sample.name, sample.looks[0][0].image) for sample in chosen])
