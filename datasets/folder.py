"""Your own images: a folder of frames, a video or animated image, or scenes of either. No code needed.

    walk/0001.jpg, 0002.jpg, ...  walk/cam.txt       one scene
    walk.mp4, walk.gif            cam.txt            one scene; extracted once, to walk.mp4.frames
    root/<scene>/...              root/cam.txt       several scenes, each of either kind (the SC-Depth layout)

`cam.txt` (or `intrinsics.txt`) holds the camera's intrinsics in pixels of the images as they are on disk,
turned upright: `fx fy cx cy`, 3x3 or 3x4, separated by blanks, commas or new lines. The file is looked for in
the scene first, then upwards to the root, so that scenes may have different cameras. The setting `intrinsics`
gives the same numbers without a file.

Frames are in natural order (frame9 before frame10). A sample does not reach across a missing number or from
one prefix to another (datasets/image_files.py). Files that test_simple.py and test_video.py wrote next to the
images are left out. If a folder also holds other images, or names do not follow time, `frames.txt` in it
lists the frames in their order, one name or pattern per line; a list has no gaps.

A lens with distortion has `camera.yaml` in place of `cam.txt`, in the same folders (cameras/_files.py). Files
of COLMAP, nerfstudio, Kalibr and ROS are read as well (cameras/_calibration_files.py). With the setting
`speed`, `speed.csv` in a scene gives the speed of the camera (datasets/_speed.py).

If a scene has a folder `depth`, its files are ground truth (datasets/_depth_files.py). Images in a
folder called `images` may have it next to that folder: root/images and root/depth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cameras import Camera
from datasets import DATASETS
from datasets._depth_files import check_proportions, find_depths, read_depth
from datasets._folder_cameras import GIVEN, find_camera
from datasets._guessed_camera import guess_camera
from datasets._pseudo_depth import find_pseudo_depth, read_convention, read_pseudo_depth
from datasets._speed import SceneSpeed
from datasets.ground_truth import DEPTH, Exportable
from datasets.image_files import frame_runs, natural_key
from datasets.scenes import (
    PARTS,
    all_frames,
    common_size,
    find_scenes,
    frame_names,
    gaps_in_words,
    held_back,
    indexed_frames,
    listed_frames,
    listed_part,
    other_formats,
)
from datasets.sequence import SequenceDataset, check_offsets, check_stride
from intrinsics import GUESS, LEARN, Focal, as_text, parse_intrinsics
from metrics import Protocol
from notices import notice
from provenance import content
from structures import Batch, Frame
from utils import InputError


class Target(NamedTuple):
    """A sample: index `frame` of the frames of scene number `scene`."""

    scene: int
    frame: int


@dataclass
class Scene:
    """Images of one camera in time.

    Attributes:
        name: its path below the root; "." is the root itself.
        folder: the folder of the images.
        frames: file names in time.
        every: the same, with the frames that `frame_index.txt` leaves out.
        runs: ranges of `frames` without a gap.
        listed: the frames are listed by name, so that a list has no gaps.
        size: (height, width) of every image.
        intrinsics: (3, 3) pixels at that size.
        depths: frame's file name → its depth file.
        camera: camera model of a lens; None for a pinhole.
        source: where the intrinsics are from, see `_folder_cameras.Found`.
        motion: focal length from the motion, if the training learns the intrinsics from this start.
        speed: speeds of speed.csv; None if it is not read.
    """

    name: str
    folder: Path
    frames: list[str]
    every: list[str]
    runs: list[range]
    listed: bool
    size: tuple[int, int]
    intrinsics: np.ndarray
    depths: dict[str, Path]
    camera: Camera | None = None
    source: str = "file"
    motion: Focal | None = None
    speed: SceneSpeed | None = None


@DATASETS.register
class Folder(Exportable, SequenceDataset):
    """Images of your own.

    The parts train and val come from `train.txt` and `val.txt` (scene names, one per line) if the root has
    them. Otherwise val has the last scenes or, of a single scene, its last frames; no image is in both parts,
    not even as a source.

    Args:
        data_path: a folder of images, a video file, or a folder of scenes.
        split: folder with lists of your own, `train.txt`, `val.txt`, `test.txt`; the root if not given.
        part: train, val, test (val if there is no `test.txt`) or all.
        frame_ids: 0 and the sources: offsets in steps of `stride`.
        intrinsics: "fx fy cx cy" (or 3x3 numbers) in pixels of the images as they are on disk, for all
            scenes. It takes precedence over files. With `guess`, a scene without a file gets those of its
            EXIF data, else of its motion, else of a camera that sees 60 degrees along the longer side. With
            `learn`, focal length and principal point of each scene are learned from there.
        val_fraction: share of scenes or frames that is held back for val. With 0 every part is all of them,
            and validation only measures how well the training images are explained.
        stride: frames from a target to its next source. Take more if the camera moves little.
        files: frames in their order, as names or patterns: "left.png 0*.png"; `frames.txt` for all scenes.
        depth_scale: value of a .png ground truth that is one metre: 256 as in KITTI and our synthetic world,
            1000 for millimetres (ScanNet), 5000 for TUM and SC-Depth's NYUv2.
        depth_cap: largest depth that is evaluated, metres.
        pseudo_depth: read the target's pseudo-depth (datasets/_pseudo_depth.py), as the map `pseudo_depth`.
        frame_index: train on the frames that `frame_index.txt` lists in each scene (tools/select_frames.py);
            `stride` then counts these frames.
        speed: read speed.csv (seconds, metres per second) in each scene: true with the time of each frame in
            times.txt, or the number of frames per second.

    Raises:
        InputError: no images, no intrinsics, images of several sizes, no sample with all its frames.
    """

    ground_truth = "depth"
    describes_folder: ClassVar[tuple[str, ...]] = (
        *SequenceDataset.describes_folder,
        "intrinsics",
        "files",
        "depth_scale",
        "depth_cap",
        "stride",
        "val_fraction",
    )
    for_losses: ClassVar[tuple[str, ...]] = (
        *SequenceDataset.for_losses,
        "pseudo_depth",
        "frame_index",
        "speed",
    )
    provides: ClassVar[Mapping[str, str]] = {
        **DEPTH,
        "maps.pseudo_depth": "--dataset.pseudo_depth true reads what tools/pseudo_depth.py writes",
        **dict.fromkeys(("speed", "time_step"), "--dataset.speed true reads speed.csv in each scene"),
    }

    def __init__(
        self,
        data_path: str | Path,
        split: str | Path | None = None,
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        intrinsics: str | float | Sequence[float] | None = None,
        val_fraction: float = 0.1,
        stride: int = 1,
        files: str | Sequence[str] | None = None,
        depth_scale: float = 256.0,
        depth_cap: float = 80.0,
        pseudo_depth: bool = False,
        frame_index: bool = False,
        speed: bool | float = False,
        **settings: Any,
    ) -> None:
        if part not in PARTS:
            raise InputError(f"a folder has the parts {', '.join(PARTS)}, got '{part}'")
        check_offsets(frame_ids, "a folder")
        check_stride(stride)
        _check_numbers(val_fraction, depth_scale)
        self.stride, self.depth_scale = stride, depth_scale
        self.protocol = Protocol("own images", "files next to the images", max_depth=depth_cap)
        root, folders = find_scenes(Path(data_path))
        # Lists next to a video are those of its whole folder.
        lists = split or (None if Path(data_path).is_file() else root)
        listed = listed_part(Path(lists), part, list(folders), split is not None) if lists else None
        K = _given(intrinsics)
        self.learns_intrinsics = isinstance(K, str) and K == LEARN
        self.camera_numbers = {name: number for number, name in enumerate(folders)}
        patterns = _patterns(files)
        self.scenes = [
            _open_scene(name, folders[name], root, K, patterns, frame_index) for name in listed or folders
        ]
        self.pseudo_depth = {
            number: find_pseudo_depth(scene.folder, scene.every, natural_key)
            for number, scene in enumerate(self.scenes if pseudo_depth else [])
        }
        if self.learns_intrinsics and part == "train":
            _check_learned(self.scenes, data_path)
        for scene in self.scenes if speed else ():
            fps = None if speed is True else float(speed)
            scene.speed = SceneSpeed(scene.folder, len(scene.every), fps)
        offsets = [frame * stride for frame in frame_ids]
        spans = [range(len(scene.frames)) for scene in self.scenes]
        if listed is None and part != "all":
            reach = max(2 * stride, max(offsets) - min(offsets))
            spans = held_back(spans, part, val_fraction, reach)
        self.samples = _complete(self.scenes, spans, offsets)
        if not self.samples:
            raise InputError(
                f"{data_path}, part '{part}': no frame has all of its neighbours {list(frame_ids)} at stride "
                f"{stride}; the scenes hold {', '.join(str(len(span)) for span in spans[:8])} frames"
            )
        _name_short_scenes(self.scenes, max(offsets) - min(offsets) + 1)
        _name_left_out(self.scenes)
        super().__init__(root, frame_ids=frame_ids, **settings)
        scale = [] if depth_scale == 256 else [f"{depth_scale:g}"]
        self.find_exported(split, part, scale, at_first=False)

    def paths(self, sample: Target, frame: Frame) -> list[Path]:
        scene = self.scenes[sample.scene]
        return [scene.folder / scene.frames[sample.frame + frame * self.stride]]

    def intrinsics(self, sample: Target, camera: int, height: int, width: int) -> np.ndarray:
        return self.scenes[sample.scene].intrinsics

    def __getitem__(self, index: int) -> Batch:
        batch = super().__getitem__(index)
        if self.learns_intrinsics:
            scene = self.scenes[self.samples[index].scene]
            batch.extra["camera_id"] = torch.tensor([self.camera_numbers[scene.name]])
        return batch

    def camera_record(self) -> dict[str, dict[str, Any]]:
        """Scene → facts about a camera that was guessed or is learned, for the checkpoint's options.

        `number`, `size` (height, width), `intrinsics` "fx fy cx cy" at that size, `start` the same before
        training, `source` (`_folder_cameras.Found`), `learned`, and for a learned camera `motion`, the share
        and error of `matching.focal.Focal`.
        """
        found = [scene for scene in self.scenes if scene.motion or scene.source not in GIVEN]
        return {
            scene.name: {
                "number": self.camera_numbers[scene.name],
                "size": list(scene.size),
                "intrinsics": as_text(scene.intrinsics),
                "start": as_text(scene.intrinsics),
                "source": scene.source,
                "learned": scene.motion is not None,
                **({"motion": list(scene.motion)} if scene.motion else {}),
            }
            for scene in found
        }

    def maps(self, sample: Target) -> dict[str, Tensor]:
        """`pseudo_depth` (1, 1, height, width) of any scale, 0 where unknown, if it is read."""
        if not self.pseudo_depth:
            return {}
        path = self.pseudo_depth[sample.scene][self.scenes[sample.scene].frames[sample.frame]]
        quantity = read_convention(path.parent)
        return {"pseudo_depth": read_pseudo_depth(path, quantity, self.height, self.width)}

    def lens(self, sample: Target, height: int, width: int) -> Camera | None:
        """Camera model of a camera file in the scene or above it; None for a pinhole."""
        return self.scenes[sample.scene].camera

    def motion(self, sample: Target, frame: Frame) -> tuple[float, float] | None:
        """Mean speed and time step from speed.csv, with the setting `speed`."""
        scene = self.scenes[sample.scene]
        if scene.speed is None:
            return None
        names = scene.frames[sample.frame], scene.frames[sample.frame + frame * self.stride]
        return scene.speed.motion(*map(scene.every.index, names))

    def read_raw_depth(self, index: int) -> np.ndarray | None:
        """Depth from the file in `depth`; None for an image without a file."""
        path = self._depth_path(index)
        if path is None:
            return None
        depth = read_depth(path, self.depth_scale)
        check_proportions(path, depth, self.paths(self.samples[index], 0)[0])
        return depth[None]

    def raw_content(self, index: int) -> str:
        path = self._depth_path(index)
        return content([path], self.depth_scale) if path is not None and path.is_file() else ""

    def _depth_path(self, index: int) -> Path | None:
        sample = self.samples[index]
        scene = self.scenes[sample.scene]
        return scene.depths.get(scene.frames[sample.frame])

    def name(self, index: int) -> str:
        sample = self.samples[index]
        scene = self.scenes[sample.scene]
        return (Path(scene.name) / scene.frames[sample.frame]).as_posix()


def _complete(scenes: list[Scene], spans: list[range], offsets: list[int]) -> list[Target]:
    """The frames of each span whose frames at `offsets` lie in the span and in one run."""
    samples = []
    for number, (scene, span) in enumerate(zip(scenes, spans)):
        for run in scene.runs:
            within = range(max(run.start, span.start), min(run.stop, span.stop))
            samples += [
                Target(number, frame)
                for frame in within
                if all(frame + offset in within for offset in offsets)
            ]
    return samples


def _name_short_scenes(scenes: list[Scene], least: int) -> None:
    """Warn about scenes with fewer frames than a sample has; they give none."""
    short = [scene for scene in scenes if len(scene.frames) < least]
    if short:
        others = f" and {len(short) - 1} more scenes have" if len(short) > 1 else " has"
        notice(
            f"{short[0].folder}{others} no sample: a target and its neighbours take {least} frames, and "
            f"{short[0].name} holds {len(short[0].frames)}"
        )


def _check_numbers(val_fraction: float, depth_scale: float) -> None:
    if not 0 <= val_fraction < 1:
        raise InputError(f"--dataset.val_fraction is in [0, 1), got {val_fraction}")
    if not 0 < depth_scale < math.inf:
        raise InputError(f"--dataset.depth_scale must be positive, got {depth_scale}")


def _check_learned(scenes: list[Scene], data_path: str | Path) -> None:
    """Refuse to learn intrinsics if the motion of no scene determines them."""
    if not any(scene.motion for scene in scenes):
        raise InputError(
            f"--dataset.intrinsics {LEARN}: no motion in {data_path} determines the focal length, as "
            f'when a camera moves without turning; give --dataset.intrinsics "fx fy cx cy" or {GUESS}'
        )


def _given(intrinsics: str | float | Sequence[float] | None) -> np.ndarray | str | None:
    """The setting `intrinsics`: (3, 3) pixels, `GUESS`, `LEARN`, or None for those of files."""
    if intrinsics is None or (isinstance(intrinsics, str) and intrinsics in (GUESS, LEARN)):
        return intrinsics
    return parse_intrinsics(intrinsics, "--dataset.intrinsics")


def _patterns(files: str | Sequence[str] | None) -> list[str] | None:
    """The setting `files` as a list of patterns; a number in YAML is a name as well."""
    given = files.replace(",", " ").split() if isinstance(files, str) else files
    return given and [str(pattern) for pattern in given]


def _name_left_out(scenes: list[Scene]) -> None:
    """Name the scenes with images that are not read, and those with gaps that no sample reaches across."""
    several = [scene for scene in scenes if not scene.listed and other_formats(scene.folder)]
    if several:
        count, others = other_formats(several[0].folder), _and_more(several)
        notice(
            f"{count} images in {several[0].folder}{others} are left out, since the same frame is there in "
            'another format; --dataset.files "*.png" selects one'
        )
    if gaps := [scene for scene in scenes if len(scene.runs) > 1]:
        words = gaps_in_words(gaps[0].frames, gaps[0].runs)
        notice(f"{gaps[0].folder}{_and_more(gaps)}: {words}; no sample reaches across a gap")


def _and_more(scenes: list[Scene]) -> str:
    return f" (and in {len(scenes) - 1} more scenes)" if len(scenes) > 1 else ""


def _open_scene(
    name: str,
    folder: Path,
    root: Path,
    given: np.ndarray | str | None,
    patterns: Sequence[str] | None,
    frame_index: bool = False,
) -> Scene:
    every = all_frames(folder, patterns) if frame_index else frame_names(folder, patterns)
    frames = indexed_frames(folder, every) if frame_index else every
    in_order = frame_index or listed_frames(folder, patterns) is not None
    runs = [range(len(frames))] if in_order else frame_runs(frames)
    size = common_size(folder, frames)
    guess = functools.partial(guess_camera, folder, frames, runs, size)
    found = find_camera(folder, root, size, given, guess)
    depths = find_depths(folder, every)
    return Scene(
        name, folder, frames, every, runs, in_order, size, found.K, depths, found.camera, found.source,
        found.motion,
    )  # fmt: skip
