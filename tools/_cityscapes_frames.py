"""Cityscapes' frames, resized and cropped with their intrinsics; the work of tools/prepare_cityscapes.py.

The docstring of the tool describes the two layouts.
"""

from __future__ import annotations

import functools
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets._cityscapes import (
    NAME,
    NATIVE,
    UPPER,
    VIDEO,
    OfficialTree,
    check_rows,
    frame_name,
    upper_rows,
)
from datasets._pillow import opened
from datasets.image_files import reading
from datasets.resizing import resize_intrinsics
from files import explained
from progress import Bar
from provenance import origin, unchanged
from utils import InputError, atomic_path, read_yaml, to_yaml
from workers import run_tasks

ABOUT = "prepared.yaml"  # file in the output that holds the settings
VERSION = 1  # of the algorithm
JPEG_QUALITY = 95
PNG_LEVEL = 2  # of zlib: 2.5 times as fast as the usual 6, files a seventh larger, equal pixels


@dataclass(frozen=True)
class Plan:
    """How images are prepared.

    Args:
        layout: `sequences` or `triples`.
        width, height: size of the whole frame before the crop, pixels.
        top_rows: share of the rows that is kept, from the top.
        ext: `jpg` or `png`; triples are png.
        stride: frames between the members of a triple; sequences keep every frame.
    """

    layout: str = "sequences"
    width: int = 1024
    height: int = 512
    top_rows: float = UPPER
    ext: str = "jpg"
    stride: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if getattr(self, name) < 32:
                raise InputError(f"--{name} must be at least 32, got {getattr(self, name)}")
        check_rows(self.top_rows, "--top_rows")
        if self.stride < 1:
            raise InputError(f"--stride must be at least 1, got {self.stride}")
        if self.layout == "triples" and self.ext != "png":
            raise InputError(f"published triples are png, got --ext {self.ext}")


@dataclass(frozen=True)
class Recording:
    """Consecutive frames of a sequence, with gaps of at most one frame.

    Attributes:
        root: the official tree.
        part: train, val or test.
        folder: `<city>_<sequence>`.
        frames: frame numbers.
    """

    root: Path
    part: str
    folder: str
    frames: tuple[int, ...]


def recordings(root: Path, parts: list[str], stride: int = 2) -> list[Recording]:
    """All recordings of some parts, sorted.

    Raises:
        InputError: the folder of a part does not exist.
    """
    found = []
    for part in parts:
        folder_of_part = root / VIDEO / part
        if not folder_of_part.is_dir():
            raise InputError(
                f"there is no folder {folder_of_part}; unpack leftImg8bit_sequence_trainvaltest.zip "
                f"into {root}"
            )
        for city in sorted(path for path in folder_of_part.iterdir() if path.is_dir()):
            sequences: dict[str, list[int]] = {}
            for name in sorted(os.listdir(city)):
                if match := NAME.fullmatch(name.removesuffix("_leftImg8bit.png")):
                    sequences.setdefault(match[1], []).append(int(match[4]))
            for folder, frames in sequences.items():
                cuts = [n for n in range(1, len(frames)) if frames[n] - frames[n - 1] > stride]
                runs = zip([0, *cuts], [*cuts, len(frames)])
                found += [Recording(root, part, folder, tuple(frames[a:b])) for a, b in runs]
    if not found:
        raise InputError(f"there are no images <city>/<name>_leftImg8bit.png in {root / VIDEO}")
    return found


def prepare(plan: Plan, recording: Recording, out: Path) -> int:
    """Write the images of one recording that are missing or out of date; a worker's task.

    Returns:
        The number of images written.

    Raises:
        InputError: an image cannot be read, or a camera is missing.
    """
    tree = OfficialTree(recording.root)
    make = _sequence if plan.layout == "sequences" else _triples
    city = recording.folder.rpartition("_")[0]
    note = out / city / f".{recording.folder}_{recording.frames[0]:06d}.origin.json"
    cameras = sorted((recording.root / "camera" / recording.part / city).glob(f"{recording.folder}_*.json"))
    images = {frame: tree.image_path(recording.folder, frame) for frame in recording.frames}
    earlier = json.loads(note.read_text())["sources"] if note.is_file() else {}

    def changed(path: Path) -> bool:
        then = earlier.get(os.path.relpath(path, recording.root))
        return then is not None and not unchanged(path, then)

    stale = {frame for frame, path in images.items() if changed(path)}
    recalibrated = any(map(changed, cameras))
    written = make(plan, recording, out, tree, stale, recalibrated)
    if written or recalibrated or not earlier:
        sources = [*cameras, *images.values()]
        made = origin(sources, recording.root, tool="prepare_cityscapes", version=VERSION)
        with atomic_path(note) as path:
            path.write_text(json.dumps(made))
    return written


def _sequence(
    plan: Plan, recording: Recording, out: Path, tree: OfficialTree, stale: set[int], recalibrated: bool
) -> int:
    city, _, number = recording.folder.rpartition("_")
    folder = out / city / number
    camera = folder / "cam.txt"
    if not camera.exists() or recalibrated:
        size = (plan.height, plan.width)
        matrices = [
            (n, resize_intrinsics(c.intrinsics, NATIVE, size)) for n, c in tree.cameras(recording.folder)
        ]
        rows = [f"{n:06d} {K[0, 0]:.6f} {K[1, 1]:.6f} {K[0, 2]:.6f} {K[1, 2]:.6f}\n" for n, K in matrices]
        with atomic_path(camera) as path:
            path.write_text("".join(rows))
    written = 0
    for frame in recording.frames:
        target = folder / f"{frame:06d}.{plan.ext}"
        if not target.exists() or frame in stale:
            _save(target, small_image(tree, recording.folder, frame, plan))
            written += 1
    return written


def _triples(
    plan: Plan, recording: Recording, out: Path, tree: OfficialTree, stale: set[int], recalibrated: bool
) -> int:
    there, written = set(recording.frames), 0
    small: dict[int, np.ndarray] = {}  # frames that the next triples share with the last
    for frame in recording.frames:
        members = (frame - plan.stride, frame, frame + plan.stride)
        target = out / recording.folder.rpartition("_")[0] / f"{frame_name(recording.folder, frame)}.png"
        done = target.exists() and not recalibrated and stale.isdisjoint(members)
        if done or not there.issuperset(members):
            continue
        small = {n: image for n, image in small.items() if n >= members[0]}
        for n in members:
            if n not in small:
                small[n] = small_image(tree, recording.folder, n, plan)
        # The camera is written first: if the image exists, the triple is complete.
        with atomic_path(target.with_name(f"{target.stem}_cam.txt")) as path:
            path.write_text(published_camera(tree.camera(recording.folder, frame).intrinsics, plan))
        _save(target, np.concatenate([small[n] for n in members]))
        written += 1
    return written


def small_image(tree: OfficialTree, folder: str, frame: int, plan: Plan) -> np.ndarray:
    """(h, w, 3) uint8: resized by Lanczos as published, then cropped.

    Raises:
        InputError: the image is missing or cannot be read.
    """
    path = tree.image_path(folder, frame)
    with reading(path), opened(path) as image:
        small = image.convert("RGB").resize((plan.width, plan.height), Image.Resampling.LANCZOS)
    return np.array(small)[: upper_rows(plan.height, plan.top_rows)]


def published_camera(K: np.ndarray, plan: Plan) -> str:
    """The line of a published `_cam.txt`: K by rows, the principal point scaled like the focal lengths."""
    sx, sy = plan.width / NATIVE[1], plan.height / NATIVE[0]
    return f"{K[0, 0] * sx:f},0.,{K[0, 2] * sx:f},0.,{K[1, 1] * sy:f},{K[1, 2] * sy:f},0.,0.,1."


def _save(path: Path, image: np.ndarray) -> None:
    buffer = io.BytesIO()
    if path.suffix == ".jpg":
        Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        Image.fromarray(image).save(buffer, "PNG", compress_level=PNG_LEVEL)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def prepare_all(
    plan: Plan,
    data_path: Path,
    out: Path,
    parts: list[str],
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Prepare every recording of a shard.

    Args:
        data_path: the official tree.
        out: folder of the prepared images.
        parts: train, val, test.
        workers: processes.
        shard: (which, of how many), counted from 1.

    Returns:
        The number of images written, and of recordings in the shard.

    Raises:
        InputError: see `prepare`; or `out` was prepared with other settings.
    """
    if not data_path.is_dir():
        raise InputError(f"there is no folder {data_path}; give the official tree with --data_path")
    which, shards = shard
    tasks = recordings(data_path, parts, plan.stride)
    tasks = tasks[which - 1 :: shards]
    _note_plan(plan, out)
    written = 0
    done = run_tasks(functools.partial(prepare, plan, out=out), tasks, workers)
    frames = sum(len(task.frames) for task in tasks)
    with explained(out), Bar(total=frames, unit="frame", desc="preparing") as bar:
        for task, files in zip(tasks, done):
            written += files
            bar.update(len(task.frames))
    return written, len(tasks)


def _note_plan(plan: Plan, out: Path) -> None:
    """Write the settings next to the images, and refuse to mix images of different settings."""
    path = out / ABOUT
    # Checked first: other processes make folders only after they have written this file.
    occupied = out.is_dir() and any(entry.is_dir() for entry in out.iterdir())
    if path.is_file():
        earlier = read_yaml(path.read_text())
        if earlier != asdict(plan):
            changed = [
                f"{key} {earlier.get(key)}"
                for key, value in asdict(plan).items()
                if earlier.get(key) != value
            ]
            raise InputError(
                f"{out} was prepared with {', '.join(changed)}; give the same settings, or another --out"
            )
        return
    if occupied:
        raise InputError(f"{out} holds other folders already; give a new one with --out")
    with explained(out), atomic_path(path) as temporary:
        temporary.write_text(to_yaml(asdict(plan)))
