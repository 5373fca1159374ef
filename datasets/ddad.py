"""DDAD: six cameras and a long-range LiDAR on Toyota's cars (Guizilini et al. 2020).

    <root>/ddad.json
    <root>/000187/scene_<sha1>.json, calibration/<key>.json
    <root>/000187/rgb/CAMERA_01/15616458249936530.png          or .jpg, as the JSON says
    <root>/000187/point_cloud/LIDAR/15616458250027900.npz
    <root>/masks/CAMERA_01/000187.png                          tools/make_masks.py writes these

A sample is one frame set, ten per second, named by the time stamp that its cameras share. Depth is known at
the pixels of LiDAR points. Points are moved by the LiDAR's own pose and the camera's own pose, which
compensates the car's motion between both time stamps. SurroundDepth's samples follow from the JSON files by
a rule, so no list has to be downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets import DATASETS
from datasets._dgp import EXTRACT_AGAIN, Scene, project_points, read_points, read_scene, scene_files
from datasets.ground_truth import DEPTH, Exportable, SparseDepth, check_ground_truth
from datasets.image_files import image_size
from datasets.resizing import resize_intrinsics
from datasets.sequence import check_folder
from datasets.splits import SplitLine, load_split
from datasets.surround import RING, SurroundDataset, ring_order
from files import inside
from metrics import Protocol
from notices import notice
from provenance import content
from structures import Frame
from utils import InputError, nearest_name

CAMERAS = dict(zip(RING, ("CAMERA_01", "CAMERA_05", "CAMERA_07", "CAMERA_09", "CAMERA_08", "CAMERA_06")))
LIDAR = "LIDAR"
RULE = "surrounddepth"  # the split that is made by rule
GROUND_TRUTHS = {"lidar": "LiDAR of the same sample, moved to the camera's time"}


@dataclass(frozen=True, slots=True)
class FrameSet:
    """One sample: an entry of a scene.

    Attributes:
        scene: index of its scene among the open scenes.
        number: index of the sample in the scene's file.
        source: list or rule it comes from, for errors.
    """

    scene: int
    number: int
    source: str


@DATASETS.register
class Ddad(Exportable, SurroundDataset):
    """DDAD, or any DGP set with its sensors, from the JSON files.

    Args:
        data_path: the folder that holds ddad.json.
        split: `surrounddepth`, the published rule, or a folder with lists of your own in the published form
            (`train.txt`, `val.txt` of one time stamp a line).
        part: train, val or test.
        camera_names: cameras to read, in ring order; all six if not given.
        frame_ids: 0 and the sources: offsets in samples.
        skip_missing: leave out scenes that are not there and samples that lack an image.
        poses: give the recorded motion between frames, metres, as `T_source_from_target`.
        ground_truth: `lidar`, or None for no depth.
        index: the dataset's JSON file, if the folder holds several.

    Raises:
        InputError: a missing scene, calibration or camera, a pose that is not a rotation; see
            `SurroundDataset`.
    """

    overlap: ClassVar[float] = 600 / 1936  # as SurroundDepth matches
    protocol: ClassVar[Protocol] = Protocol(
        "DDAD",
        GROUND_TRUTHS["lidar"],
        min_depth=0.1,
        max_depth=200.0,
        resize="depth",
    )
    for_losses: ClassVar[tuple[str, ...]] = (*SurroundDataset.for_losses, "poses")
    provides: ClassVar[Mapping[str, str]] = {
        **DEPTH,
        **SurroundDataset.provides,
        "T_source_from_target": "--dataset.poses true adds the recorded motion",
    }

    def __init__(
        self,
        data_path: str | Path,
        split: str = RULE,
        part: str = "train",
        camera_names: Sequence[str] = RING,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        skip_missing: bool = False,
        poses: bool = False,
        ground_truth: str | None = "lidar",
        index: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self.ground_truth = check_ground_truth(ground_truth, GROUND_TRUTHS)
        self.poses = poses
        root = Path(data_path)
        self.index = find_index(root, index)
        self.sensors = [CAMERAS[name] for name in ring_order(camera_names)]
        offsets = [frame for frame in frame_ids if frame != "s"]  # which SurroundDataset refuses
        self.samples = self._find_samples(str(split), part, offsets, skip_missing)
        super().__init__(
            data_path,
            camera_names=camera_names,
            frame_ids=frame_ids,
            skip_missing=skip_missing,
            **settings,
        )
        self.find_exported(split, part, () if self.cameras == len(RING) else self.camera_names)
        self._check_calibration()

    # Which samples.

    def _find_samples(self, split: str, part: str, frames: list[int], skip_missing: bool) -> list[FrameSet]:
        parts = scene_files(self.index)
        by_rule = split == RULE
        if by_rule and not parts.get(part):
            raise InputError(f"{self.index} has no scenes for '{part}'{nearest_name(part, parts)}")
        paths = parts[part] if by_rule else [path for paths in parts.values() for path in paths]
        self.scenes = self._open_scenes(list(dict.fromkeys(paths)), skip_missing)
        missing = [scene.missing(range(len(self.sensors))) for scene in self.scenes]
        self._report_lacking(missing)
        stamps = [scene.stamps[:, 0] for scene in self.scenes]
        if by_rule:
            found = published_samples(stamps, part)
            sources = [f"{self.index}, {part}"] * len(found)
        else:
            lines = load_split("ddad", split, part)
            found, sources = find_stamps(lines, stamps), [line.source for line in lines]
        frame_sets = []
        for (scene, number), source in zip(found, sources):
            around = [number + frame for frame in frames]
            inside = min(around) >= 0 and max(around) < len(self.scenes[scene])
            if inside and not missing[scene][around].any():
                frame_sets.append(FrameSet(scene, number, source))
            elif not by_rule and not skip_missing:
                name = f"{source}: {self.scenes[scene].name} {stamps[scene][number]}"
                why = "a camera" if inside else "a neighbour in its scene"
                raise InputError(f"{name} lacks {why} (frames {frames}); --skip_missing leaves it out")
        return frame_sets

    def _open_scenes(self, paths: list[Path], skip_missing: bool) -> list[Scene]:
        missing = [path for path in paths if not path.is_file()]
        others = len(missing) < len(paths)
        if missing and not (skip_missing and others):
            raise InputError(
                f"{self.index} lists {missing[0]}, which is not there; {len(missing)} of {len(paths)} scenes "
                f"are missing: {EXTRACT_AGAIN}" + (" (--skip_missing takes the others)" if others else "")
            )
        sensors = [*self.sensors, LIDAR]
        return [read_scene(path, sensors) for path in paths if path not in set(missing)]

    def _report_lacking(self, missing: list[np.ndarray]) -> None:
        """Warn of samples that lack a camera and are left out; the DGP library drops them silently."""
        total, count = sum(map(len, missing)), sum(int(each.sum()) for each in missing)
        if not count:
            return
        number = next(n for n, each in enumerate(missing) if each.any())
        scene, sample = self.scenes[number], int(np.flatnonzero(missing[number])[0])
        camera = next(name for n, name in enumerate(self.sensors) if scene.stamps[sample, n] < 0)
        where = f"{scene.path}, sample {sample}: {camera}"
        sentence = f"{count} of {total} samples lack a camera; the first is {where}"
        if count == total:
            raise InputError(f"{sentence}; choose others with --dataset.camera_names, or {EXTRACT_AGAIN}")
        notice(f"{sentence}. They are left out.")

    def _check_calibration(self) -> None:
        """Read each calibration, and refuse one that lacks a camera, before the first image."""
        seen = set()
        for sample in self.samples:
            scene = self.scenes[sample.scene]
            key = sample.scene, scene.calibration_keys[sample.number]
            if key not in seen:
                seen.add(key)
                for camera in self.sensors:
                    scene.calibration(sample.number).K(camera)
                    scene.calibration(sample.number).extrinsics(camera)

    @staticmethod
    def _own_mask_folders(root: Path) -> list[Path]:
        """The folder of our masks, and that of the published masks."""
        return [root / "masks", root / "mask"]

    # One sample.

    def name(self, index: int) -> str:
        """Scene and time stamp: `000187 15616458249936530`."""
        sample = self.samples[index]
        return f"{self.scenes[sample.scene].name} {self.scenes[sample.scene].stamps[sample.number, 0]}"

    def paths(self, sample: FrameSet, frame: Frame) -> list[Path]:
        scene = self.scenes[sample.scene]
        return [scene.file(sample.number + frame, camera) for camera in range(self.cameras)]

    def image_size(self, sample: FrameSet, camera: int) -> tuple[int, int]:
        height, width = self.scenes[sample.scene].sizes[sample.number, camera].tolist()
        if not (height and width):
            height, width = image_size(self.paths(sample, 0)[camera])
        return height, width

    def intrinsics(self, sample: FrameSet, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the recording, scaled if the images on disk were made smaller."""
        K = self.scenes[sample.scene].calibration(sample.number).K(self.sensors[camera])
        return resize_intrinsics(K, self.image_size(sample, camera), (height, width))

    def rig_from_camera(self, sample: FrameSet) -> np.ndarray:
        calibration = self.scenes[sample.scene].calibration(sample.number)
        return np.stack([calibration.extrinsics(camera) for camera in self.sensors])

    def pose(self, sample: FrameSet, frame: Frame) -> np.ndarray | None:
        """(N, 4, 4) each camera's recorded motion, metres; None where `poses` is off."""
        return self.recorded_motion(sample, frame) if self.poses else None

    def times(self, sample: FrameSet, frame: Frame) -> np.ndarray:
        return self.scenes[sample.scene].stamps[sample.number + frame, : self.cameras]

    def recorded_motion(self, sample: FrameSet, frame: Frame) -> np.ndarray:
        scene = self.scenes[sample.scene]
        return np.stack(
            [
                np.linalg.inv(scene.world_from_sensor(sample.number + frame, camera))
                @ scene.world_from_sensor(sample.number, camera)
                for camera in range(self.cameras)
            ]
        )

    def mask_path(self, sample: FrameSet, camera: int) -> Path:
        """Our mask `CAMERA_01/000187.png`, or the published mask `CAMERA_01/000187/mask.png`."""
        scene, sensor = self.scenes[sample.scene].name, self.sensors[camera]
        ours = [inside(folder / sensor, f"{scene}.png") for folder in self.mask_folders]
        published = [folder / sensor / scene / "mask.png" for folder in self.mask_folders]
        return next((path for path in ours + published if path.is_file()), ours[0])

    def match_path(self, sample: FrameSet, camera: int) -> Path:
        scene = self.scenes[sample.scene]
        stamp = scene.stamps[sample.number, camera]
        return inside(self.matches, scene.name) / self.sensors[camera] / f"{stamp}.npy"

    # Depth.

    def raw_content(self, index: int) -> str:
        sample, lidar = self.samples[index], len(self.sensors)
        scene = self.scenes[sample.scene]
        if self.ground_truth is None or scene.stamps[sample.number, lidar] < 0:
            return ""
        path = scene.file(sample.number, lidar)
        if not path.is_file():
            return ""
        poses = [scene.world_from_sensor(sample.number, sensor) for sensor in range(lidar + 1)]
        K = [scene.calibration(sample.number).K(sensor) for sensor in self.sensors]
        return content([path], poses, K)

    def read_raw_depth(self, index: int) -> SparseDepth | None:
        """Depth from LiDAR points; None if the scene has none, or this sample's are missing under
        `skip_missing`.

        Raises:
            InputError: some points of the scene are missing or truncated, or a pose is.
        """
        sample, lidar = self.samples[index], len(self.sensors)
        scene = self.scenes[sample.scene]
        if self.ground_truth is None or scene.stamps[sample.number, lidar] < 0:
            return None
        path = scene.file(sample.number, lidar)
        if not path.parent.is_dir():  # left out when the archive was extracted, or removed after the export
            return None
        if self.skip_missing and not path.is_file():
            return None
        world_from_lidar = scene.world_from_sensor(sample.number, lidar)
        world = world_from_lidar[:3, :3] @ read_points(path).T + world_from_lidar[:3, 3:]
        height, width = self.image_size(sample, 0)
        landed = []
        for camera in range(self.cameras):
            world_from_camera = scene.world_from_sensor(sample.number, camera)
            K = scene.calibration(sample.number).K(self.sensors[camera])
            landed.append(project_points(world, world_from_camera, K, height, width))
        return SparseDepth.of_pixels(height, width, landed)


def find_index(root: Path, index: str | Path | None = None) -> Path:
    """The dataset's JSON file: the only one in the folder, or the one that is named.

    Raises:
        InputError: there is none, or there are several.
    """
    if index is not None:
        path = Path(index) if Path(index).is_file() else root / index
        if not path.is_file():
            raise InputError(f"there is no dataset file {path}")
        return path
    check_folder(root)
    found = sorted(root.glob("*.json"))
    if not found:
        raise InputError(f"{root} holds no ddad.json; --data_path is the folder that holds it and the scenes")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{root} holds {names}; choose one with --dataset.index (in tools: --set index=...)")
    return found[0]


def published_samples(stamps: Sequence[np.ndarray], part: str) -> list[tuple[int, int]]:
    """SurroundDepth's samples. Training uses each time stamp once and leaves out the ends of scenes.

    Scenes may overlap in time, so two scenes may hold the same time stamp. Training then takes it from the
    first of them, and leaves it out if it is the first or last time stamp of either scene. Validation uses
    every sample of every scene.

    Args:
        stamps: (S,) time stamps of the cameras for each scene, in order.
        part: train or another.

    Returns:
        (scene, sample) in order.
    """
    every = [(scene, sample) for scene, column in enumerate(stamps) for sample in range(len(column))]
    if part != "train":
        return every
    ends = {int(stamp) for column in stamps if len(column) for stamp in (column[0], column[-1])}
    first: dict[int, tuple[int, int]] = {}
    for scene, sample in every:
        first.setdefault(int(stamps[scene][sample]), (scene, sample))
    return [position for stamp, position in first.items() if stamp not in ends]


def find_stamps(lines: Sequence[SplitLine], stamps: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """(scene, sample) of the time stamps of a list, in the first scene that has them.

    Raises:
        InputError: one is in no scene.
    """
    positions: dict[str, tuple[int, int]] = {}
    for scene, column in enumerate(stamps):
        for sample, stamp in enumerate(column.tolist()):
            positions.setdefault(str(stamp), (scene, sample))
    unknown = [line for line in lines if line.folder not in positions]
    if unknown:
        raise InputError(
            f"{unknown[0].source}: no scene has a sample at {unknown[0].folder}; {len(unknown)} of "
            f"{len(lines)} time stamps are in none of the {len(stamps)} scenes: {EXTRACT_AGAIN}"
        )
    return [positions[line.folder] for line in lines]
