"""Files of pseudo-depth, predicted and written; the work of tools/pseudo_depth.py."""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from datasets._mirrored_files import check_whole_images, mirrored_file
from datasets._pillow import Unreadable, opened
from datasets._pseudo_depth import CONVENTION
from datasets.image_files import read_image
from datasets.scenes import find_scenes, images_in
from files import explained, writing
from images import encode_depth
from progress import Bar
from provenance import difference, origin
from tools._depth_models import DepthModel
from tools._options import open_dataset
from utils import InputError

VERSION = 1  # of the files
FOLDER = "leres_depth"  # of SC-Depth's layout
ORIGIN = "parallax"  # key of the text chunk in which a file carries its origin
AHEAD = 4  # batches that are read before the network needs them


@dataclass(frozen=True)
class Task:
    """An image and the file of its pseudo-depth; `folder` gets the convention file."""

    image: Path
    file: Path
    folder: Path


@dataclass(frozen=True)
class Settings:
    """How pseudo-depth is written.

    Attributes:
        root: folder that the origin's paths are relative to.
        factor: value of one unit of the prediction; None: each image's largest prediction is 65535.
        batch_size: images that the network sees at a time.
        overwrite: replace files of another origin.
        workers: threads that read and write.
    """

    root: Path
    factor: float | None = None
    batch_size: int = 4
    overwrite: bool = False
    workers: int = 1

    def of(self, model: DepthModel) -> dict[str, Any]:
        """Settings of the origin of a file."""
        return {
            "tool": "pseudo_depth",
            "version": VERSION,
            "quantity": model.quantity,
            "factor": self.factor,
            "model": model.name,
            "model_version": model.version,
            **model.settings,
        }


@dataclass
class Report:
    """Number of files written, and the images whose prediction is constant."""

    written: int = 0
    constant: list[Path] = field(default_factory=list)


def find_images(given: argparse.Namespace) -> list[Task]:
    """Every image of `--data_path` with the file of its pseudo-depth.

    Raises:
        InputError: no image, `--out` for a folder of scenes, or a dataset without `--out`.
    """
    if given.dataset == "folder":
        if given.out:
            raise InputError(
                f"a folder of scenes keeps its pseudo-depth in <scene>/{FOLDER}; leave out --out"
            )
        _, scenes = find_scenes(given.data_path)
        return [
            Task(scene / name, scene / FOLDER / f"{Path(name).stem}.png", scene / FOLDER)
            for scene in scenes.values()
            for name in images_in(scene)
        ]
    if not given.out:
        raise InputError(f"--dataset {given.dataset} needs --out FOLDER, into which its images are mirrored")
    tasks: dict[Path, Task] = {}
    for part in given.part:
        dataset = open_dataset(given, part=part)
        check_whole_images(dataset, "files of pseudo-depth")
        for sample in dataset.samples:
            for image in dataset.paths(sample, 0):
                tasks.setdefault(image, Task(image, mirrored_file(given.out, image, dataset), given.out))
    return list(tasks.values())


def write_all(tasks: Sequence[Task], model: DepthModel, settings: Settings) -> Report:
    """Predict and write the pseudo-depth of every image that lacks it.

    Raises:
        InputError: an image cannot be read, a file of another origin is there, a failed write.
    """
    left = [task for task in tasks if not is_done(task, settings.of(model), settings)]
    for folder in dict.fromkeys(task.folder for task in left):
        write_convention(folder, model, settings)
    report = Report()
    with (
        ThreadPoolExecutor(settings.workers) as pool,
        Bar(total=len(left), unit="image", desc="pseudo-depth") as bar,
        explained(settings.root),
    ):
        writes: deque[tuple[Task, Future]] = deque()
        for batch, images in _read(left, settings.batch_size, pool):
            for task, values in zip(batch, _predict(model, images)):
                writes.append((task, pool.submit(write_one, task, values, model, settings)))
            while writes and (len(writes) > AHEAD * settings.batch_size or writes[0][1].done()):
                _finish(*writes.popleft(), report, bar)
        while writes:
            _finish(*writes.popleft(), report, bar)
    return report


def is_done(task: Task, wanted: dict[str, Any], settings: Settings) -> bool:
    """Whether a file is there and was made from the present image with the present model and settings.

    Raises:
        InputError: it was made otherwise, or not by this tool, and `--overwrite` was not given.
    """
    if not task.file.is_file():
        return False
    try:
        with opened(task.file) as image:
            text = getattr(image, "text", {}).get(ORIGIN)
    except (OSError, InputError, Unreadable):
        return False  # half a file of another program
    changed = "was not written by this tool" if text is None else None
    if text is not None:
        made = json.loads(text)
        same_name = {"model": made.get("settings", {}).get("model")}  # its version tells, not its path
        if reason := difference(made, settings.root, **{**wanted, **same_name}):
            changed = f"was made otherwise: {reason}"
    if changed and not settings.overwrite:
        raise InputError(f"{task.file} {changed}; --overwrite replaces it")
    return not changed


def write_convention(folder: Path, model: DepthModel, settings: Settings) -> None:
    """`pseudo_depth.json`: quantity, factor, model and version of the files in a folder."""
    with writing(folder / CONVENTION) as path:
        path.write_text(json.dumps(origin([], settings.root, **settings.of(model)), indent=2) + "\n")


def write_one(task: Task, values: np.ndarray, model: DepthModel, settings: Settings) -> bool:
    """Write (h, w) as 16 bits with its origin; True if all its known pixels are equal."""
    encoded = encode_depth(values, settings.factor)
    text = PngImagePlugin.PngInfo()
    text.add_text(ORIGIN, json.dumps(origin([task.image], settings.root, **settings.of(model))))
    with writing(task.file) as path:
        Image.fromarray(encoded).save(path, "PNG", pnginfo=text)
    known = encoded[encoded > 0]
    return known.size == 0 or known.min() == known.max()


def _read(
    tasks: Sequence[Task], batch_size: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[Task], list[Tensor]]]:
    """Batches of tasks with their images, read ahead by the pool."""
    batches = [tasks[start : start + batch_size] for start in range(0, len(tasks), batch_size)]
    waiting: deque[list[Future]] = deque()
    for number, batch in enumerate(batches):
        while len(waiting) < AHEAD and number + len(waiting) < len(batches):
            coming = batches[number + len(waiting)]
            waiting.append([pool.submit(read_image, task.image) for task in coming])
        yield batch, [future.result() for future in waiting.popleft()]


def _predict(model: DepthModel, images: list[Tensor]) -> list[np.ndarray]:
    """Maps of a batch; images of different sizes go through the network in groups of one size."""
    found: dict[int, np.ndarray] = {}
    for size in dict.fromkeys(image.shape for image in images):
        numbers = [number for number, image in enumerate(images) if image.shape == size]
        maps = model.predict(torch.stack([images[number] for number in numbers]))
        found |= dict(zip(numbers, maps.numpy()))
    return [found[number] for number in range(len(images))]


def _finish(task: Task, future: Future, report: Report, bar: Bar) -> None:
    report.constant += [task.image] if future.result() else []
    report.written += 1
    bar.update()
