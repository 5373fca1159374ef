"""Can this be trained on? Looks at a dataset or a folder of pictures and says so in words, with pictures.

    python tools/doctor.py --data_path walk
    python tools/doctor.py --data_path walk.mp4 --set intrinsics="700 700 640 360" stride=2
    python tools/doctor.py --dataset kitti --data_path KITTI --split eigen_full --frame_ids 0 s
    python tools/doctor.py --dataset ddad --data_path DDAD --samples 4 --out ddad.html

Every listed picture is there and opens, sizes agree, intrinsics are plausible for them, the camera moves and
the gap between frames shows it, stereo pairs are rectified, true depth lies over the picture. Matches between
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS, build_dataset
from datasets._sequence import SequenceDataset, read_image
from datasets.folder import INTRINSICS_FILES, PICTURES, find_scenes, parse_intrinsics
from options import frame_id
from tools._doctor import files, intrinsics, motion, rig, truth, warp
from tools._doctor.page import write_page
from tools._doctor.reading import LEVELS, Finding, read_samples, reduced, spread
from tools._options import add_settings, new_parser
from utils import InputError, run_main

GUESSED = "went on with guessed intrinsics"
GUESSED_ANGLE = 60.0  # degrees from left to right, of an ordinary camera


def main(arguments: list[str] | None = None) -> int:
    """Examine, print, write the page. Returns the exit status."""
    given = parse(arguments)
    findings, dataset, sheet = examine(given)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    title = f"{given.dataset}: {given.data_path}"
    facts = "it could not be opened"
    if dataset is not None:
        cameras = f", {dataset.cameras} cameras" if dataset.cameras > 1 else ""
        frames = " ".join(str(frame) for frame in dataset.frame_ids)
        facts = f"{len(dataset)} samples{cameras}, frames {frames}, network {dataset.width}x{dataset.height}"
    verdict = judge(findings)
    print(f"{title}\n{facts}\n\n{as_text(findings)}\n\n{verdict}")
    write_page(given.out, title, facts, verdict, findings, sheet)
    print(f"pictures: {given.out}")
    return int(any(finding.level == "problem" for finding in findings))


def examine(
    given: argparse.Namespace,
) -> tuple[list[Finding], SequenceDataset | None, np.ndarray | None]:
    """All findings, the dataset where it opened, and a sheet of its pictures."""
    findings, dataset = open_dataset(given)
    if dataset is None:
        return findings, None, loose_pictures(given.data_path)
    decoded, broken, count = files.decode(dataset, given.all_files, given.workers)
    findings += files.check_files(decoded, broken, count, given.all_files)
    findings += files.check_sizes(dataset, decoded) + files.check_looks(decoded)
    most = given.samples or max(2, 12 // dataset.cameras)
    samples, unread = read_samples(dataset, spread(len(dataset), most), given.workers)
    if not samples:
        return findings + unread, dataset, None
    findings += truth.read_truth(dataset, samples)
    few = [samples[n] for n in spread(len(samples), 3)]
    gaps = motion.gap_pairs(dataset, few, given.workers)
    wide = [pair for gap, pairs in gaps.items() if gap in (3, 5) for pair in pairs]
    findings += files.check_borders(dataset, samples)
    if not any(finding.text == GUESSED for finding in findings):
        findings += intrinsics.check_intrinsics(dataset, samples)
    findings += motion.check_motion(dataset, samples)
    findings += motion.check_gap(dataset, gaps)
    findings += intrinsics.check_focal(dataset, samples, wide)
    findings += warp.check_warp(dataset, samples, pictures=3 if dataset.cameras == 1 else 1)
    findings += rig.check_stereo(dataset, samples)
    findings += rig.check_rig(dataset, samples) + rig.check_masks(dataset, samples)
    findings += truth.check_truth(dataset, samples)
    return findings, dataset, files.contact_sheet(dataset, samples)


# ------------------------------------------------------------------------------------------------- opening


def open_dataset(given: argparse.Namespace) -> tuple[list[Finding], SequenceDataset | None]:
    """The dataset, and what stood against opening it.

    Where it refuses, a second try leaves out samples that lack a picture, and one of a folder goes on with
    guessed intrinsics, so that the rest can still be looked at.
    """
    named = ("split", "part", "frame_ids", "height", "width")
    settings = {name: getattr(given, name) for name in named if getattr(given, name) is not None}
    settings |= dict(given.set)

    def build(more: Mapping[str, Any]) -> SequenceDataset:
        section = {"name": given.dataset, **settings, **more}
        return build_dataset({"dataset": section, "data_path": given.data_path})

    DATASETS.get(given.dataset)  # an unknown name is a slip of the pen, no finding
    try:
        return [], build({})
    except InputError as error:
        findings = [Finding("problem", "opening", str(error))]
    tries: list[tuple[str, Callable[[], Mapping[str, Any]]]] = [
        ("went on without the samples that lack a picture", lambda: {"skip_missing": True})
    ]
    if given.dataset == "folder":
        tries.append((GUESSED, lambda: _guessed(given, findings)))
    for words, more in tries:
        try:
            dataset = build(more())
        except InputError:
            continue
        return [*findings, Finding("note", "opening", words)], dataset
    return findings, None


def _guessed(given: argparse.Namespace, findings: list[Finding]) -> Mapping[str, Any]:
    """Intrinsics of an ordinary camera for the first picture; says what was wrong with those that are there.

    Raises:
        InputError: there is no picture, or it cannot be read.
    """
    root, scenes = find_scenes(given.data_path)
    folder = next(iter(scenes.values()))
    pictures = _pictures_below(folder)
    height, width = read_image(pictures[len(pictures) // 2]).shape[-2:]
    found = (place / name for place in (folder, root) for name in INTRINSICS_FILES)
    path = next((file for file in found if file.is_file()), None)
    if path is not None and "intrinsics" not in dict(given.set):
        K = parse_intrinsics(path.read_text(), str(path))
        for level, text in intrinsics.judge_intrinsics(K, height, width):
            findings.append(Finding(level, "intrinsics", f"{path}: {text}"))
    focal = round(width / 2 / np.tan(np.radians(GUESSED_ANGLE / 2)))
    return {"intrinsics": f"{focal} {focal} {(width - 1) / 2} {(height - 1) / 2}"}


def loose_pictures(data_path: Path, most: int = 3) -> np.ndarray | None:
    """Some pictures below a folder that did not open as a dataset; None where there is none."""
    cells = []
    for path in _pictures_below(data_path)[: 10 * most]:
        try:
            picture = read_image(path).permute(1, 2, 0).numpy()
        except InputError:
            continue
        if not cells or picture.shape == cells[0].shape:
            cells.append(picture)
        if len(cells) == most:
            break
    return reduced(np.hstack(cells), 1440) if cells else None


def _pictures_below(data_path: Path, most: int = 1000) -> list[Path]:
    """Pictures of the first folders that hold some, sorted; not every file of a large dataset is listed."""
    found: list[Path] = []
    for folder, folders, names in os.walk(data_path):
        folders.sort()
        found += [Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in PICTURES]
        if len(found) > most or (found and folders == []):
            break
    return found


# ------------------------------------------------------------------------------------------------- telling


def judge(findings: Sequence[Finding]) -> str:
    """The sentence that counts."""
    count = Counter(finding.level for finding in findings)
    problems, warnings = (_plural(count[level], level) for level in ("problem", "warning"))
    if count["problem"]:
        return f"cannot be trained on yet: {problems}" + (f", {warnings}" if count["warning"] else "")
    return "can be trained on" + (f", with {warnings}" if count["warning"] else "")


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
    add("--data_path", type=Path, required=True, help="its root: a folder, or a video file")
    add("--split", help="which list, as in training")
    add("--part", help="train, val or test (default: the dataset's, train)")
    add("--frame_ids", type=frame_id, nargs="+", help="frames like 0 -1 1 or 0 s (default: the dataset's)")
    add("--height", type=int, help="of the network, pixels (default: the dataset's)")
    add("--width", type=int, help="of the network, pixels (default: the dataset's)")
    add_settings(parser)
    add("--samples", type=int, help="looked at closely, spread evenly (default: 12, fewer with many cameras)")
    add("--all_files", action="store_true", help="open every picture, not some spread over them")
    add("--out", type=Path, default=Path("doctor.html"), help="the page (default: doctor.html)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads (default: one for each core)")
    given = parser.parse_args(arguments)
    if given.samples is not None and given.samples < 1:
        parser.error(f"--samples must be at least 1, got {given.samples}")
    return given


def _exit() -> None:
    raise SystemExit(main())


if __name__ == "__main__":
    run_main(_exit)
