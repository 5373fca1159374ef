"""NYU Depth V2: rooms seen by a hand-held Kinect (Silberman et al. 2012).

    <root>/kitchen_0003/r-1294886360.208451-2996770081.ppm   video to train from, a folder for each scene; the
                                                             raw recordings, or images of any other name
    <root>/nyu_depth_v2_labeled.mat                          1449 images with depth, 654 of them for testing
    <root>/nyu_test/00001.h5                                 or these, converted one by one: `rgb`, `depth`

Training images are undistorted, and a border is removed in which undistortion leaves no image: 16 pixels at
640 x 480. Test images are already undistorted; the window of 427 rows and 561 columns that the Kinect's depth
covers is evaluated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from datasets import DATASETS
from datasets._nyuv2_files import SIZE, LabelledFile, read_converted
from datasets.ground_truth import Exportable, check_ground_truth
from datasets.image_files import read_image
from datasets.resizing import resize_intrinsics
from datasets.sequence import SequenceDataset, check_offsets, check_stride
from datasets.splits import SplitLine, load_split, split_names
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError, read_lines

# The Kinect's colour camera at 640 x 480, as the makers of the dataset calibrated it.
K = np.array(
    [[518.85790117450188, 0, 325.58244941119034], [0, 519.46961112127485, 253.73616633400465], [0, 0, 1]]
)
DISTORTION = np.array(  # k1, k2, p1, p2, k3 in OpenCV's order
    [0.20796615318809061, -0.58613825163911781, 0.00072231363135888329, 0.0010479627195765181,
     0.49856986684705107]
)  # fmt: skip
BORDER = 16  # pixels removed on each side of an undistorted image of 640 x 480
TOP, BOTTOM, LEFT, RIGHT = 44, 471, 40, 601  # rows and columns of a test image that are evaluated

OFFICIAL = "official"
MAT = "nyu_depth_v2_labeled.mat"
IMAGES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp"}
COLOUR_NAMES = ("r-", "rgb_")  # where a folder holds depth images, too, those in colour begin like this
COLUMNS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)  # of the nine images in a line of a published list, in time
PUBLISHED_ORDER = (0, -4, -3, -2, -1, 1, 2, 3, 4)  # and their order in the line


@dataclass(frozen=True)
class VideoSample:
    """A sample of video: number `frame` of the images of a scene, paths below the root."""

    scene: Sequence[str] = field(repr=False)
    frame: int
    source: str

    @property
    def name(self) -> str:
        return self.scene[self.frame]


@dataclass(frozen=True)
class LabelledSample:
    """An image with depth: `number` in the .mat, counted from 1, or the converted file `path`."""

    number: int
    path: str
    source: str

    @property
    def name(self) -> str:
        return self.path.removesuffix(".h5")


Sample = VideoSample | LabelledSample


@DATASETS.register
class NyuV2(Exportable, SequenceDataset):
    """NYU Depth V2, trained from video and evaluated on the 654 official test images.

    Args:
        data_path: the folder that holds the scenes, and the .mat or the folder `nyu_test`.
        split: `official`, or a folder with lists of your own. Official test are the 654 images; train and
            val have no list: they are the scene folders, the last tenth of them val, less those that test
            images were taken in, which the .mat tells where it is there. A list's lines are nine paths (the
            target, four images before it and four after it: 0 -4 -3 -2 -1 1 2 3 4, as published) or one
            test image (`nyu_test/00001.h5`).
        part: train, val or test.
        frame_ids: 0 and the sources: offsets in steps of `stride`; only 0 for test images.
        undistort: remove the lens distortion of training images. Off for images without distortion.
        stride: images from a target to its next source. The Kinect took 20 to 30 per second, so
            neighbours hardly differ; published lists were made with 10.
        ground_truth: `kinect`, of test images, or None for no depth.
    """

    pixel_settings: ClassVar[tuple[str, ...]] = ("undistort",)
    default_height: ClassVar[int] = 288
    default_width: ClassVar[int] = 384
    protocol: ClassVar[Protocol] = Protocol(
        "NYUv2",
        "Kinect depth of the labelled set, holes filled in",
        min_depth=1e-6,
        max_depth=10.0,
        resize="nearest",
        median="lower",
    )

    def __init__(
        self,
        data_path: str | Path,
        split: str = OFFICIAL,
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        undistort: bool = True,
        stride: int = 1,
        ground_truth: str | None = "kinect",
        **settings: Any,
    ) -> None:
        check_offsets(frame_ids, "NYUv2")
        check_stride(stride)
        self.undistort, self.stride = undistort, stride
        self.ground_truth = check_ground_truth(ground_truth, ["kinect"])
        self._maps: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
        self._labelled = LabelledFile(Path(data_path) / MAT)
        offsets = [frame * stride for frame in frame_ids]
        if str(split) == OFFICIAL and part in ("train", "val"):
            self.samples = self._video_samples(Path(data_path), part, offsets)
        else:
            self.samples = _read_list(str(split), part, offsets)
        single = isinstance(self.samples[0], LabelledSample)
        if single and set(frame_ids) != {0}:
            raise InputError(f"{self.samples[0].source}: test images are single; --frame_ids must be 0")
        super().__init__(data_path, frame_ids=frame_ids, **settings)
        self.find_exported(split, part, at_first=False)
        if single:
            self._read(self.samples[0])  # a wrong file shows now and not in a worker

    def paths(self, sample: Sample, frame: Frame) -> list[Path]:
        if isinstance(sample, VideoSample):
            return [self.data_path / sample.scene[sample.frame + frame * self.stride]]
        return [self._file(sample)]

    def image_keys(self, sample: Sample, frame: Frame) -> list[str]:
        if isinstance(sample, LabelledSample):  # all of them are in one .mat
            return [sample.path.removesuffix(".h5")]
        return super().image_keys(sample, frame)

    def read_images(self, sample: Sample, frame: Frame) -> list[Tensor]:
        """(3, h, w) uint8: undistorted without its border, or the evaluated window of a test image."""
        if isinstance(sample, LabelledSample):
            return [torch.from_numpy(self._read(sample)[0][:, TOP:BOTTOM, LEFT:RIGHT].copy())]
        image = read_image(self.paths(sample, frame)[0])
        height, width = image.shape[1:]
        dy, dx = border(height, width)
        if not self.undistort:
            return [image[:, dy : height - dy, dx : width - dx]]
        if (height, width) not in self._maps:
            self._maps[height, width] = undistortion_maps(height, width)
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        straight = cv2.remap(pixels, *self._maps[height, width], cv2.INTER_LINEAR)
        return [torch.from_numpy(straight).permute(2, 0, 1)]

    def intrinsics(self, sample: Sample, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the only calibrated camera, for the result of `images`, scaled for smaller copies."""
        if isinstance(sample, LabelledSample):
            return _shifted(K, LEFT, TOP)
        whole = _whole_size(height, width)
        dy, dx = border(*whole)
        return _shifted(resize_intrinsics(K, SIZE, whole), dx, dy)

    def read_raw_depth(self, index: int) -> np.ndarray | None:
        """(1, 427, 561) metres of a test image; None for video."""
        sample = self.samples[index]
        if isinstance(sample, VideoSample):
            return None
        return self._read(sample)[1][None, TOP:BOTTOM, LEFT:RIGHT].astype(np.float32)

    def raw_content(self, index: int) -> str:
        sample = self.samples[index]
        if isinstance(sample, VideoSample):
            return ""
        path = self._file(sample)
        return content([path], sample.number) if path.is_file() else ""

    def name(self, index: int) -> str:
        return self.samples[index].name

    # Test images.

    def _file(self, sample: LabelledSample) -> Path:
        """Path of the converted file if it exists, else of the .mat."""
        path = self.data_path / sample.path
        return path if path.is_file() or not self._labelled.path.is_file() else self._labelled.path

    def _read(self, sample: LabelledSample) -> tuple[np.ndarray, np.ndarray]:
        """(3, 480, 640) uint8 and (480, 640) metres."""
        path = self._file(sample)
        return self._labelled.image(sample.number) if path == self._labelled.path else read_converted(path)

    # Scene folders.

    def _video_samples(self, root: Path, part: str, offsets: list[int]) -> list[VideoSample]:
        scenes = find_scenes(root)
        if not scenes:
            raise InputError(
                f"there are no folders of images under {root}; put the raw scenes there, or give the "
                "folder of a published list (train_files.txt) with --split"
            )
        if self._labelled.path.is_file():
            tested = self._labelled.scenes([sample.number for sample in official_test()])
            rooms = {_room(name) for name in tested}
            scenes = {name: frames for name, frames in scenes.items() if _room(name) not in rooms}
            if not scenes:
                raise InputError(f"every scene under {root} is one that test images were taken in")
        clips = [
            VideoSample(frames, frame, name)
            for name, frames in _held_back(scenes, part).items()
            for frame in range(len(frames))
            if all(0 <= frame + offset < len(frames) for offset in offsets)
        ]
        if not clips:
            longest = max(map(len, scenes.values()))
            raise InputError(
                f"{root}, part '{part}': no image has its neighbours at {offsets}; the longest scene holds "
                f"{longest} images"
            )
        return clips


# ----------------------------------------------------------------------------- geometry


def border(height: int, width: int) -> tuple[int, int]:
    """Rows and columns removed on each side of an undistorted image: 16 at 640 x 480."""
    return round(BORDER * height / SIZE[0]), round(BORDER * width / SIZE[1])


def undistortion_maps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps with which `cv2.remap` undistorts an image of this size and removes its border."""
    camera = resize_intrinsics(K, SIZE, (height, width))
    dy, dx = border(height, width)
    maps = cv2.initUndistortRectifyMap(camera, DISTORTION, None, camera, (width, height), cv2.CV_16SC2)
    return tuple(np.ascontiguousarray(part[dy : height - dy, dx : width - dx]) for part in maps)


def _whole_size(height: int, width: int) -> tuple[int, int]:
    """The size of an image that is (height, width) without its border."""
    whole = []
    for side, full in zip((height, width), SIZE):
        near = round(side * BORDER / (full - 2 * BORDER))  # of several sizes that rounding allows, the first
        tried = (side + 2 * more for more in (near, near + 1, near - 1))
        whole.append(next(size for size in tried if size - 2 * round(BORDER * size / full) == side))
    return whole[0], whole[1]


def _shifted(camera: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Intrinsics of an image that lost `dx` columns on the left and `dy` rows at the top."""
    return camera - np.array([[0, 0, dx], [0, 0, dy], [0, 0, 0]])


# ----------------------------------------------------------------------------- lists and folders


def official_test() -> list[LabelledSample]:
    """The 654 official test images."""
    return [_labelled_sample(sample) for sample in load_split("nyuv2", OFFICIAL, "test")]


def _labelled_sample(sample: SplitLine) -> LabelledSample:
    """The sample of a list entry: `nyu_test 1` in our lists, `nyu_test/00001.h5` in published ones."""
    path = sample.folder if sample.folder.endswith(".h5") else f"{sample.folder}/{sample.frame:05d}.h5"
    stem = Path(path).stem
    if not stem.isdecimal():
        raise InputError(
            f"{sample.source}: expected a numbered image such as nyu_test/00001.h5, got '{path}'"
        )
    return LabelledSample(int(stem), path, sample.source)


def _read_list(split: str, part: str, offsets: list[int]) -> list[Sample]:
    """A list of clips, nine paths a line, or of test images."""
    path = Path(split) / f"{part}_files.txt"
    listed = split not in split_names("nyuv2") and path.is_file()
    rows = [line.split() for line in read_lines(path)] if listed else []
    if not rows or len(rows[0]) == 1:
        return [_labelled_sample(line) for line in load_split("nyuv2", split, part)]
    beyond = [offset for offset in offsets if offset not in COLUMNS]
    if beyond:
        raise InputError(
            f"{path} lists the four images before and after a target; there is none at {beyond[0]}: "
            "--dataset.stride 1 takes its nearest, or choose other --frame_ids"
        )
    clips = []
    for number, row in enumerate(rows, 1):
        source = f"{path}, line {number}"
        if len(row) != len(COLUMNS):
            raise InputError(
                f"{source}: expected nine paths (offsets {' '.join(map(str, PUBLISHED_ORDER))}), "
                f"got {len(row)}"
            )
        by_offset = dict(zip(PUBLISHED_ORDER, row))
        clips.append(VideoSample([by_offset[offset] for offset in COLUMNS], COLUMNS.index(0), source))
    return clips


def find_scenes(root: Path) -> dict[str, list[str]]:
    """Name → images in time, paths below the root, of every folder that holds three images or more."""
    scenes, seen = {}, set()  # real paths, since a link may lead back to a folder above it
    for folder, inner, names in os.walk(root, followlinks=True):
        if (there := os.path.realpath(folder)) in seen:
            inner.clear()
            continue
        seen.add(there)
        inner[:] = sorted(name for name in inner if name[0] != "." and name != "nyu_test")
        names = [name for name in names if Path(name).suffix.lower() in IMAGES]
        coloured = [name for name in names if name.startswith(COLOUR_NAMES)]
        frames = sorted(coloured or names, key=_natural_key)
        scene = Path(folder).relative_to(root)
        if len(frames) > 2 and scene != Path("."):
            scenes[scene.as_posix()] = [(scene / name).as_posix() for name in frames]
    return dict(sorted(scenes.items()))


def _natural_key(name: str) -> list[str | int]:
    """Sorting key that puts frame9 before frame10."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)]


def _room(scene: str) -> str:
    """Name of a room, `kitchen_0028` for `kitchens/kitchen_0028b`: letters tell apart its recordings."""
    return re.sub(r"(?<=\d)[a-z]$", "", Path(scene).name)


def _held_back(scenes: dict[str, list[str]], part: str) -> dict[str, list[str]]:
    """The last tenth of the scenes is val; of a single scene, the last tenth of its images."""
    if len(scenes) == 1:
        ((name, frames),) = scenes.items()
        cut = len(frames) - max(3, len(frames) // 10)
        return {name: frames[:cut] if part == "train" else frames[cut:]}
    cut = len(scenes) - max(1, len(scenes) // 10)
    names = list(scenes)[:cut] if part == "train" else list(scenes)[cut:]
    return {name: scenes[name] for name in names}
