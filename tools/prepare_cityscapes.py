"""Make Cityscapes' recordings small enough to train from: 324 GB of PNG to roughly 12 GB.

    python tools/prepare_cityscapes.py --data_path CITYSCAPES --out CITYSCAPES_SMALL
    python tools/prepare_cityscapes.py --data_path CITYSCAPES --out TRIPLES --layout triples

Every frame of `leftImg8bit_sequence` is made `--width` x `--height` and loses its lower quarter, the car's
bonnet; its camera follows. `sequences` has each frame once, `<city>/<sequence>/<frame>.jpg` with a `cam.txt`
for each sequence (see datasets/_cityscapes.py). `triples` is the published form for other code: three frames
on top of each other in a PNG, pixel by pixel as published.

What is there already is left alone, so a run that was stopped goes on when it is started again. To share the
work among machines, give each a `--shard 1/4` to `--shard 4/4`, or start it under torchrun.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets._cityscapes import (
    NAME,
    NATIVE,
    PARTS,
    UPPER,
    VIDEO,
    OfficialTree,
    check_rows,
    frame_name,
    upper_rows,
)
from datasets.resizing import resize_intrinsics
from tools._options import add_workers, new_parser, place
from utils import InputError, atomic_path, read_yaml, run_main, to_yaml
from workers import run_tasks, writing

ABOUT = "prepared.yaml"  # in the output: how it was made
JPEG_QUALITY = 95
PNG_LEVEL = 2  # of zlib: 2.5 times as fast as the usual 6, files a seventh larger, the same pixels


@dataclass(frozen=True)
class Plan:
    """How images are prepared. Sizes in pixels, before the lower rows are cut off.

    Args:
        layout: `sequences` or `triples`.
        width, height: of the whole frame.
        top_rows: share of the rows that is kept.
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
    """Frames of a sequence that follow each other with at most one missing."""

    root: Path
    part: str
    folder: str
    frames: tuple[int, ...]


def recordings(root: Path, parts: list[str], stride: int = 2) -> list[Recording]:
    """Every recording of some parts, sorted.

    Raises:
        InputError: a part is not there.
    """
    found = []
    for part in parts:
        place = root / VIDEO / part
        if not place.is_dir():
            raise InputError(
                f"there is no folder {place}; unpack leftImg8bit_sequence_trainvaltest.zip into {root}"
            )
        for city in sorted(path for path in place.iterdir() if path.is_dir()):
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
    """Write one recording, where it is not there yet; a worker's task.

    Returns:
        How many files were written.

    Raises:
        InputError: an image cannot be read, a camera is missing.
    """
    tree = OfficialTree(recording.root)
    make = _sequence if plan.layout == "sequences" else _triples
    return make(plan, recording, out, tree)


def _sequence(plan: Plan, recording: Recording, out: Path, tree: OfficialTree) -> int:
    city, _, number = recording.folder.rpartition("_")
    folder = out / city / number
    camera = folder / "cam.txt"
    if not camera.exists():
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
        if not target.exists():
            _save(target, small_image(tree, recording.folder, frame, plan))
            written += 1
    return written


def _triples(plan: Plan, recording: Recording, out: Path, tree: OfficialTree) -> int:
    there, written = set(recording.frames), 0
    small: dict[int, np.ndarray] = {}  # what the next triples share with the last
    for frame in recording.frames:
        members = (frame - plan.stride, frame, frame + plan.stride)
        target = out / recording.folder.rpartition("_")[0] / f"{frame_name(recording.folder, frame)}.png"
        if not there.issuperset(members) or target.exists():
            continue
        small = {n: image for n, image in small.items() if n >= members[0]}
        for n in members:
            if n not in small:
                small[n] = small_image(tree, recording.folder, n, plan)
        # The camera first: an image that is there is complete.
        with atomic_path(target.with_name(f"{target.stem}_cam.txt")) as path:
            path.write_text(published_camera(tree.camera(recording.folder, frame).intrinsics, plan))
        _save(target, np.concatenate([small[n] for n in members]))
        written += 1
    return written


def small_image(tree: OfficialTree, folder: str, frame: int, plan: Plan) -> np.ndarray:
    """(h, w, 3) uint8: made small by Lanczos as published, then cut."""
    path = tree.image_path(folder, frame)
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((plan.width, plan.height), Image.Resampling.LANCZOS)
    except FileNotFoundError:
        raise InputError(f"there is no image at {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read as an image ({error}); is it truncated?") from None
    return np.array(small)[: upper_rows(plan.height, plan.top_rows)]


def published_camera(K: np.ndarray, plan: Plan) -> str:
    """The one line of a published `_cam.txt`: row by row, the principal point scaled as the focals are."""
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

    Returns:
        Files written, and recordings looked at.

    Raises:
        InputError: see `prepare`; or `out` was prepared in another way.
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
    with writing(out), tqdm(total=frames, unit="frame", desc="preparing") as bar:
        for task, files in zip(tasks, done):
            written += files
            bar.update(len(task.frames))
    return written, len(tasks)


def _note_plan(plan: Plan, out: Path) -> None:
    """Keep the plan beside what it makes, and refuse to mix two."""
    path = out / ABOUT
    # Looked at first: a folder that another process makes meanwhile comes after the plan.
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
                f"{out} was prepared with {', '.join(changed)}; say the same, or give another --out"
            )
        return
    if occupied:
        raise InputError(f"{out} holds other folders already; give a new one with --out")
    with writing(out), atomic_path(path) as temporary:
        temporary.write_text(to_yaml(asdict(plan)))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--data_path",
        type=place,
        required=True,
        metavar="FOLDER",
        help="holds leftImg8bit_sequence and camera",
    )
    add("--out", type=place, required=True, metavar="FOLDER", help="where the prepared images go")
    add("--part", nargs="+", choices=PARTS, default=["train"], help="parts to prepare (default: train)")
    add("--layout", choices=("sequences", "triples"), default="sequences", help="default: sequences")
    add("--width", type=int, default=1024, help="of the whole frame, pixels (default: 1024)")
    add("--height", type=int, default=512, help="of the whole frame, before the cut, pixels (default: 512)")
    add("--top_rows", type=float, default=UPPER, help="share of the rows that is kept (default: 0.75)")
    add("--ext", choices=("jpg", "png"), help="default: jpg; triples are png")
    add("--stride", type=int, default=2, help="of triples, raw frames (default: 2)")
    add_workers(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    ext = given.ext or ("jpg" if given.layout == "sequences" else "png")
    plan = Plan(given.layout, given.width, given.height, given.top_rows, ext, given.stride)
    written, looked_at = prepare_all(plan, given.data_path, given.out, given.part, given.workers, given.shard)
    print(f"{looked_at} recordings are in {given.out}; {written} images were written now")


if __name__ == "__main__":
    run_main(main)
