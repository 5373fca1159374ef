"""Can this be trained on? Looks at a dataset or a folder of images and says so in words, with images.

    python tools/doctor.py --data_path walk
    python tools/doctor.py --data_path walk.mp4 --set intrinsics="700 700 640 360" stride=2
    python tools/doctor.py --dataset kitti --data_path KITTI --split eigen_full --frame_ids 0 s
    python tools/doctor.py --dataset ddad --data_path DDAD --samples 4 --out ddad.html

Every listed image is there and opens, sizes agree, intrinsics are plausible for them, the camera moves and
the gap between frames shows it, stereo pairs are rectified, true depth lies over the image. Matches between
real frames give the motion; warped by it, a source should look like its target. The page (`--out`) shows all
of that in one file. The exit status is 0 where nothing stands against training, otherwise 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datasets
from datasets import DATASETS
from datasets.image_files import IMAGES, read_image
from datasets.scenes import find_scenes
from datasets.sequence import SequenceDataset
from intrinsics import FILES as INTRINSICS_FILES
from intrinsics import parse_intrinsics
from options import frame_id
from tools._doctor import files, ground_truth, intrinsics, motion, rig, warp
from tools._doctor.page import write_page
from tools._doctor.reading import LEVELS, Figure, Finding, read_samples, spread
from tools._options import add_settings, new_parser, place
from utils import InputError, check_settings, read_text, run_main

GUESSED = "went on with guessed intrinsics"
GUESSED_ANGLE = 60.0  # degrees from left to right, of an ordinary camera


def main(arguments: list[str] | None = None) -> int:
    """Examine, print, write the page. Returns the exit status."""
    given = parse(arguments)
    findings, dataset, image_grid = examine(given)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    title = f"{given.dataset}: {given.data_path}"
    facts = "it could not be opened"
    if dataset is not None:
        cameras = f", {dataset.cameras} cameras" if dataset.cameras > 1 else ""
        frames = " ".join(str(frame) for frame in dataset.frame_ids)
        size = f"{dataset.width}x{dataset.height}"
        facts = f"{_plural(len(dataset), 'sample')}{cameras}, frames {frames}, network {size}"
    verdict = evaluate(findings, trains=dataset is None or len(dataset.frame_ids) > 1)
    print(f"{title}\n{facts}\n\n{as_text(findings)}\n\n{verdict}")
    write_page(given.out, title, facts, verdict, findings, image_grid)
    print(f"images: {given.out}")
    return int(any(finding.level == "problem" for finding in findings))


def examine(given: argparse.Namespace) -> tuple[list[Finding], SequenceDataset | None, Figure | None]:
    """All findings, the dataset where it opened, and some of its images."""
    findings, dataset, guessed = open_dataset(given)
    if dataset is None:
        return findings, None, loose_images(given.data_path)
    decoded, broken, count = files.decode(dataset, given.all_files, given.workers)
    findings += files.check_files(decoded, broken, count, given.all_files)
    findings += files.check_sizes(dataset, decoded) + files.check_looks(decoded)
    most = given.samples or max(2, 12 // dataset.cameras)
    samples, unread = read_samples(dataset, spread(len(dataset), most), given.workers)
    if not samples:
        return findings + unread, dataset, None
    findings += ground_truth.read_ground_truth(dataset, samples, given.all_files)
    few = [samples[n] for n in spread(len(samples), 3)]
    apart = motion.gap_pairs(dataset, few, given.workers)
    gaps = motion.measure_gaps(apart)
    findings += files.check_borders(dataset, samples)
    if not guessed:
        findings += intrinsics.check_intrinsics(dataset, samples)
    findings += motion.check_motion(dataset, samples, gaps)
    findings += motion.check_gap(dataset, apart, gaps)
    findings += intrinsics.check_focal(dataset, samples, apart.get(3, []) + apart.get(5, []), guessed)
    findings += warp.check_warp(dataset, samples, images=3 if dataset.cameras == 1 else 1)
    findings += rig.check_stereo(dataset, samples)
    findings += rig.check_rig(dataset, samples) + rig.check_masks(dataset, samples)
    findings += ground_truth.check_ground_truth(dataset, samples)
    return findings, dataset, files.image_grid(dataset, samples)


# ------------------------------------------------------------------------------------------------- opening


def open_dataset(given: argparse.Namespace) -> tuple[list[Finding], SequenceDataset | None, bool]:
    """The dataset, what stood against opening it, and whether its intrinsics are guessed.

    Where it refuses, further tries leave out samples that lack an image, and of a folder go on with guessed
    intrinsics and with nothing held back, so that the rest can still be looked at.

    Raises:
        InputError: no such dataset, or a setting that it does not take.
    """
    named = ("split", "part", "frame_ids", "height", "width")
    settings = {name: getattr(given, name) for name in named if getattr(given, name) is not None}
    settings |= dict(given.set)
    # A slip of the pen is no finding.
    check_settings(f"dataset {given.dataset}", DATASETS.get(given.dataset), settings)
    findings: list[Finding] = []
    repairs: list[tuple[str, Mapping[str, Any]]] = [
        ("went on without the samples that lack an image", {"skip_missing": True})
    ]
    evaluated: list[Finding] = []
    if given.dataset == "folder":
        try:
            root, scenes = find_scenes(given.data_path)
        except InputError as error:
            return [Finding("problem", "opening", str(error))], None, False
        folder = next(iter(scenes.values()))
        size = _first_size(folder)
        if size is not None:
            evaluated = [] if "intrinsics" in settings else _evaluate_file(folder, root, *size)
            repairs.append((GUESSED, {"intrinsics": _guess(*size)}))
        repairs.append(("went on with nothing held back for validation", {"val_fraction": 0}))

    dataset, reason = _try(given, settings)
    if reason is not None:
        findings.append(Finding("problem", "opening", reason))
    guessed, told = False, []
    for words, repair in repairs:
        if dataset is not None:
            break
        dataset, left = _try(given, {**settings, **repair})
        if left == reason:
            continue
        settings, reason = {**settings, **repair}, left
        told.append(Finding("note", "opening", words))
        if words == GUESSED:
            guessed = True
            if any(finding.level == "problem" for finding in evaluated):
                findings = [*findings[:-1], *evaluated]
        if left is not None:
            findings.append(Finding("problem", "opening", left))
    return [*findings, *(told if dataset is not None else [])], dataset, guessed


def _try(
    given: argparse.Namespace, settings: Mapping[str, Any]
) -> tuple[SequenceDataset, None] | tuple[None, str]:
    """The dataset, or why it refuses."""
    section = {"name": given.dataset, **settings}
    try:
        return datasets.open_dataset({"dataset": section, "data_path": given.data_path}, "inspect"), None
    except InputError as error:
        return None, str(error)


def _first_size(folder: Path) -> tuple[int, int] | None:
    """(height, width) of an image in the middle of a folder; None where it cannot be read."""
    images = [path for path in _images_below(folder) if path.parent == folder]  # not their depth
    try:
        return tuple(read_image(images[len(images) // 2]).shape[-2:])
    except InputError:
        return None


def _guess(height: int, width: int) -> str:
    """Intrinsics of an ordinary camera."""
    focal = round(width / 2 / np.tan(np.radians(GUESSED_ANGLE / 2)))
    return f"{focal} {focal} {(width - 1) / 2} {(height - 1) / 2}"


def _evaluate_file(folder: Path, root: Path, height: int, width: int) -> list[Finding]:
    """What is wrong with the numbers in an intrinsics file, which says more than that they are refused."""
    found = (place / name for place in (folder, root) for name in INTRINSICS_FILES)
    path = next((file for file in found if file.is_file()), None)
    try:
        K = None if path is None else parse_intrinsics(read_text(path), str(path))
    except InputError:
        return []
    evaluated = [] if K is None else intrinsics.evaluate_intrinsics(K, height, width)
    return [Finding(level, "intrinsics", f"{path}: {text}") for level, text in evaluated]


def loose_images(data_path: Path, most: int = 3) -> Figure | None:
    """Some images below a folder that did not open as a dataset; None where there is none."""
    panels = []
    for path in _images_below(data_path)[: 10 * most]:
        try:
            panels.append((path.name, read_image(path).permute(1, 2, 0).numpy()))
        except InputError:
            continue
        if len(panels) == most:
            break
    return Figure("some of the images", panels) if panels else None


def _images_below(data_path: Path, most: int = 1000) -> list[Path]:
    """Images of the first folders that hold some, sorted; not every file of a large dataset is listed."""
    found: list[Path] = []
    for folder, folders, names in os.walk(data_path):
        folders.sort()
        found += [Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGES]
        if len(found) > most or (found and folders == []):
            break
    return found


# ------------------------------------------------------------------------------------------------- telling


def evaluate(findings: Sequence[Finding], trains: bool = True) -> str:
    """The sentence that counts; of targets without sources it speaks of evaluation, not of training."""
    use = "trained on" if trains else "evaluated on"
    count = Counter(finding.level for finding in findings)
    problems, warnings = (_plural(count[level], level) for level in ("problem", "warning"))
    if count["problem"]:
        return f"cannot be {use} yet: {problems}" + (f", {warnings}" if count["warning"] else "")
    why = "" if trains else "; training needs frames beside 0"
    return f"can be {use}" + (f", with {warnings}" if count["warning"] else "") + why


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + ("s" if count != 1 else "")


def as_text(findings: Sequence[Finding], width: int = 110) -> str:
    """One aligned line a finding, wrapped under itself where it is long.

    Of cameras that are all right the first stands for the others; the page has them all.
    """
    if not findings:
        return ""
    told = []
    fine = [finding for finding in findings if finding.level == "good"]
    for topic in dict.fromkeys(finding.topic for finding in fine):
        good = [finding for finding in fine if finding.topic == topic]
        rest = f" (and {len(good) - 1} more)" if len(good) > 1 else ""
        told.append(dataclasses.replace(good[0], text=good[0].text + rest))
    findings = [finding for finding in findings if finding.level != "good"] + told
    column = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        start = f"  {finding.level:<8} {finding.topic:<{column}}  "
        wrapped = textwrap.wrap(
            finding.text, width - len(start), break_long_words=False, break_on_hyphens=False
        )
        lines += [start + wrapped[0], *(" " * len(start) + line for line in wrapped[1:])]
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--dataset", default="folder", help="a file of datasets/ (default: folder)")
    add("--data_path", type=place, required=True, help="its root: a folder, or a video file")
    add("--split", type=os.path.expanduser, help="which list, as in training")
    add("--part", help="train, val or test (default: the dataset's, train)")
    add("--frame_ids", type=frame_id, nargs="+", help="frames like 0 -1 1 or 0 s (default: the dataset's)")
    add("--height", type=int, help="of the network, pixels (default: the dataset's)")
    add("--width", type=int, help="of the network, pixels (default: the dataset's)")
    add_settings(parser)
    add("--samples", type=int, help="looked at closely, spread evenly (default: 12, fewer with many cameras)")
    add("--all_files", action="store_true", help="open every image, not some spread over them")
    add("--out", type=place, default=Path("doctor.html"), help="the page (default: doctor.html)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads (default: one for each core)")
    given = parser.parse_args(arguments)
    if given.samples is not None and given.samples < 1:
        parser.error(f"--samples must be at least 1, got {given.samples}")
    return given


def _exit() -> None:
    raise SystemExit(main())


if __name__ == "__main__":
    run_main(_exit)
