"""Split lists: which frames the train, val and test parts of a dataset hold.

Ours live in `splits/<dataset>/<split>/<part>.txt`, one line per drive and side, its frames as runs:

    2011_09_26_drive_0022 lr 5-574,577-798       both cameras of these frames
    8 l 4056,12                                  left camera only, in this order
    image - 0-499                                no side at all
    aachen_0-3,7 - 2-27                          Cityscapes: sequences aachen_000000 and so on, as runs too
    include ../eigen/test.txt                    every sample of another list, in its order
    without val.txt                              whatever this other list holds is taken out again
    without 2011_09_26_drive_0002 l 0,3,72,75    and so are these

The published form, one sample per line as `<folder> <frame> <side>` (of Cityscapes `<city> <name>`), is read
as well: a folder holding `train_files.txt` and `val_files.txt` is a split too, and so is one that holds the
`train.json` and `validation.json` of SGDepth (datasets/_json_lists.py).
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets import _json_lists
from datasets.frame_names import MOST_OF_A_RUN
from utils import PROJECT, InputError, nearest_name

SPLITS = PROJECT / "splits"

# How a compact line names the cameras of a frame, and how a published line does: KITTI's colour cameras
# are 2 (left) and 3 (right).
COMPACT_SIDES = {"l": ("l",), "r": ("r",), "lr": ("l", "r"), "-": (None,)}
PUBLISHED_SIDES = {"l": "l", "r": "r", "2": "l", "3": "r"}
PUBLISHED_FORMS = {1: "<name>", 2: "<folder> <frame>", 3: "<folder> <frame> <side>"}

PART_FILE = re.compile(r"(train|val|test)(?:_files)?(_\w+)?")
KITTI_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}")
CITY_RUNS = re.compile(r"([a-z]+)_(\d+(?:[-,]\d+)+)")
CITY_FRAME = re.compile(r"(([a-z]+)_\d{6})_(\d{6})")
CITY_SEQUENCE = re.compile(r"([a-z]+)_\d{6}")
RUN = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?")

NumberedTokens = list[tuple[int, list[str]]]  # a list's lines, split at blanks, with their line numbers


@dataclass(frozen=True, slots=True)
class SplitLine:
    """One sample: a target frame of one camera.

    Attributes:
        folder: "2011_09_26/2011_09_26_drive_0001_sync", or "8" for odometry.
        frame: its number in the drive, from 0 on.
        side: "l", "r", or None where the dataset has one camera.
        source: "splits/kitti/eigen/test.txt, line 12", for error sentences.
    """

    folder: str
    frame: int
    side: str | None
    source: str

    @property
    def key(self) -> tuple[str, int, str]:
        """Folder, frame and side ("" for none): equal, hashable and sortable whatever the list."""
        return self.folder, self.frame, self.side or ""


# ---------------------------------------------------------------------------------------------- finding lists


def load_split(dataset: str, split: str, part: str) -> list[SplitLine]:
    """The samples of one part of a split, in the order of its list.

    Args:
        dataset: a folder of `splits/`, such as "kitti".
        split: one of its splits, such as "eigen_zhou", or the path of a folder with lists of your own.
        part: "train", "val", "test", or a named test such as "test_09".

    Raises:
        InputError: one of the three is unknown (the sentence gives the nearest name), or a line does not
            parse.
    """
    files = _part_files(_split_folder(dataset, split))
    if part not in files:
        raise InputError(f"split '{split}' has no part '{part}'{nearest_name(part, files)}")
    return read_split_file(files[part])


def split_names(dataset: str) -> list[str]:
    """The splits that come with Parallax for a dataset, sorted."""
    datasets = sorted(path.name for path in SPLITS.iterdir() if path.is_dir())
    if dataset not in datasets:
        raise InputError(f"there are no splits for '{dataset}'{nearest_name(dataset, datasets)}")
    return sorted(path.name for path in (SPLITS / dataset).iterdir() if path.is_dir())


def parts(dataset: str, split: str) -> list[str]:
    """The parts of a split, sorted: ["train", "val"]."""
    return sorted(_part_files(_split_folder(dataset, split)))


def evaluated_part(dataset: str, split: str | None) -> str:
    """The part of a split that is evaluated: test, or val where there is no test."""
    known = parts(dataset, split) if split else ["test"]
    return next((part for part in ("test", "val") if part in known), known[0])


def eigen_to_benchmark_ids() -> np.ndarray:
    """(652,) int64, strictly increasing: where the frames of `eigen_benchmark` stand in the `eigen` list.

    Index predictions saved for the 697 Eigen frames with it to get those of the 652 frames that have
    improved ground truth.
    """
    position = {line.key: index for index, line in enumerate(load_split("kitti", "eigen", "test"))}
    benchmark = load_split("kitti", "eigen_benchmark", "test")
    return np.array([position[line.key] for line in benchmark], dtype=np.int64)


def _split_folder(dataset: str, split: str) -> Path:
    if Path(split).name != split:  # a path
        if not Path(split).is_dir():
            raise InputError(f"there is no folder {split}")
        return Path(split)
    names = split_names(dataset)
    if split in names:
        return SPLITS / dataset / split
    if split and Path(split).is_dir():
        return Path(split)
    raise InputError(f"{dataset} has no split '{split}'{nearest_name(split, names)}")


def _part_files(folder: Path) -> dict[str, Path]:
    """{"train": folder/train.txt, "test_09": folder/test_files_09.txt}, whichever of the two names it has."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")):
        if match := PART_FILE.fullmatch(path.stem):
            part = match[1] + (match[2] or "")
            if part in files:
                raise InputError(f"{folder} holds both {files[part].name} and {path.name}; keep one of them")
            files[part] = path
    for stem, part in _json_lists.PARTS.items():
        if (path := folder / f"{stem}.json").is_file():
            files.setdefault(part, path)
    if not files:
        raise InputError(f"{folder} holds no split list; expected train_files.txt, val_files.txt or the like")
    return files


# ---------------------------------------------------------------------------------------------- reading lists


def read_split_file(path: str | Path) -> list[SplitLine]:
    """The samples of one list, in our compact form or a published one, told apart by ending and first line.

    Raises:
        InputError: there is no such file, a line does not parse, or nothing is left in the list.
    """
    path = Path(path)
    if path.suffix != ".json":
        return _read(path, readers=())
    name = _name(path)
    samples = [SplitLine(*line) for line in _json_lists.read_json_list(path, _json_part(path), name)]
    if not samples:
        raise InputError(f"{name} holds no sample")
    return samples


def _json_part(path: Path) -> str:
    return _json_lists.PARTS.get(path.stem, "test")


def _read(path: Path, readers: tuple[Path, ...]) -> list[SplitLine]:
    """Same as `read_split_file`; `readers` are the lists whose `include` or `without` led here."""
    if path.resolve() in readers:
        raise InputError(f"{_name(path)} includes itself")
    try:
        # utf-8-sig also takes the byte order mark that some editors put first.
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"there is no file {_name(path)}") from None
    except UnicodeDecodeError:
        raise InputError(f"{_name(path)} is not a text file") from None
    lines = [
        (number, tokens)
        for number, line in enumerate(text.splitlines(), start=1)
        if (tokens := line.split()) and not tokens[0].startswith("#")
    ]
    if lines and _is_compact(lines[0][1]):
        samples = _read_compact(path, lines, (*readers, path.resolve()))
    else:
        samples = _read_published(path, lines)
    if not samples:
        raise InputError(f"{_name(path)} holds no sample")
    return samples


def _is_compact(tokens: list[str]) -> bool:
    """True for our form, with the side before the frames; published lists have it behind them."""
    if tokens[0] in ("include", "without"):
        return len(tokens) in (2, 4)
    return len(tokens) == 3 and tokens[1] in COMPACT_SIDES


def _read_compact(path: Path, lines: NumberedTokens, readers: tuple[Path, ...]) -> list[SplitLine]:
    samples: list[SplitLine] = []
    removed: set[tuple[str, int, str]] = set()
    for number, tokens in lines:
        source = f"{_name(path)}, line {number}"
        match tokens:
            case ["include", other]:
                samples += _read_named(path.parent / other, source, readers)
            case ["without", other]:
                removed.update(line.key for line in _read_named(path.parent / other, source, readers))
            case ["without", drive, sides, frames]:
                removed.update(line.key for line in _expand(drive, sides, frames, source))
            case [drive, sides, frames]:
                samples += _expand(drive, sides, frames, source)
            case _:
                raise _compact_error(source, tokens)
    return [line for line in samples if line.key not in removed] if removed else samples


def _read_named(path: Path, source: str, readers: tuple[Path, ...]) -> list[SplitLine]:
    if not path.is_file():
        raise InputError(f"{source}: there is no file {_name(path)}")
    return _read(path, readers)


def _expand(drive: str, sides: str, frames: str, source: str) -> list[SplitLine]:
    """`8 lr 4-5` to four samples: frame 4 left, 4 right, 5 left, 5 right."""
    runs = _numbers(frames, source)
    if sides not in COMPACT_SIDES or runs is None:
        raise _compact_error(source, [drive, sides, frames])
    folders = [_folder_of(drive)]
    if match := CITY_RUNS.fullmatch(drive):
        folders = [f"{match[1]}_{number:06d}" for number in _numbers(match[2], source)]
    return [
        SplitLine(folder, frame, side, source)
        for folder in folders
        for frame in runs
        for side in COMPACT_SIDES[sides]
    ]


def _numbers(text: str, source: str) -> list[int] | None:
    """`1-3,7` to [1, 2, 3, 7]; None for text of another form."""
    runs = [RUN.fullmatch(run) for run in text.split(",")]
    if not all(runs):
        return None
    numbers: list[int] = []
    for run in runs:
        first, last = int(run[1]), int(run[2] or run[1])
        if last < first:
            raise InputError(f"{source}: the run {run[0]} goes backwards; did you mean {last}-{first}?")
        if last - first >= MOST_OF_A_RUN:
            most = f"more than {MOST_OF_A_RUN} frames"
            raise InputError(f"{source}: the run {run[0]} has {most}; is there a digit too many?")
        numbers += range(first, last + 1)
    return numbers


def _compact_error(source: str, tokens: list[str]) -> InputError:
    form = "<drive> <l, r, lr or -> <frames such as 1-5,9>"
    return InputError(f"{source}: expected '{form}', got '{' '.join(tokens)}'")


def _read_published(path: Path, lines: NumberedTokens) -> list[SplitLine]:
    name = _name(path)
    width = min(3, max((len(tokens) for _, tokens in lines), default=3))  # one form throughout
    samples = []
    for number, tokens in lines:
        try:
            folder, frame, side = _parse_published(tokens, width)
        except ValueError as problem:
            line = " ".join(tokens)
            form = PUBLISHED_FORMS[width]
            raise InputError(f"{name}, line {number}: expected '{form}'{problem}, got '{line}'") from None
        samples.append(SplitLine(folder, frame, side, f"{name}, line {number}"))
    return samples


def _parse_published(tokens: list[str], width: int) -> tuple[str, int, str | None]:
    """Folder, frame and side; a `ValueError` says what else was expected of the line."""
    if len(tokens) != width:
        raise ValueError("")
    if width == 1:
        return tokens[0], 0, None
    if width == 2 and (match := CITY_FRAME.fullmatch(tokens[1])) and match[2] == tokens[0]:
        return match[1], int(match[3]), None
    if not tokens[1].isdecimal():
        raise ValueError(" with a frame number from 0 on")
    if width == 2:
        return tokens[0], int(tokens[1]), None
    if tokens[2] not in PUBLISHED_SIDES:
        raise ValueError(" with side l, r, 2 or 3")
    return tokens[0], int(tokens[1]), PUBLISHED_SIDES[tokens[2]]


def _folder_of(drive: str) -> str:
    """Folder `2011_09_26/2011_09_26_drive_0001_sync` of `2011_09_26_drive_0001`; other names unchanged."""
    return f"{drive[:10]}/{drive}_sync" if KITTI_DRIVE.fullmatch(drive) else drive


def _name(path: Path) -> str:
    """The path as a reader knows it: from the project's root where it lies inside."""
    resolved = path.resolve()
    return (resolved.relative_to(PROJECT) if resolved.is_relative_to(PROJECT) else path).as_posix()


# ---------------------------------------------------------------------------------------------- writing lists


def compact_lines(samples: Iterable[SplitLine], keep_order: bool = False) -> list[str]:
    """Samples as lines of the compact form.

    Args:
        samples: samples in any order; repetitions are kept.
        keep_order: keep the order, which needs more lines; False sorts by drive, frame and side.
    """
    groups = _groups_in_order(samples) if keep_order else _sorted_groups(samples)
    return [f"{_drive_of(folder)} {sides} {_runs(frames)}" for folder, sides, frames in groups]


def published_lines(samples: Iterable[SplitLine]) -> list[str]:
    """Samples as published lists have them: `2011_09_26/2011_09_26_drive_0001_sync 12 l`, or `image 12`, or
    `aachen aachen_000000_000002`."""
    return [
        f"{match[1]} {line.folder}_{line.frame:06d}"
        if (match := CITY_SEQUENCE.fullmatch(line.folder))
        else f"{line.folder} {line.frame} {line.side or ''}".rstrip()
        for line in samples
    ]


def _groups_in_order(samples: Iterable[SplitLine]) -> list[tuple[str, str, list[int]]]:
    """(folder, side, frames), a new group wherever drive or side change."""
    neighbours = itertools.groupby(samples, key=lambda line: (line.folder, line.side))
    return [(folder, side or "-", [line.frame for line in lines]) for (folder, side), lines in neighbours]


def _sorted_groups(samples: Iterable[SplitLine]) -> list[tuple[str, str, list[int]]]:
    """(folder, sides, frames) in order; `lr` where both cameras have the same frames."""
    frames: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in samples:
        frames[line.folder][line.side or "-"].append(line.frame)
    groups = []
    for folder in sorted(frames, key=lambda folder: (len(folder), folder)):  # sequence 9 before 10
        sides = {side: sorted(frames[folder][side]) for side in sorted(frames[folder])}
        if "l" in sides and sides["l"] == sides.get("r"):
            sides = {**sides, "lr": sides["l"]}
            del sides["l"], sides["r"]
        groups += [(folder, side, sides[side]) for side in sides]
    return groups


def _runs(frames: list[int]) -> str:
    """[1, 2, 3, 7] to "1-3,7"."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _drive_of(folder: str) -> str:
    """Drive of a KITTI folder, the inverse of `_folder_of`; other folders unchanged."""
    drive = folder.rpartition("/")[2].removesuffix("_sync")
    return drive if _folder_of(drive) == folder else folder
