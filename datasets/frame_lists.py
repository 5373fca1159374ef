"""Lists of frames in every published form, their hash, and the list that a training leaves in its checkpoint.

    read_frames(source)           a text list, a JSON file, a folder of images or videos -> FrameList
    FrameList.of_dataset(...)     the frames of an open dataset
    training_list(dataset)        what a checkpoint stores: dataset, number of frames, hash, packed lines

The hash is the SHA-256 of the sorted frames, each once. Order, repeated lines and the form of the list
(datasets/frame_names.py) do not change it. This file does not import torch: 72,000 lines are read in less
than a second.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.frame_names import ALL, MOST_OF_A_RUN, SUFFIXES, Frame, of_parts, of_path, parse_frame
from datasets.video import EXTRACTED, MOVING
from utils import InputError, nearest_name

HASH_DIGITS = 12
IMAGES = tuple(suffix for suffix in SUFFIXES if suffix not in (".h5", ".npy"))
# Keys of a JSON entry that hold its image, in the order they are looked for.
IMAGE_KEYS = (
    "image",
    "rgb",
    "img",
    "color",
    "image_path",
    "img_path",
    "file_name",
    "filename",
    "path",
    "token",
)
PARTS = ("train", "training", "val", "validation", "test", "testing", "0", "1", "2", "3")


@dataclass
class FrameList:
    """Frames and where they come from.

    Attributes:
        frames: in the order of the list; repeated lines stay.
        source: file, folder or dataset, for sentences.
        files: the image of each frame, as far as the list tells; None if unknown.
    """

    frames: list[Frame]
    source: str
    files: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def hash(self) -> str:
        """`HASH_DIGITS` hexadecimal digits, the same for the same set of frames."""
        keys = sorted({frame.key for frame in self.frames})
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:HASH_DIGITS]

    @staticmethod
    def of_dataset(dataset: Any) -> FrameList:
        """The frames of an open dataset, by `dataset.name`.

        Images of one's own are told apart by the name of their root folder and the scene below it, so that
        a checkpoint holds no path of a machine.
        """
        kind = dataset_name(dataset)
        names = [dataset.name(index) for index in range(len(dataset))]
        frames = [parse_frame(name) for name in names]
        if kind in ("folder", "label_folder"):
            root = Path(dataset.data_path).resolve().name
            frames = [_below(root, frame) for frame in frames]
        elif kind == "kitti2015":  # 000012_10 is an image of no known drive
            frames = [Frame("kitti2015", "l", name) for name in names]
        return FrameList(frames, kind)

    def pack(self) -> list[str]:
        """One line `scene<TAB>camera<TAB>frames` for each scene and camera; numbers as runs `0-4,7`."""
        groups: dict[tuple[str, str], list[int | str]] = {}
        for frame in self.frames:
            groups.setdefault((frame.scene, frame.camera), []).append(frame.number)
        return [f"{scene}\t{camera}\t{_runs(numbers)}" for (scene, camera), numbers in groups.items()]

    @staticmethod
    def unpack(lines: Iterable[str], source: str) -> FrameList:
        """The inverse of `pack`, apart from order and repetitions.

        Raises:
            InputError: a line is damaged.
        """
        frames = []
        for line in lines:
            try:
                scene, camera, numbers = line.split("\t")
                frames += [Frame(scene, camera, number) for number in _numbers(numbers)]
            except ValueError:
                raise InputError(
                    f"the list of training frames of {source} is damaged at '{line[:60]}'"
                ) from None
        return FrameList(frames, source)


def training_list(dataset: Any, method: Any = None) -> list[dict[str, Any]]:
    """Training lists as a checkpoint stores them: plain values, one record for each list.

    Args:
        dataset: dataset of the training; with a companion its frames are a list of their own.
        method: its `training_data`, if any, are the records of the checkpoint that the training started from.

    Returns:
        Records with `dataset`, `frames` (number), `hash` and `lines` (`FrameList.pack`), each list once.
    """
    records: dict[str, dict[str, Any]] = {}
    for one in _wrapped(dataset):
        frames = FrameList.of_dataset(one)
        record = {"dataset": frames.source, "frames": len(frames), "hash": frames.hash}
        records.setdefault(record["hash"], {**record, "lines": frames.pack()})
    for record in getattr(method, "training_data", None) or ():
        records.setdefault(record["hash"], dict(record))
    return list(records.values())


def dataset_name(dataset: Any) -> str:
    """The name of a dataset's file, such as `kitti`."""
    return type(dataset).__module__.rpartition(".")[2]


def innermost(dataset: Any) -> Any:
    """The dataset itself, without wrappers that add labels or a companion."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def _wrapped(dataset: Any) -> Iterator[Any]:
    """The datasets inside wrappers that add labels (`.dataset`), a companion or joined ones (`.parts`)."""
    if (companion := getattr(dataset, "companion", None)) is not None:
        yield from _wrapped(companion)
    if (inner := getattr(dataset, "dataset", None)) is not None:
        yield from _wrapped(inner)
    elif (parts := getattr(dataset, "parts", None)) is not None:
        for part in parts:
            yield from _wrapped(part)
    elif hasattr(dataset, "name"):
        yield dataset


def _below(root: str, frame: Frame) -> Frame:
    return frame._replace(scene=f"{root}/{frame.scene}".rstrip("/").removesuffix("/."))


def _runs(numbers: list[int | str]) -> str:
    """[1, 2, 3, 7] to "1-3,7"; other entries follow as they are; "*" is the whole scene."""
    if ALL in numbers:
        return "*"
    whole = sorted({number for number in numbers if isinstance(number, int)})
    runs = [
        [number for _, number in group]
        for _, group in itertools.groupby(enumerate(whole), lambda pair: pair[1] - pair[0])
    ]
    words = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    # The equals sign tells a name that looks like a run, such as "12-13", from a run.
    return ",".join([*words, *(f"={n}" for n in dict.fromkeys(n for n in numbers if isinstance(n, str)))])


def _numbers(text: str) -> Iterator[int | str]:
    if text == "*":
        yield ALL
        return
    runs, equals, names = text.partition("=")
    for run in filter(None, runs.split(",")):
        first, _, last = run.partition("-")
        if int(last or first) - int(first) >= MOST_OF_A_RUN:
            raise ValueError(run)
        yield from range(int(first), int(last or first) + 1)
    if equals:
        yield from names.split(",=")


# --------------------------------------------------------------------------------------- lists and folders


def read_frames(source: str | Path, data_path: str | Path | None = None) -> FrameList:
    """The frames of a list or of a folder.

    Args:
        source: a text file in any form of datasets/frame_names.py or in our compact form; a JSON file,
            `FILE.json#PART` for one of its parts; a folder of images or videos; a video.
        data_path: root of the images. With nuScenes' tables in it, sample tokens get their scenes.

    Raises:
        InputError: no such file or folder, or no frame in it.
    """
    text = str(source)
    path, _, part = text.partition("#")
    if ".json" in text and path.endswith(".json"):
        lines = list(_json_lines(Path(path), part))
        frames = FrameList([parse_frame(line) for line in lines], text, [_file_in(line) for line in lines])
    elif Path(source).is_dir() or text.lower().endswith(tuple(MOVING)):
        return _read_folder(Path(source))
    else:
        frames = _read_text(Path(source))
    if data_path is not None:
        frames = with_scenes(frames, Path(data_path))
    return frames


def _read_text(path: Path) -> FrameList:
    from datasets.splits import COMPACT_SIDES, read_split_file  # imports numpy

    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no list or folder {path}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    words = lines[0].split() if lines else []
    if words and (words[0] in ("include", "without") or (len(words) == 3 and words[1] in COMPACT_SIDES)):
        samples = read_split_file(path)
        return FrameList([of_parts(line.folder, line.frame, line.side) for line in samples], str(path))
    if not lines:
        raise InputError(f"{path} holds no frame")
    return FrameList([parse_frame(line) for line in lines], str(path), [_file_in(line) for line in lines])


def _file_in(line: str) -> str | None:
    """The image that a line names by its path."""
    line = line.strip()
    word = line if line.lower().endswith(IMAGES) and " " not in line else (line.split() or [""])[0]
    return word if word.lower().endswith(IMAGES) else None


def _read_folder(root: Path) -> FrameList:
    """The images below a folder, each folder a scene, and its videos, each a scene as a whole."""
    if not root.exists():
        raise InputError(f"there is no list, folder or video {root}")
    resolved = root.resolve()
    folders = (
        os.walk(resolved, followlinks=True) if resolved.is_dir() else [(resolved.parent, [], [resolved.name])]
    )
    frames, files = [], []
    for folder, _, names in folders:
        for name in sorted(names):
            file = f"{folder}/{name}"
            if name.lower().endswith(IMAGES):
                frame = of_path(file)
                frames.append(frame._replace(scene=frame.scene.removesuffix(EXTRACTED)))
                files.append(file)
            elif name.lower().endswith(tuple(MOVING)) and not Path(file + EXTRACTED).is_dir():
                frames.append(Frame(file, "", ALL))
                files.append(None)
    if not frames:
        raise InputError(f"{root} holds no image and no video")
    return FrameList(frames, str(root), files)


def _json_lines(path: Path, part: str) -> Iterator[str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error})") from None
    if isinstance(content, dict) and "scene_splits" in content:
        content = content["scene_splits"]
    if part:
        if not isinstance(content, dict) or part not in content:
            raise InputError(f"{path} has no part '{part}'{nearest_name(part, content)}")
        content = content[part]
    elif isinstance(content, dict) and len(content) > 1 and all(key in PARTS for key in content):
        raise InputError(f"{path} holds the parts {', '.join(content)}; write {path}#{next(iter(content))}")
    lines = list(_strings(content, any_word=isinstance(content, list)))
    if not lines:
        raise InputError(f"{path} names no image, scene or token")
    yield from lines


def _strings(node: Any, any_word: bool) -> Iterator[str]:
    """The images, scenes and tokens below a JSON node. An entry with several files gives only its image."""
    if isinstance(node, str):
        frame = parse_frame(node) if node.strip() else None
        if frame and (any_word or frame.number != ALL or node.endswith(".json") or "drive_" in node):
            yield node
    elif isinstance(node, list):
        for item in node:
            yield from _strings(item, any_word)
    elif isinstance(node, dict):
        image = next((node[key] for key in IMAGE_KEYS if isinstance(node.get(key), str)), None)
        for item in [image] if image is not None else node.values():
            yield from _strings(item, False)


def with_scenes(frames: FrameList, data_path: Path) -> FrameList:
    """Frames that are tokens of nuScenes with their scenes; images of unknown scenes by their full folder."""
    tables = next((path.parent for path in sorted(data_path.glob("v1.0-*/sample.json"))), None)
    scene_of: dict[str, str] = {}
    if tables and any(frame.unique and not frame.scene for frame in frames.frames):
        names = {row["token"]: row["name"] for row in json.loads((tables / "scene.json").read_text())}
        rows = json.loads((tables / "sample.json").read_text())
        scene_of = {row["token"]: names[row["scene_token"]] for row in rows}
    found, root = [], data_path.resolve()
    for frame, file in zip(frames.frames, frames.files or itertools.repeat(None)):
        if file and frame.scene and frame == of_path(file) and (root / file).is_file():
            frame = of_path(str(root / file))
        found.append(frame._replace(scene=frame.scene or scene_of.get(str(frame.number), "")))
    return FrameList(found, frames.source, frames.files)
