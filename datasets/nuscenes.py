"""nuScenes: city drives in Boston and Singapore, six cameras and a LiDAR (Caesar et al. 2020).

    <root>/v1.0-trainval/*.json                       13 tables: recordings, times, sensors, poses
    <root>/samples/<CHANNEL>/<log>__<CHANNEL>__<microseconds>.jpg       key frames, 2 a second
    <root>/sweeps/<CHANNEL>/...                                         the images between, 12 a second
    <root>/samples/LIDAR_TOP/<log>__LIDAR_TOP__<microseconds>.pcd.bin   float32 x, y, z, intensity, ring

A target is a key frame, its frames -1 and +1 are the images just before and after it from the same camera.
Every image and scan has a vehicle pose of its own, so a scan reaches a camera that fired earlier by

    x_camera = inv(ego_from_camera) inv(world_from_ego at the image) world_from_ego at the scan
               ego_from_lidar x_lidar.

datasets/_nuscenes_tables.py reads the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets import DATASETS
from datasets._nuscenes_tables import CHANNELS, Index, load_index
from datasets.ground_truth import DEPTH, Exportable, SparseDepth, check_ground_truth, read_scan
from datasets.resizing import resize_intrinsics
from datasets.sequence import check_folder
from datasets.splits import load_split, split_names
from datasets.surround import RING, SurroundDataset
from files import inside
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError, nearest_name

OFFICIAL = "official"
MINI_TABLES = "v1.0-mini"
GROUND_TRUTHS = {"lidar": "one LiDAR scan, moved with the vehicle to each camera's own time"}


@DATASETS.register
class NuScenes(Exportable, SurroundDataset):
    """nuScenes with its official train and val scenes, those of v1.0-mini, or lists of sample tokens.

    Args:
        data_path: the folder that holds `v1.0-trainval`, `samples` and `sweeps`.
        split: `official` (of v1.0-trainval; of v1.0-mini its own official scenes), `mini`, or a folder with
            `train.txt`, `val.txt` of sample tokens or scene names. A scene stands for its samples whose
            cameras all have the images that `frame_ids` asks for.
        part: train or val.
        version: tables to read: v1.0-trainval if they exist, otherwise the only ones that exist.
        camera_names: cameras to read, in ring order; all six if not given.
        frame_ids: 0 and the sources: images of the same camera before and after the key frame.
        skip_missing: leave out samples that lack a camera, an image, or a listed sample's neighbour.
        poses: give the recorded motion between frames, metres, as `T_source_from_target`.
        ground_truth: `lidar`, or None for no depth.

    Raises:
        InputError: tables that are missing or do not fit together, a sample that is not in them, a camera or
            an image that a sample lacks, a calibration that is not a rotation.
    """

    default_height: ClassVar[int] = 352
    for_losses: ClassVar[tuple[str, ...]] = (*SurroundDataset.for_losses, "poses")
    provides: ClassVar[Mapping[str, str]] = {
        **DEPTH,
        **SurroundDataset.provides,
        "T_source_from_target": "--dataset.poses true adds the recorded motion",
    }
    overlap: ClassVar[float] = 500 / 1600  # as SurroundDepth matches
    protocol: ClassVar[Protocol] = Protocol(
        "nuScenes", GROUND_TRUTHS["lidar"], min_depth=0.1, max_depth=80.0, resize="depth"
    )

    def __init__(
        self,
        data_path: str | Path,
        split: str = OFFICIAL,
        part: str = "train",
        version: str | None = None,
        camera_names: Sequence[str] = RING,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        skip_missing: bool = False,
        poses: bool = False,
        ground_truth: str | None = "lidar",
        **settings: Any,
    ) -> None:
        self.ground_truth = check_ground_truth(ground_truth, GROUND_TRUTHS)
        self.poses = poses
        self.version = _find_version(Path(data_path), version)
        if split == OFFICIAL and self.version == MINI_TABLES:
            split = "mini"
        index = load_index(Path(data_path) / self.version)
        wanted = {camera_names} if isinstance(camera_names, str) else set(camera_names)
        cameras = [number for number, name in enumerate(RING) if name in wanted]
        offsets = [frame for frame in frame_ids if isinstance(frame, int)]
        self.samples = self._complete(
            self._listed(index, str(split), part), index, cameras, offsets, skip_missing
        )
        _check_sweeps(Path(data_path), offsets)
        self._keep(index, cameras, offsets)
        super().__init__(
            data_path,
            camera_names=camera_names,
            frame_ids=frame_ids,
            skip_missing=skip_missing,
            **settings,
        )
        self.find_exported(split, part, () if self.cameras == len(RING) else self.camera_names)

    # Which samples.

    def _listed(self, index: Index, split: str, part: str) -> list[Sample]:
        """The samples of a list of scenes or tokens, in its order; those of a scene in the tables' order."""
        by_token = {token: number for number, token in enumerate(index.samples.tolist())}
        by_scene: dict[str, list[int]] = {name: [] for name in index.scenes.tolist()}
        scene_of = index.scenes[index.scene_of].tolist()
        for number, scene in enumerate(scene_of):
            by_scene[scene].append(number)
        ours = split in split_names("nuscenes")
        tokens, samples = list(by_token), []
        for line in load_split("nuscenes", split, part):
            if line.folder in by_scene:
                numbers = by_scene[line.folder]
                samples += [Sample(tokens[n], line.folder, n, f"{line.folder} {tokens[n]}") for n in numbers]
            elif line.folder in by_token:
                number = by_token[line.folder]
                samples.append(Sample(line.folder, scene_of[number], number, line.source, listed=True))
            elif not ours:  # ours list all scenes there are, and a small or synthetic set has a few of them
                raise InputError(
                    f"{line.source}: {self.version} has no sample or scene '{line.folder}'; "
                    "does the list belong to another version of the tables?"
                )
        if not samples:
            raise InputError(
                f"{self.version} has none of the scenes of splits/nuscenes/{split}/{part}.txt; "
                f"it has {', '.join(sorted(by_scene)[:3])}, ..."
            )
        return samples

    def _complete(
        self,
        samples: list[Sample],
        index: Index,
        cameras: list[int],
        offsets: list[int],
        skip_missing: bool,
    ) -> list[Sample]:
        """The samples that have every camera and, for each camera, every frame."""
        numbers = np.array([sample.number for sample in samples])
        keys = index.keys[numbers][:, cameras]
        reached = {offset: index.walk(keys, offset) for offset in offsets if offset}
        kept = []
        for n, sample in enumerate(samples):
            missing = next((c for c, row in zip(cameras, keys[n]) if row < 0), None)
            if missing is not None and not skip_missing:
                raise InputError(
                    f"{sample.source}: the sample has no key frame of {CHANNELS[RING[missing]]} in "
                    f"sample_data.json of {self.version}; --skip_missing leaves such samples out"
                )
            absent = next((offset for offset, rows in reached.items() if (rows[n] < 0).any()), None)
            if absent is not None and missing is None and sample.listed and not skip_missing:
                camera = CHANNELS[RING[cameras[int(np.argmax(reached[absent][n] < 0))]]]
                raise InputError(
                    f"{sample.source}: {camera} has no frame {absent:+d} next to sample {sample.token}, at "
                    f"an end of {sample.scene}; --skip_missing leaves such samples out"
                )
            if missing is None and absent is None:
                kept.append(sample)
        if not kept:
            raise InputError(
                f"none of the {len(samples)} samples has the frames {' '.join(map(str, offsets))} of all its "
                f"cameras in the tables of {self.version}"
            )
        return kept

    def _keep(self, index: Index, cameras: list[int], offsets: list[int]) -> None:
        """Keep those rows of the index that the samples need, and let the rest go: workers get a copy."""
        numbers = np.array([sample.number for sample in self.samples])
        self.samples = [dataclasses.replace(sample, number=n) for n, sample in enumerate(self.samples)]
        keys = index.keys[numbers]
        found = [index.walk(keys[:, cameras], offset) for offset in offsets] + [keys[:, -1:]]
        used, rows = np.unique(np.concatenate(found, 1), return_inverse=True)
        rows = rows.reshape(len(numbers), -1)
        self._index = index.take(used)
        size = len(cameras)
        self._rows = {offset: rows[:, n * size : (n + 1) * size] for n, offset in enumerate(offsets)}
        self._scans = np.where(keys[:, -1] < 0, -1, rows[:, -1])

    # What a sample is.

    def paths(self, sample: Sample, frame: Frame) -> list[Path]:
        return [self.data_path / self._index.filename(row) for row in self._rows[frame][sample.number]]

    def image_size(self, sample: Sample, camera: int) -> tuple[int, int]:
        height, width = self._index.size[self._rows[0][sample.number, camera]]
        return int(height), int(width)

    def intrinsics(self, sample: Sample, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the calibration, scaled if the images on disk were made smaller."""
        return resize_intrinsics(
            self._recorded_intrinsics(sample, camera), self.image_size(sample, camera), (height, width)
        )

    def _recorded_intrinsics(self, sample: Sample, camera: int) -> np.ndarray:
        return self._index.intrinsics[self._index.calibration[self._rows[0][sample.number, camera]]]

    def rig_from_camera(self, sample: Sample) -> np.ndarray:
        return self._index.ego_from_sensor[self._index.calibration[self._rows[0][sample.number]]]

    def pose(self, sample: Sample, frame: Frame) -> np.ndarray | None:
        return self.recorded_motion(sample, frame) if self.poses else None

    def times(self, sample: Sample, frame: Frame) -> np.ndarray:
        return self._index.time[self._rows[frame][sample.number]]

    def recorded_motion(self, sample: Sample, frame: Frame) -> np.ndarray:
        world_from_target = self._world_from_camera(sample, 0)
        return np.linalg.inv(self._world_from_camera(sample, frame)) @ world_from_target

    def _world_from_camera(self, sample: Sample, frame: Frame) -> np.ndarray:
        """(N, 4, 4) at the time of each image."""
        return np.stack([self._index.world_from_sensor(row) for row in self._rows[frame][sample.number]])

    def mask_path(self, sample: Sample, camera: int) -> Path:
        """`CAM_FRONT/scene-0103.png`."""
        return inside(self.mask_folders[0] / CHANNELS[self.camera_names[camera]], f"{sample.scene}.png")

    def match_path(self, sample: Sample, camera: int) -> Path:
        image = self._index.filename(self._rows[0][sample.number, camera])
        return inside(self.matches, image).with_suffix(".npy")

    def raw_content(self, index: int) -> str:
        sample = self.samples[index]
        row = self._scans[sample.number]
        if self.ground_truth is None or row < 0:
            return ""
        scan = self.data_path / self._index.filename(row)
        if not scan.is_file():
            return ""
        poses = [self._index.world_from_sensor(row), *self._world_from_camera(sample, 0)]
        K = [self._recorded_intrinsics(sample, camera) for camera in range(self.cameras)]
        return content([scan], poses, K)

    def read_raw_depth(self, index: int) -> SparseDepth | None:
        sample = self.samples[index]
        row = self._scans[sample.number]
        if self.ground_truth is None or row < 0:
            return None
        scan = self.data_path / self._index.filename(row)
        if not scan.is_file():
            return None
        xyz = np.ascontiguousarray(read_lidar(scan)[:, :3].T, np.float64)
        world_from_lidar = self._index.world_from_sensor(row)
        height, width = self.image_size(sample, 0)
        landed = []
        for camera, world_from_camera in enumerate(self._world_from_camera(sample, 0)):
            T_camera_from_lidar = np.linalg.inv(world_from_camera) @ world_from_lidar
            K = self._recorded_intrinsics(sample, camera)
            landed.append(lidar_pixels(xyz, T_camera_from_lidar, K, height, width))
        return SparseDepth.of_pixels(height, width, landed)

    def name(self, index: int) -> str:
        sample = self.samples[index]
        return f"{sample.scene} {sample.token}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One key frame.

    Attributes:
        token: token in the table `sample`.
        scene: its name, such as scene-0103.
        number: its row in the arrays of the dataset.
        source: its name in errors.
        listed: the list names the sample itself, not its scene.
    """

    token: str
    scene: str
    number: int
    source: str
    listed: bool = False


def _find_version(data_path: Path, version: str | None) -> str:
    check_folder(data_path)
    found = sorted(path.name for path in data_path.glob("v*.*-*") if path.is_dir())
    if not found:
        raise InputError(
            f"there are no nuScenes tables under {data_path}: expected a folder such as v1.0-trainval; "
            "extract the archive called Metadata there"
        )
    if version is None:
        if len(found) > 1 and "v1.0-trainval" not in found:
            raise InputError(
                f"{data_path} has the tables {' and '.join(found)}; choose one with --dataset.version"
            )
        version = found[0] if len(found) == 1 else "v1.0-trainval"
    if version not in found:
        raise InputError(f"{data_path} has no tables '{version}'{nearest_name(version, found)}")
    return version


def _check_sweeps(data_path: Path, offsets: list[int]) -> None:
    if any(offsets) and not (data_path / "sweeps").is_dir():
        raise InputError(
            f"frames {' '.join(str(offset) for offset in offsets if offset)} are images between the key "
            f"frames, and there is no folder {data_path / 'sweeps'}; extract the sweeps as well"
        )


# ------------------------------------------------------------------------------------------ LiDAR


def read_lidar(path: str | Path) -> np.ndarray:
    """A scan as (P, 5) float32: x, y, z in metres in the LiDAR's frame, intensity, ring.

    Raises:
        InputError: the size is not a multiple of a point's 20 bytes.
    """
    return read_scan(path, 5)


def lidar_pixels(
    xyz: np.ndarray, T_camera_from_lidar: np.ndarray, K: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a scan in a camera's image, by SurroundDepth's rule: without a smallest distance.

    Args:
        xyz: (3, P) float64 metres in the LiDAR's frame.
        T_camera_from_lidar: (4, 4).
        K: (3, 3) intrinsics, pixels.
        height, width: size of the image, pixels.

    Returns:
        Rows, columns and metres along the optical axis, (K,) each, in the order of the points.
    """
    camera = T_camera_from_lidar[:3, :3] @ xyz + T_camera_from_lidar[:3, 3:]
    camera = camera.take(np.flatnonzero(camera[2] > 0), 1)  # twice as fast as a mask
    # np.rint takes halves to the even neighbour, as the published export does.
    u, v = np.rint(K[:2] @ camera / camera[2])
    inside = np.flatnonzero((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1))
    return v[inside].astype(np.int64), u[inside].astype(np.int64), camera[2, inside]
