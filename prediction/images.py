"""Depth of single images: where the outputs go, which intrinsics the points have, what is written."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clouds import point_cloud, write_ply
from datasets.opening import section_of
from files import writing
from images import colourise, save_image
from intrinsics import FILES, check_intrinsics, diagnose, guess_intrinsics, parse_intrinsics
from prediction.reading import read_or_reason, unscaled_bits
from predictor import Predictor, enlarge
from utils import InputError, read_text

GUESSED = "guessed"  # source of intrinsics that nothing gives


@dataclass(frozen=True)
class Wanted:
    """Outputs for each image in addition to the coloured inverse depth.

    Attributes:
        ext: format of the coloured image, such as `png`.
        arrays: write depth and inverse depth as .npy.
        points: write a point cloud.
        intrinsics: `fx fy cx cy` of all images, pixels; None to look for them.
    """

    ext: str = "png"
    arrays: bool = False
    points: bool = False
    intrinsics: str | None = None

    @property
    def endings(self) -> list[str]:
        """Endings of the files that are written for one image."""
        arrays = ["_depth.npy", "_disp.npy"] if self.arrays else []
        return [f"_disp.{self.ext.removeprefix('.')}", *arrays, *([".ply"] if self.points else [])]


@dataclass
class Report:
    """Report on the images of one call.

    Attributes:
        failed: a sentence for each image that could not be read.
        dark: a sentence for each image that is nearly black because of its bits.
        sources: origin of the intrinsics → number of images.
    """

    failed: list[InputError] = field(default_factory=list)
    dark: list[str] = field(default_factory=list)
    sources: collections.Counter = field(default_factory=collections.Counter)


def predict_images(
    predictor: Predictor, outputs: Mapping[Path, Path], wanted: Wanted, report: Report, batch_size: int = 4
) -> Iterator[int]:
    """Predict and write batch by batch; yields the number of images of each batch.

    Args:
        predictor: a model of single images.
        outputs: image → path of its outputs without ending, see `name_outputs`.
        wanted: the outputs to write.
        report: filled in on the way.
        batch_size: images predicted at a time.
    """
    remaining = iter(outputs)
    trained = trained_intrinsics(predictor.options)
    while paths := list(itertools.islice(remaining, batch_size)):
        read = {path: read_or_reason(path) for path in paths}
        report.failed += [item for item in read.values() if isinstance(item, InputError)]
        items = []
        for path, image in read.items():
            if isinstance(image, InputError):
                continue
            report.dark += [sentence] if (sentence := unscaled_bits(path, image)) else []
            try:
                K, source = find_intrinsics(path, image, wanted, trained)
            except InputError as error:
                report.failed.append(error)
                continue
            report.sources[source] += 1
            items.append((outputs[path], image, K))
        if items:
            inverse_depths = predictor.inverse_depth([image for _, image, _ in items])
            for (output, image, K), inverse_depth in zip(items, inverse_depths):
                write_outputs(output, image, inverse_depth, K, predictor.unit, wanted)
        yield len(paths)


def name_outputs(images: Sequence[Path], output: str | Path | None = None) -> dict[Path, Path]:
    """Image → path of its outputs without ending: next to the image, or in the same tree below `output`.

    Images that differ only in their ending keep it: left.png and left.jpg become left.png_disp.png and
    left.jpg_disp.png.
    """
    folders = {path: Path(os.path.abspath(path.parent)) for path in images}  # without ".."
    common = os.path.commonpath(folders.values())
    stems = collections.Counter(folders[path] / path.stem for path in images)
    outputs = {}
    for path in images:
        name = path.stem if stems[folders[path] / path.stem] == 1 else path.name
        folder = path.parent if output is None else Path(output) / folders[path].relative_to(common)
        outputs[path] = folder / name
    return outputs


def trained_intrinsics(options: Mapping[str, Any]) -> np.ndarray | None:
    """(3, 3) pixels that the training set in its options (`--dataset.intrinsics`); None if it did not."""
    _, settings = section_of(options) if options.get("dataset") else ("", {})
    given = settings.get("intrinsics")
    return None if given is None else parse_intrinsics(given, "the run's dataset.intrinsics")


def find_intrinsics(
    path: Path, image: Tensor, wanted: Wanted, trained: np.ndarray | None = None
) -> tuple[np.ndarray | None, str]:
    """(3, 3) pixels of an image, and where they are from.

    In this order: `wanted.intrinsics`, cam.txt next to the image, the training's intrinsics if they fit the
    size of the image, a guess.

    Returns:
        None and "" if no points are wanted.

    Raises:
        InputError: given intrinsics cannot belong to an image of this size.
    """
    if not wanted.points:
        return None, ""
    height, width = image.shape[-2:]
    if wanted.intrinsics is not None:
        K = parse_intrinsics(wanted.intrinsics, "--intrinsics")
        return check_intrinsics(K, f"--intrinsics, for {path}", height, width), "--intrinsics"
    files = [path.with_name(name) for name in FILES]
    if (file := next((file for file in files if file.is_file()), None)) is not None:
        K = parse_intrinsics(read_text(file), str(file))
        return check_intrinsics(K, f"{file}, for {path}", height, width), "file"
    if trained is not None and not diagnose(trained, height, width):
        return trained, "training"
    return guess_intrinsics(height, width), GUESSED


def write_outputs(
    output: Path, image: Tensor, inverse_depth: Tensor, K: np.ndarray | None, unit: str, wanted: Wanted
) -> None:
    """Write everything that is wanted of one image.

    Args:
        output: path of the outputs without ending.
        image: (3, h, w) uint8.
        inverse_depth: (1, H, W) at the network's size.
        K: (3, 3) pixels of the image, for points.
        unit: unit of depth in words.
        wanted: the outputs to write.
    """
    inverse = enlarge(inverse_depth[None], *image.shape[-2:])[0, 0].cpu().numpy()
    depth = 1 / inverse
    save_image(with_ending(output, wanted.endings[0]), colourise(inverse))
    if wanted.arrays:
        for name, values in (("depth", depth), ("disp", inverse)):
            with writing(with_ending(output, f"_{name}.npy")) as path, open(path, "wb") as file:
                np.save(file, values)
    if wanted.points:
        points, colours = point_cloud(depth, K, image.permute(1, 2, 0).numpy())
        write_ply(with_ending(output, ".ply"), points, colours, unit)


def with_ending(output: Path, ending: str) -> Path:
    """A path with an ending appended; an ending that its name already has stays."""
    return output.with_name(output.name + ending)


def summary(outputs: Mapping[Path, Path], failed: int, wanted: Wanted, output: str | None) -> str:
    """The files that were written, in words."""
    if len(outputs) == 1:
        (only,) = outputs.values()
        return "wrote " + ", ".join(str(with_ending(only, ending)) for ending in wanted.endings)
    common = Path(os.path.commonpath([os.path.abspath(path.parent) for path in outputs.values()]))
    folder = output or (common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common)
    return f"{len(outputs) - failed} images: <name>{', <name>'.join(wanted.endings)} in {folder}"


def in_words(predictor: Predictor) -> str:
    """The unit of a model's depth, in words that complete the sentence "depth is ..."."""
    if not predictor.is_metric:
        return f"known {predictor.unit}"
    return f"in {predictor.unit}" if predictor.unit == "metres" else predictor.unit
