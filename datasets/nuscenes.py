"""nuScenes: city drives in Boston and Singapore, six cameras and a LiDAR (Caesar et al. 2020).

    <root>/v1.0-trainval/*.json                       13 tables: what was recorded when, by what, from where
    <root>/samples/<CHANNEL>/<log>__<CHANNEL>__<microseconds>.jpg       key frames, 2 a second
    <root>/sweeps/<CHANNEL>/...                                         the images between, 12 a second
    <root>/samples/LIDAR_TOP/<log>__LIDAR_TOP__<microseconds>.pcd.bin   float32 x, y, z, intensity, ring

A target is a key frame, its frames -1 and +1 are the images just before and after it from the same camera.
Every image and scan has a vehicle pose of its own, so a scan reaches a camera that fired earlier by

    x_camera = inv(ego_from_camera) inv(world_from_ego at the image) world_from_ego at the scan
               ego_from_lidar x_lidar.

The tables are read by nuscenes-devkit, which takes a minute and gigabytes for v1.0-trainval. What depth needs
of them is kept as arrays in `<version>/parallax_index.npz`, and later runs read that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from datasets import DATASETS
from datasets._ground_truth import Exportable, KnownDepth, check_ground_truth, read_scan
from datasets._sequence import check_folder, resize_intrinsics
from datasets._splits import load_split, split_names
from datasets._surround import RING, SurroundDataset, pose_from_quaternion
from metrics import Protocol
from structures import Frame
from utils import InputError, atomic_path, nearest_name

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes as Devkit

CHANNELS = {name: f"CAM_{name.upper()}" for name in RING}
LIDAR = "LIDAR_TOP"
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
INDEX_FILE = "parallax_index.npz"
INDEX_FORMAT = 1  # to be raised when `Index` changes
GROUND_TRUTHS = {"lidar": "one LiDAR scan, moved with the vehicle to each camera's own time"}


@DATASETS.register
class NuScenes(Exportable, SurroundDataset):
    """nuScenes with its official train and val scenes, those of v1.0-mini, or lists of sample tokens.

    Args:
        data_path: the folder that holds `v1.0-trainval`, `samples` and `sweeps`.
        split: `official`, `mini`, or a folder with `train.txt`, `val.txt` of sample tokens or scene names.
            Of a scene every sample counts whose cameras all have the images that `frame_ids` asks for.
        part: train or val.
        version: which tables: v1.0-trainval where they are there, otherwise the only ones there are.
        camera_names: which cameras, in ring order; all six where not given.
        frame_ids: 0 and the sources: images of the same camera before and after the key frame.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack a camera, an image, or a listed sample's neighbour.
        masks: read where each camera sees its own vehicle: True (from `<data_path>/masks`), False for none,
            or the folder they lie in.
        matches: read what tools/sift_matches.py wrote: True (from `<data_path>/matches`), None for none, or
            the folder they lie in.
        max_matches: rows of matches a camera; the rest is padding.
        poses: give the recorded motion between frames, metres, as `T_source_from_target`.
        ground_truth: `lidar`, or None for no depth.
        gt_path: folder of exported ground truth; `<data_path>/gt_depths` where not given.

    Raises:
        InputError: tables that are missing or do not fit together, a sample that is not in them, a camera or
            an image that a sample lacks, a calibration that is no rotation.
    """

    overlap: ClassVar[float] = 500 / 1600  # as SurroundDepth matches
    protocol: ClassVar[Protocol] = Protocol(
        "nuScenes", GROUND_TRUTHS["lidar"], min_depth=0.1, max_depth=80.0, resize="depth"
    )

    def __init__(
        self,
        data_path: str | Path,
        split: str = "official",
        part: str = "train",
        version: str | None = None,
        camera_names: Sequence[str] = RING,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 352,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
        masks: bool | str | Path = False,
        matches: bool | str | Path | None = None,
        max_matches: int = 1024,
        poses: bool = False,
        ground_truth: str | None = "lidar",
        gt_path: str | Path | None = None,
    ) -> None:
        check_ground_truth(ground_truth, GROUND_TRUTHS)
        self.ground_truth, self.poses = ground_truth, poses
        self.mask_folders = [Path(data_path) / "masks" if isinstance(masks, bool) else Path(masks)]
        self.version = _find_version(Path(data_path), version, str(split))
        index = load_index(Path(data_path) / self.version)
        wanted = {camera_names} if isinstance(camera_names, str) else set(camera_names)
        cameras = [number for number, name in enumerate(RING) if name in wanted]
        offsets = [frame for frame in frame_ids if isinstance(frame, int)]
        self.lines = self._complete(
            self._listed(index, str(split), part), index, cameras, offsets, skip_missing
        )
        _check_sweeps(Path(data_path), offsets)
        self._keep(index, cameras, offsets)
        super().__init__(
            data_path,
            camera_names,
            frame_ids,
            height,
            width,
            resize,
            skip_missing,
            bool(masks),
            matches,
            max_matches,
        )
        self.find_exported(gt_path, split, part, () if self.cameras == len(RING) else self.camera_names)

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
            alone = next((offset for offset, rows in reached.items() if (rows[n] < 0).any()), None)
            if alone is not None and missing is None and sample.listed and not skip_missing:
                camera = CHANNELS[RING[cameras[int(np.argmax(reached[alone][n] < 0))]]]
                raise InputError(
                    f"{sample.source}: {camera} has no frame {alone:+d} beside sample {sample.token}, at an "
                    f"end of {sample.scene}; --skip_missing leaves such samples out"
                )
            if missing is None and alone is None:
                kept.append(sample)
        if not kept:
            raise InputError(
                f"none of the {len(samples)} samples has the frames {' '.join(map(str, offsets))} of all its "
                f"cameras in the tables of {self.version}"
            )
        return kept

    def _keep(self, index: Index, cameras: list[int], offsets: list[int]) -> None:
        """Keep those rows of the index that the samples need, and let the rest go: workers get a copy."""
        numbers = np.array([sample.number for sample in self.lines])
        self.lines = [dataclasses.replace(sample, number=n) for n, sample in enumerate(self.lines)]
        keys = index.keys[numbers]
        places = [index.walk(keys[:, cameras], offset) for offset in offsets] + [keys[:, -1:]]
        used, rows = np.unique(np.concatenate(places, 1), return_inverse=True)
        rows = rows.reshape(len(numbers), -1)
        self._index = index.take(used)
        size = len(cameras)
        self._rows = {offset: rows[:, n * size : (n + 1) * size] for n, offset in enumerate(offsets)}
        self._scans = np.where(keys[:, -1] < 0, -1, rows[:, -1])

    # What a sample is.

    def paths(self, line: Sample, frame: Frame) -> list[Path]:
        return [self.data_path / self._index.filename(row) for row in self._rows[frame][line.number]]

    def image_size(self, line: Sample, camera: int) -> tuple[int, int]:
        height, width = self._index.size[self._rows[0][line.number, camera]]
        return int(height), int(width)

    def intrinsics(self, line: Sample, camera: int, height: int, width: int) -> np.ndarray:
        """Of the calibration; they follow where the images on disk were made smaller."""
        return resize_intrinsics(
            self._recorded_intrinsics(line, camera), self.image_size(line, camera), (height, width)
        )

    def _recorded_intrinsics(self, line: Sample, camera: int) -> np.ndarray:
        return self._index.intrinsics[self._index.calibration[self._rows[0][line.number, camera]]]

    def rig_from_camera(self, line: Sample) -> np.ndarray:
        return self._index.ego_from_sensor[self._index.calibration[self._rows[0][line.number]]]

    def pose(self, line: Sample, frame: Frame) -> np.ndarray | None:
        if not self.poses:
            return None
        world_from_target = self._world_from_camera(line, 0)
        return np.linalg.inv(self._world_from_camera(line, frame)) @ world_from_target

    def _world_from_camera(self, line: Sample, frame: Frame) -> np.ndarray:
        """(N, 4, 4) at the time of each image."""
        return np.stack([self._index.world_from_sensor(row) for row in self._rows[frame][line.number]])

    def mask_path(self, line: Sample, camera: int) -> Path:
        """`CAM_FRONT/scene-0103.png`."""
        return self.mask_folders[0] / CHANNELS[self.camera_names[camera]] / f"{line.scene}.png"

    def match_path(self, line: Sample, camera: int) -> Path:
        image = Path(self._index.filename(self._rows[0][line.number, camera]))
        return self.matches / image.with_suffix(".npy")

    def known_depth(self, index: int) -> KnownDepth | None:
        line = self.lines[index]
        row = self._scans[line.number]
        if self.ground_truth is None or row < 0:
            return None
        scan = self.data_path / self._index.filename(row)
        if not scan.is_file():
            return None
        xyz = np.ascontiguousarray(read_lidar(scan)[:, :3].T, np.float64)
        world_from_lidar = self._index.world_from_sensor(row)
        height, width = self.image_size(line, 0)
        landed = []
        for camera, world_from_camera in enumerate(self._world_from_camera(line, 0)):
            T_camera_from_lidar = np.linalg.inv(world_from_camera) @ world_from_lidar
            K = self._recorded_intrinsics(line, camera)
            landed.append(lidar_pixels(xyz, T_camera_from_lidar, K, height, width))
        return KnownDepth.of_pixels(height, width, landed)

    def name(self, index: int) -> str:
        line = self.lines[index]
        return f"{line.scene} {line.token}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One key frame.

    Attributes:
        token: of the table `sample`.
        scene: its name, such as scene-0103.
        number: its row in the arrays of the dataset.
        source: what error sentences call it.
        listed: it stands in a list by itself, rather than through its scene.
    """

    token: str
    scene: str
    number: int
    source: str
    listed: bool = False


def _find_version(data_path: Path, version: str | None, split: str) -> str:
    check_folder(data_path)
    found = sorted(path.name for path in data_path.glob("v*.*-*") if path.is_dir())
    if not found:
        raise InputError(
            f"there are no nuScenes tables under {data_path}: expected a folder such as v1.0-trainval; "
            "extract the archive called Metadata there"
        )
    if version is None:
        if len(found) > 1 and "v1.0-trainval" not in found:
            raise InputError(f"{data_path} has the tables {' and '.join(found)}; choose with version")
        version = found[0] if len(found) == 1 else "v1.0-trainval"
    if version not in found:
        raise InputError(f"{data_path} has no tables '{version}'{nearest_name(version, found)}")
    if split == "official" and not version.endswith("trainval"):
        raise InputError(
            f"split official is that of v1.0-trainval, and the tables are {version}; take split mini, "
            "or a folder with lists of your own"
        )
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
        InputError: the size is no multiple of a point's 20 bytes.
    """
    return read_scan(path, 5)


def lidar_pixels(
    xyz: np.ndarray, T_camera_from_lidar: np.ndarray, K: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a scan falls in a camera's image, by SurroundDepth's rule: there is no least distance.

    Args:
        xyz: (3, P) float64 metres in the LiDAR's frame.
        T_camera_from_lidar: (4, 4).
        K: (3, 3) intrinsics, pixels.
        height, width: of the image, pixels.

    Returns:
        Rows, columns and metres along the optical axis, (K,) each, in the order of the points.
    """
    camera = T_camera_from_lidar[:3, :3] @ xyz + T_camera_from_lidar[:3, 3:]
    camera = camera.take(np.flatnonzero(camera[2] > 0), 1)  # twice as fast as a mask
    # np.rint takes halves to the even neighbour, as the published export does.
    u, v = np.rint(K[:2] @ camera / camera[2])
    inside = np.flatnonzero((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1))
    return v[inside].astype(np.int64), u[inside].astype(np.int64), camera[2, inside]


# ------------------------------------------------------------------------------------------ the tables


@dataclass(frozen=True)
class Index:
    """What depth needs of the tables, as arrays: S scenes, M samples, R images and scans, C calibrations.

    Attributes:
        scenes: (S,) names.
        samples: (M,) tokens, in the tables' order.
        scene_of: (M,) the scene of each.
        keys: (M, 7) rows of its key frames, the cameras in ring order and the LiDAR; -1 for none.
        patterns: names of files below the root, with * where the time stands.
        pattern: (R,) which of them.
        time: (R,) microseconds.
        size: (R, 2) height and width, pixels.
        ego: (R, 7) the vehicle's pose in the world then: quaternion w, x, y, z and translation in metres.
        neighbours: (R, 2) rows of the same camera's previous and next image; -1 for none.
        calibration: (R,) which calibration.
        ego_from_sensor: (C, 4, 4) metres.
        intrinsics: (C, 3, 3) pixels; zeros for the LiDAR.
    """

    scenes: np.ndarray
    samples: np.ndarray
    scene_of: np.ndarray
    keys: np.ndarray
    patterns: np.ndarray
    pattern: np.ndarray
    time: np.ndarray
    size: np.ndarray
    ego: np.ndarray
    neighbours: np.ndarray
    calibration: np.ndarray
    ego_from_sensor: np.ndarray
    intrinsics: np.ndarray

    def filename(self, row: int) -> str:
        return str(self.patterns[self.pattern[row]]).replace("*", str(self.time[row]))

    def world_from_sensor(self, row: int) -> np.ndarray:
        """(4, 4) at the time of the image or scan."""
        ego = pose_from_quaternion(self.ego[row, :4], self.ego[row, 4:], self.filename(row))
        return ego @ self.ego_from_sensor[self.calibration[row]]

    def walk(self, rows: np.ndarray, offset: int) -> np.ndarray:
        """The rows `offset` images later, or earlier where negative; -1 where there is none."""
        for _ in range(abs(offset)):
            rows = np.where(rows < 0, -1, self.neighbours[rows, int(offset > 0)])
        return rows

    def take(self, rows: np.ndarray) -> Index:
        """Only these images and scans, without samples and neighbours, which are numbered otherwise."""
        kept = {name: getattr(self, name)[rows] for name in ("pattern", "time", "size", "ego", "calibration")}
        none = {name: getattr(self, name)[:0] for name in ("samples", "scene_of", "keys", "neighbours")}
        return dataclasses.replace(self, **kept, **none)


def load_index(folder: Path) -> Index:
    """The index of a folder of tables, from the file beside them where it still fits.

    Raises:
        InputError: see `build_index`.
    """
    for table in TABLES:
        if not (folder / f"{table}.json").is_file():
            raise InputError(
                f"there is no table {folder / table}.json; extract the archive called Metadata again"
            )
    stats = [(folder / f"{table}.json").stat() for table in TABLES]
    return _load_index(
        folder.absolute(), f"{INDEX_FORMAT} {[(stat.st_size, stat.st_mtime_ns) for stat in stats]}"
    )


@functools.lru_cache(maxsize=2)  # train and val of a run are opened one after the other
def _load_index(folder: Path, state: str) -> Index:
    path, names = folder / INDEX_FILE, [field.name for field in dataclasses.fields(Index)]
    unreadable = contextlib.suppress(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile)
    with unreadable, np.load(path, allow_pickle=False) as file:
        if str(file["state"]) == state:
            return Index(**{name: file[name] for name in names})
    index = build_index(folder)
    arrays = {name: getattr(index, name) for name in names}
    # Where nothing may be written the tables are read each time.
    with contextlib.suppress(OSError), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, state=np.array(state), **arrays)
    return index


def build_index(folder: Path) -> Index:
    """The index of a folder of tables, by way of nuscenes-devkit.

    Raises:
        InputError: the devkit is missing or cannot read the tables, or a pose in them is no rotation.
    """
    try:
        from nuscenes.nuscenes import NuScenes as Devkit
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"nuScenes tables are read by nuscenes-devkit, which cannot be imported here ({error}); "
            'pip install "nuscenes-devkit>=1.2" "numpy<2", with Python 3.10 to 3.12'
        ) from None
    try:
        return _extract(Devkit(folder.name, str(folder.parent), verbose=False), folder)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(
            f"{_unreadable_table(folder)} is no JSON file ({error}); is it truncated? extract the archive "
            "called Metadata again"
        ) from None
    except KeyError as error:
        raise InputError(
            f"the tables in {folder} do not fit together: {error} is missing; are all of one version?"
        ) from None
    except (AssertionError, IndexError, OSError, TypeError, ValueError) as error:
        raise InputError(f"nuscenes-devkit cannot read the tables in {folder}: {error}") from None


def _unreadable_table(folder: Path) -> Path:
    """The table that the devkit stumbled over without saying which."""
    for table in TABLES:
        path = folder / f"{table}.json"
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return path
    return folder


def _extract(devkit: Devkit, folder: Path) -> Index:
    channels = [*CHANNELS.values(), LIDAR]
    records: list[dict[str, Any]] = []
    row_of: dict[str, int] = {}
    for record in devkit.sample_data:
        if record["channel"] in channels and (record["channel"] != LIDAR or record["is_key_frame"]):
            row_of[record["token"]] = len(records)
            records.append(record)
    patterns, pattern = _numbered(
        record["filename"].replace(str(record["timestamp"]), "*") for record in records
    )
    tokens, calibration = _numbered(record["calibrated_sensor_token"] for record in records)
    calibrations = [_calibration(devkit, token, folder) for token in tokens]

    def row(record: dict[str, Any], link: str) -> int:
        """Where a camera's record leads; a scan's neighbours are not kept."""
        return row_of[record[link]] if record[link] and record["channel"] != LIDAR else -1

    scenes, scene_of = _numbered(sample["scene_token"] for sample in devkit.sample)
    keys = [[row_of.get(s["data"].get(channel), -1) for channel in channels] for s in devkit.sample]
    neighbours = [[row(record, "prev"), row(record, "next")] for record in records]
    return Index(
        scenes=np.array([devkit.get("scene", token)["name"] for token in scenes], str),
        samples=np.array([sample["token"] for sample in devkit.sample], str),
        scene_of=scene_of,
        keys=np.array(keys, np.int32).reshape(-1, len(channels)),
        patterns=np.array(patterns, str),
        pattern=pattern,
        time=np.array([record["timestamp"] for record in records], np.int64),
        size=_sizes(records, folder),
        ego=_vehicle_poses(devkit, records, folder),
        neighbours=np.array(neighbours, np.int32).reshape(-1, 2),
        calibration=calibration,
        ego_from_sensor=np.array([pose for pose, _ in calibrations]).reshape(-1, 4, 4),
        intrinsics=np.array([K for _, K in calibrations]).reshape(-1, 3, 3),
    )


def _numbered(words: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """The different words in order of appearance, and (P,) the number of each."""
    number_of: dict[str, int] = {}
    numbers = [number_of.setdefault(word, len(number_of)) for word in words]
    return list(number_of), np.array(numbers, np.int32)


def _calibration(devkit: Devkit, token: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) ego_from_sensor and (3, 3) intrinsics of a calibrated sensor."""
    record = devkit.get("calibrated_sensor", token)
    channel = devkit.get("sensor", record["sensor_token"])["channel"]
    where = f"{folder / 'calibrated_sensor.json'}, {channel} {token}"
    pose = pose_from_quaternion(record["rotation"], record["translation"], where)
    if channel == LIDAR:
        return pose, np.zeros((3, 3))
    K = np.asarray(record["camera_intrinsic"], np.float64)
    if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
        raise InputError(f"{where}: expected a 3 x 3 matrix of intrinsics in pixels, got {K.tolist()}")
    return pose, K


def _sizes(records: list[dict[str, Any]], folder: Path) -> np.ndarray:
    """(R, 2) int32 height and width of images, pixels; zeros of a scan."""
    sizes = np.array([[record["height"], record["width"]] for record in records], np.int32).reshape(-1, 2)
    for row in np.flatnonzero(sizes.min(1) < 1):
        if records[row]["channel"] != LIDAR:
            raise InputError(
                f"{folder / 'sample_data.json'}, {records[row]['filename']}: height and width are pixels, "
                f"got {sizes[row, 0]} and {sizes[row, 1]}"
            )
    return sizes


def _vehicle_poses(devkit: Devkit, records: list[dict[str, Any]], folder: Path) -> np.ndarray:
    """(R, 7) rotations and translations; the first that is none is refused by the name of its file."""
    poses = [devkit.get("ego_pose", record["ego_pose_token"]) for record in records]
    try:
        ego = np.array([[*pose["rotation"], *pose["translation"]] for pose in poses], np.float64)
        ego = ego.reshape(-1, 7)
        off = np.abs(np.linalg.norm(ego[:, :4], axis=1) - 1)
        doubtful = np.flatnonzero(~((off <= 1e-3) & np.isfinite(ego).all(1)))
    except (TypeError, ValueError):
        doubtful = np.arange(len(poses))  # one of them is not seven numbers
    for row in doubtful:
        where = f"{folder / 'ego_pose.json'}, {records[row]['filename']}"
        pose_from_quaternion(poses[row]["rotation"], poses[row]["translation"], where)
    return ego
