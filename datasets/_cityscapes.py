"""Cityscapes on disk: the official tree, sequences prepared by us, and both published preparations.

    official   leftImg8bit_sequence/train/aachen/aachen_000000_000002_leftImg8bit.png, or in leftImg8bit
               camera/train/aachen/aachen_000000_000019_camera.json
    prepared   aachen/000000/000002.jpg, aachen/000000/cam.txt            tools/prepare_cityscapes.py
    triples    aachen/aachen_000000_000002.png, aachen/aachen_000000_000002_cam.txt

The upper three quarters of each frame are kept; the car's bonnet is below. A prepared sequence has each frame
once. Its `cam.txt` has a row `frame fx fy cx cy` for each official camera file; the nearest row is used.
A triple is three frames in one image, two raw frames apart: side by side as ManyDepth and SfMLearner write
them, one below the other as BDEdepth does. The shape of the image tells them apart.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from datasets.image_files import image_size, read_image
from datasets.resizing import resize_intrinsics
from datasets.splits import SplitLine
from utils import InputError

NATIVE = (1024, 2048)  # height and width that the camera files refer to, also for smaller images
PARTS = ("train", "val", "test")
VIDEO, SINGLE = "leftImg8bit_sequence", "leftImg8bit"
UPPER, LEAST_ROWS = 0.75, 0.55  # of the rows: the published share, and the least with the optical axis inside

NAME = re.compile(r"(([a-z]+)_(\d{6}))_(\d{6})")


class Camera(NamedTuple):
    """A camera file: intrinsics (3, 3) in pixels of `NATIVE`, and the stereo baseline in metres."""

    intrinsics: np.ndarray
    baseline: float


def read_camera(path: str | Path) -> Camera:
    """An official `_camera.json`.

    Raises:
        InputError: it does not parse, or a number is missing or not positive.
    """
    try:
        values = json.loads(Path(path).read_text())
        inner, outer = values["intrinsic"], values["extrinsic"]
        fx, fy, cx, cy, baseline = (
            float(value) for value in (*(inner[k] for k in ("fx", "fy", "u0", "v0")), outer["baseline"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as a Cityscapes camera ({type(error).__name__}: {error}); unpack "
            "camera_trainvaltest.zip again"
        ) from None
    if not (fx > 0 and fy > 0 and baseline > 0):
        raise InputError(f"{path}: fx, fy and baseline must be positive, got {fx}, {fy} and {baseline}")
    return Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), baseline)


def frame_name(folder: str, number: int) -> str:
    """`aachen_000000` and 2 to `aachen_000000_000002`."""
    return f"{folder}_{number:06d}"


def city_of(folder: str) -> str:
    """`aachen_000000` to `aachen`."""
    return folder.rpartition("_")[0]


def upper_rows(height: int, share: float) -> int:
    """Number of rows of an image that are kept."""
    return int(share * height)


class OfficialTree:
    """The official download: images at full size, with cameras, disparity and labels.

    Args:
        root: holds `leftImg8bit_sequence`, `leftImg8bit`, `camera`, ...
        top_rows: share of the rows that is kept.
    """

    frames: tuple[int, ...] | None = None  # all frames of the recording

    def __init__(self, root: Path, top_rows: float = UPPER) -> None:
        self.root, self.top_rows = root, top_rows
        self.kinds = [kind for kind in (VIDEO, SINGLE) if (root / kind).is_dir()]
        self._parts: dict[str, str] = {}
        self._cameras: dict[str, dict[str, list[tuple[int, str]]]] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._size: tuple[int, int] | None = None

    def file(self, kind: str, folder: str, number: int, ending: str) -> str:
        """`<root>/<kind>/<part>/<city>/<name>_<ending>`."""
        city = city_of(folder)
        return f"{self.root}/{kind}/{self._part(city)}/{city}/{frame_name(folder, number)}_{ending}"

    def image_path(self, folder: str, number: int, frame: int = 0) -> Path:
        """Path of a frame, in the folder of sequences or in the folder of single annotated images."""
        for kind in self.kinds:
            path = self.file(kind, folder, number, "leftImg8bit.png")
            if kind == self.kinds[-1] or os.path.basename(path) in self._listed(os.path.dirname(path)):
                return Path(path)
        raise AssertionError("a tree has at least one kind of images")

    def image(self, folder: str, number: int, frame: int = 0) -> Tensor:
        """(3, h, w) uint8, the upper rows."""
        path = self.image_path(folder, number)
        image = read_image(path)
        size = self._size or tuple(image.shape[1:])
        if tuple(image.shape[1:]) != size:
            raise InputError(f"{path} is {_by(image.shape[1:])}, other images here are {_by(size)}")
        self._size = size
        return image[:, : upper_rows(size[0], self.top_rows)]

    def size(self, folder: str, number: int) -> tuple[int, int]:
        """Height and width of the images before the bonnet is cut off."""
        if self._size is None:
            self._size = image_size(self.image_path(folder, number))
        return self._size

    def intrinsics(self, folder: str, number: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels; rows that are cut off at the bottom do not change them."""
        return resize_intrinsics(self.camera(folder, number).intrinsics, NATIVE, self.size(folder, number))

    def camera(self, folder: str, number: int) -> Camera:
        """The camera file of a frame, or of the nearest frame of its sequence that has one."""
        return _read_camera_once(self.camera_path(folder, number))

    def camera_path(self, folder: str, number: int) -> Path:
        city = city_of(folder)
        cameras = self.root / "camera" / self._part(city) / city
        if city not in self._cameras:
            self._cameras[city] = _group_by_sequence(cameras, "_camera.json")
        files = self._cameras[city].get(folder)
        if not files:
            raise InputError(
                f"there is no camera file {cameras}/{folder}_*_camera.json; unpack camera_trainvaltest.zip "
                f"into {self.root}"
            )
        return cameras / min(files, key=lambda file: (abs(file[0] - number), file[0]))[1]

    def cameras(self, folder: str) -> list[tuple[int, Camera]]:
        """Every camera file of a sequence, with the frame it belongs to."""
        self.camera_path(folder, 0)
        cameras = self.root / "camera" / self._part(city_of(folder)) / city_of(folder)
        return [
            (number, _read_camera_once(cameras / name))
            for number, name in self._cameras[city_of(folder)][folder]
        ]

    def check(self, samples: Iterable[SplitLine]) -> None:
        """Refuse a sequence without a camera file."""
        for sample in {sample.folder: sample for sample in samples}.values():
            self.camera_path(sample.folder, sample.frame)

    def annotated(self, part: str) -> list[SplitLine]:
        """Every frame of a part that has labels, sorted by name."""
        folder = self.root / "gtFine" / part
        files = sorted(folder.glob("*/*_gtFine_label*Ids.png"))
        names = sorted({path.name.partition("_gtFine_")[0] for path in files})
        found = [NAME.fullmatch(name) for name in names]
        return [SplitLine(match[1], int(match[4]), None, f"{folder}: {match[0]}") for match in found if match]

    def _part(self, city: str) -> str:
        """The part that holds the city: train, val or test."""
        if city not in self._parts:
            kinds = (*self.kinds, "camera")
            pairs = ((kind, part) for kind in kinds for part in PARTS)
            found = (part for kind, part in pairs if (self.root / kind / part / city).is_dir())
            self._parts[city] = next(found, "train")
        return self._parts[city]

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder) if os.path.isdir(folder) else ())
        return self._names[folder]


class PreparedTree:
    """The output of tools/prepare_cityscapes.py: each frame once, one camera file per sequence."""

    frames = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}
        self._cameras: dict[str, np.ndarray] = {}

    def image_path(self, folder: str, number: int, frame: int = 0) -> Path:
        directory = f"{self.root}/{self._sequence_folder(folder)}"
        if directory not in self._names:
            self._names[directory] = frozenset(os.listdir(directory) if os.path.isdir(directory) else ())
        ending = "png" if f"{number:06d}.png" in self._names[directory] else "jpg"
        return Path(f"{directory}/{number:06d}.{ending}")

    def image(self, folder: str, number: int, frame: int = 0) -> Tensor:
        return read_image(self.image_path(folder, number))

    def intrinsics(self, folder: str, number: int, height: int, width: int) -> np.ndarray:
        path = self._camera_path(folder)
        if folder not in self._cameras:
            self._cameras[folder] = _rows(path, 5)
        rows = self._cameras[folder]
        _, fx, fy, cx, cy = rows[np.abs(rows[:, 0] - number).argmin()]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        check_fit(K, height, width, path)
        return K

    def check(self, samples: Iterable[SplitLine]) -> None:
        for folder in {sample.folder for sample in samples}:
            if not (path := self._camera_path(folder)).is_file():
                raise InputError(f"there is no {path}; run tools/prepare_cityscapes.py again, it fills gaps")

    def _sequence_folder(self, folder: str) -> str:
        city, _, sequence = folder.rpartition("_")
        return f"{city}/{sequence}"

    def _camera_path(self, folder: str) -> Path:
        return self.root / self._sequence_folder(folder) / "cam.txt"


class TripleTree:
    """Both published preparations: frames -1, 0 and 1 in one image, with a camera file."""

    frames = (-1, 0, 1)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}
        self._last: tuple[Path, list[Tensor]] | None = None  # a sample's three frames ask one after the other

    def image_path(self, folder: str, number: int, frame: int = 0) -> Path:
        """The triple that holds the frame; `number` is the target's."""
        directory = f"{self.root}/{city_of(folder)}"
        ending = "jpg" if f"{frame_name(folder, number)}.jpg" in self._listed(directory) else "png"
        return Path(f"{directory}/{frame_name(folder, number)}.{ending}")

    def image(self, folder: str, number: int, frame: int = 0) -> Tensor:
        path = self.image_path(folder, number)
        if self._last is None or self._last[0] != path:
            self._last = path, split_triple(read_image(path), path)
        return self._last[1][frame + 1]

    def intrinsics(self, folder: str, number: int, height: int, width: int) -> np.ndarray:
        """Intrinsics from the file, whose principal point was scaled as if (0, 0) were a pixel's corner."""
        path = self._camera_path(folder, number)
        K = _rows(path, 9)[0].reshape(3, 3)
        check_fit(K, height, width, path)
        K[0, 2] += (width / NATIVE[1] - 1) / 2
        K[1, 2] += (height / UPPER / NATIVE[0] - 1) / 2
        return K

    def check(self, samples: Iterable[SplitLine]) -> None:
        for sample in samples:
            path = self._camera_path(sample.folder, sample.frame)
            if path.name not in self._listed(str(path.parent)):
                raise InputError(f"there is no camera file {path}, which belongs to the triple")

    def _camera_path(self, folder: str, number: int) -> Path:
        return self.root / city_of(folder) / f"{frame_name(folder, number)}_cam.txt"

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(os.listdir(folder) if os.path.isdir(folder) else ())
        return self._names[folder]


Tree = OfficialTree | PreparedTree | TripleTree


def open_tree(root: Path, top_rows: float = UPPER) -> Tree:
    """The layout of a folder, one of four.

    Raises:
        InputError: none of them.
    """
    if any((root / kind).is_dir() for kind in (VIDEO, SINGLE)):
        return OfficialTree(root, top_rows)
    cities = sorted(path for path in root.iterdir() if path.is_dir())
    for city in cities:
        names = os.listdir(city)
        if any(re.fullmatch(r"\d{6}", name) for name in names):
            return PreparedTree(root)
        if any(NAME.fullmatch(os.path.splitext(name)[0]) for name in names):
            return TripleTree(root)
    raise InputError(
        f"{root} is not a Cityscapes folder: expected {VIDEO} or {SINGLE} in it, or a city's sequences as "
        "tools/prepare_cityscapes.py writes them"
    )


def split_triple(image: Tensor, path: Path) -> list[Tensor]:
    """Split an image of three frames into frames -1, 0 and 1.

    A frame is 1.6 to 5 times as wide as high, so three side by side are longer than 4.8 and three on top of
    each other shorter than 1.7.

    Raises:
        InputError: its shape is neither, or it does not divide by three.
    """
    height, width = image.shape[1:]
    shape = width / height
    if 1.6 / 3 <= shape <= 5 / 3:
        axis = 1
    elif 1.6 * 3 <= shape <= 5 * 3:
        axis = 2
    else:
        raise InputError(
            f"{path} is {_by((height, width))}, which is not three frames in a row or a column; "
            "was it cut, or prepared for another number of frames?"
        )
    if image.shape[axis] % 3:
        side = "rows" if axis == 1 else "columns"
        raise InputError(
            f"{path} is {_by((height, width))}: its {side} do not divide into three frames; was it cut?"
        )
    return list(image.chunk(3, axis))


def check_rows(top_rows: float, name: str = "top_rows") -> None:
    """Refuse a share of the rows from the top that leaves no image, or an image without its middle.

    Raises:
        InputError: it is not between LEAST_ROWS and 1.
    """
    if not LEAST_ROWS <= top_rows <= 1:
        raise InputError(
            f"{name} is a share of the rows from {LEAST_ROWS} to 1, got {top_rows:g}; with less the optical "
            "axis would lie below the image"
        )


def check_fit(K: np.ndarray, height: int, width: int, path: Path) -> None:
    """Refuse intrinsics that do not belong to images of a size.

    Raises:
        InputError: the principal point is far from the middle, or the view is impossibly wide or narrow.
    """
    fits = 0.3 < K[0, 2] / width < 0.7 and 0.3 < K[1, 2] / height < 0.95 and 0.3 < K[0, 0] / width < 4
    if not fits:
        raise InputError(
            f"{path} (fx {K[0, 0]:g}, cx {K[0, 2]:g}, cy {K[1, 2]:g}) does not belong to images of "
            f"{_by((height, width))}; was one of the two resized later?"
        )


@functools.lru_cache(maxsize=4096)
def _read_camera_once(path: Path) -> Camera:
    camera = read_camera(path)
    check_fit(camera.intrinsics, *NATIVE, path)
    return camera


def _group_by_sequence(folder: Path, ending: str) -> dict[str, list[tuple[int, str]]]:
    """Sequence → the (frame number, file name) of each of its files."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if name.endswith(ending) and (match := NAME.fullmatch(name.removesuffix(ending))):
            groups.setdefault(match[1], []).append((int(match[4]), name))
    return groups


def _rows(path: Path, columns: int) -> np.ndarray:
    """(R, columns) numbers of a small text file, separated by blanks or commas."""
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
        rows = [[float(word) for word in line] for line in lines if line]
    except FileNotFoundError:
        raise InputError(f"there is no camera file {path}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected {columns} numbers a row ({error})") from None
    if not rows or any(len(row) != columns for row in rows) or not np.isfinite(np.concatenate(rows)).all():
        raise InputError(f"{path}: expected {columns} finite numbers a row, got {rows}")
    return np.array(rows)


def _by(size: Iterable[int]) -> str:
    height, width = size
    return f"{width} x {height}"
