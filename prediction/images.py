"""Depth of single images: where the outputs go, and which intrinsics the points have."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cameras import find_calibration, fitting_camera, pinhole_of
from datasets.opening import section_of
from intrinsics import (
    CAMERA_FILE,
    FILES,
    check_intrinsics,
    diagnose,
    guess_intrinsics,
    nearest_file,
    parse_intrinsics,
)
from methods import RECORD
from prediction.outputs import Predicted, Wanted, with_ending, write_outputs
from prediction.reading import read_or_reason, unscaled_bits
from predictor import Predictor
from utils import InputError, read_text

GUESSED = "guessed"  # source of intrinsics that nothing gives


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
    while paths := list(itertools.islice(remaining, batch_size)):
        read = {path: read_or_reason(path) for path in paths}
        report.failed += [item for item in read.values() if isinstance(item, InputError)]
        items = []
        for path, image in read.items():
            if isinstance(image, InputError):
                continue
            report.dark += [sentence] if (sentence := unscaled_bits(path, image)) else []
            K, source = None, ""
            try:
                if wanted.reads_intrinsics:
                    trained = trained_intrinsics(predictor.options, path)
                    K, source = find_intrinsics(path, *image.shape[-2:], wanted.intrinsics, trained)
            except InputError as error:
                report.failed.append(error)
                continue
            report.sources[source] += 1
            items.append((outputs[path], image, K, source == GUESSED))
        if items:
            inverse_depths, logits = predictor.predict([image for _, image, _, _ in items])
            scores = itertools.repeat(None) if logits is None else logits
            for (output, image, K, guessed), inverse_depth, score in zip(items, inverse_depths, scores):
                predicted = Predicted(image, inverse_depth, score, K, guessed, predictor.unit)
                write_outputs(output, predicted, wanted)
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


def trained_intrinsics(options: Mapping[str, Any], path: Path | None = None) -> np.ndarray | None:
    """(3, 3) pixels that the training set in its options, guessed or learned; None if it did none of these.

    Args:
        options: those of a checkpoint.
        path: the image or video; of several recordings with cameras of their own, the one with its name is
            used, and none if there is no such recording.
    """
    if record := options.get(RECORD):
        names = {path.name, path.parent.name} if path is not None else set()
        found = [camera for name, camera in record.items() if Path(name).name in names]
        found = found or (list(record.values()) if len(record) == 1 else [])
        return parse_intrinsics(found[0]["intrinsics"], "the run's camera") if found else None
    _, settings = section_of(options) if options.get("dataset") else ("", {})
    given = settings.get("intrinsics")
    is_word = isinstance(given, str) and given.isalpha()  # guess, or KITTI's fixed: no numbers
    return None if given is None or is_word else parse_intrinsics(given, "the run's dataset.intrinsics")


def find_intrinsics(
    path: Path, height: int, width: int, given: str | None, trained: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """(3, 3) pixels of an image or a video, and where they are from.

    In this order: `given`; cam.txt or camera.yaml next to the file; a file of another program next to it or
    in the folder above; the training's intrinsics if they fit the size; a guess.

    Args:
        path: the file.
        height, width: size of the image, pixels.
        given: `fx fy cx cy` of the command line.
        trained: intrinsics in the options of the training.

    Raises:
        InputError: given intrinsics cannot belong to an image of this size, or a file that is not valid.
    """
    if given is not None:
        K = parse_intrinsics(given, "--intrinsics")
        return check_intrinsics(K, f"--intrinsics, for {path}", height, width), "--intrinsics"
    if (file := nearest_file([path.parent], FILES)) is not None:
        K = parse_intrinsics(read_text(file), str(file))
        return check_intrinsics(K, f"{file}, for {path}", height, width), "file"
    folders = [path.parent, path.absolute().parent.parent]  # COLMAP and nerfstudio have images in `images`
    if (file := nearest_file([path.parent], (CAMERA_FILE,)) or find_calibration(folders)) is not None:
        K = pinhole_of(fitting_camera(file, height, width, path.absolute().parent), file, height, width)
        return check_intrinsics(K, f"{file}, for {path}", height, width), "file"
    if trained is not None and not diagnose(trained, height, width):
        return trained, "training"
    return guess_intrinsics(height, width), GUESSED


def about_intrinsics(sources: Mapping[str, int], wanted: Wanted) -> list[str]:
    """Sentences about intrinsics that the user did not give.

    Args:
        sources: `Report.sources`.
        wanted: the outputs that hold or need intrinsics.
    """
    sentences = []
    if guessed := sources[GUESSED]:
        effects = []
        if wanted.clouds:
            effects.append(
                "their points assume a camera that sees 60 degrees along the longer side of the image"
            )
        if "npz" in wanted.kinds:
            effects.append("their .npz hold depth only")
        sentences.append(
            f"{guessed} of the images have no intrinsics (--intrinsics, or cam.txt next to the image): "
            f"{', and '.join(effects)}"
        )
    if trained := sources["training"]:
        what = "points" if wanted.clouds else ".npz"
        sentences.append(f"the {what} of {trained} of the images use the intrinsics in the run's options")
    return sentences


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
    return f"in {predictor.unit}" if predictor.unit.startswith("metres") else predictor.unit
