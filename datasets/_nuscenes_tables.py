"""nuScenes' 13 tables, read once by nuscenes-devkit and kept as arrays.

The devkit takes a minute and gigabytes for v1.0-trainval. The part that depth needs is written to
`<version>/parallax_index.npz`; later runs read that file while the tables keep their size and date. Names
from the tables become paths, so a name that would leave the root folder is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.surround import RING, pose_from_quaternion
from files import DAMAGED_ARRAY
from utils import InputError, atomic_path

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes as Devkit

CHANNELS = {name: f"CAM_{name.upper()}" for name in RING}
LIDAR = "LIDAR_TOP"
TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
    "sample_annotation", "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip
INDEX_FILE = "parallax_index.npz"
INDEX_FORMAT = 2  # raise it when `Index` or its checks change


@dataclass(frozen=True)
class Index:
    """The part of the tables that depth needs: S scenes, M samples, R images and scans, C calibrations.

    Attributes:
        scenes: (S,) names of the scenes.
        samples: (M,) tokens, in the tables' order.
        scene_of: (M,) index of each sample's scene.
        keys: (M, 7) rows of each sample's key frames, the cameras in ring order, then the LiDAR; -1 for none.
        patterns: file names below the root, with * in place of the time stamp.
        pattern: (R,) index of each row's pattern.
        time: (R,) time stamps, microseconds.
        size: (R, 2) height and width, pixels; zeros for a scan.
        ego: (R, 7) pose of the vehicle at that time, world_from_ego: quaternion w, x, y, z and translation in
            metres.
        neighbours: (R, 2) rows of the same camera's previous and next image; -1 for none.
        calibration: (R,) index of each row's calibration.
        ego_from_sensor: (C, 4, 4) extrinsics, metres.
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
        """Path of an image or scan below the root."""
        return str(self.patterns[self.pattern[row]]).replace("*", str(self.time[row]))

    def world_from_sensor(self, row: int) -> np.ndarray:
        """(4, 4) at the time of the image or scan."""
        ego = pose_from_quaternion(self.ego[row, :4], self.ego[row, 4:], self.filename(row))
        return ego @ self.ego_from_sensor[self.calibration[row]]

    def walk(self, rows: np.ndarray, offset: int) -> np.ndarray:
        """The rows `offset` images later (earlier if negative) of the same camera; -1 for none."""
        for _ in range(abs(offset)):
            rows = np.where(rows < 0, -1, self.neighbours[rows, int(offset > 0)])
        return rows

    def take(self, rows: np.ndarray) -> Index:
        """The index of only these images and scans; samples and neighbours use old rows and are left out."""
        kept = {name: getattr(self, name)[rows] for name in ("pattern", "time", "size", "ego", "calibration")}
        none = {name: getattr(self, name)[:0] for name in ("samples", "scene_of", "keys", "neighbours")}
        return dataclasses.replace(self, **kept, **none)


def load_index(folder: Path) -> Index:
    """The index of a folder of tables, read from the file next to them if it fits their present state.

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
    unreadable = contextlib.suppress(*DAMAGED_ARRAY)
    with unreadable, np.load(path, allow_pickle=False) as file:
        if str(file["state"]) == state:
            return Index(**{name: file[name] for name in names})
    index = build_index(folder)
    arrays = {name: getattr(index, name) for name in names}
    # If the folder cannot be written, the tables are read each time.
    with contextlib.suppress(OSError), atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, state=np.array(state), **arrays)
    return index


def build_index(folder: Path) -> Index:
    """The index of a folder of tables, read by nuscenes-devkit.

    Raises:
        InputError: the devkit is missing or cannot read the tables, or a pose in them is not a rotation.
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
            f"{_unreadable_table(folder)} is not a JSON file ({error}); is it truncated? extract the archive "
            "called Metadata again"
        ) from None
    except KeyError as error:
        raise InputError(
            f"the tables in {folder} do not fit together: {error} is missing; are all tables of one version?"
        ) from None
    except (AssertionError, IndexError, OSError, TypeError, ValueError) as error:
        raise InputError(f"nuscenes-devkit cannot read the tables in {folder}: {error}") from None


def _unreadable_table(folder: Path) -> Path:
    """The table that is not JSON; the devkit does not name it."""
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
    for record in records:
        _check_inside(record["filename"], f"{folder / 'sample_data.json'}")
    for record in devkit.scene:
        _check_inside(record["name"], f"{folder / 'scene.json'}", parts=1)
    patterns, pattern = _numbered(
        record["filename"].replace(str(record["timestamp"]), "*") for record in records
    )
    tokens, calibration = _numbered(record["calibrated_sensor_token"] for record in records)
    calibrations = [_calibration(devkit, token, folder) for token in tokens]

    def row(record: dict[str, Any], link: str) -> int:
        """Row of the record that a camera's record links to; neighbours of scans are not kept."""
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


def _check_inside(name: str, table: str, parts: int | None = None) -> None:
    """Refuse a name whose path would leave the folder it is joined to, or have more than `parts` parts."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or (parts and len(path.parts) != parts):
        raise InputError(
            f"{table}: '{name}' would lead out of the dataset's folder; download the tables again"
        )


def _numbered(words: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """The distinct words in order of appearance, and (P,) the index of each word among them."""
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
    """(R, 2) int32 height and width of images, pixels; zeros for a scan."""
    sizes = np.array([[record["height"], record["width"]] for record in records], np.int32).reshape(-1, 2)
    for row in np.flatnonzero(sizes.min(1) < 1):
        if records[row]["channel"] != LIDAR:
            raise InputError(
                f"{folder / 'sample_data.json'}, {records[row]['filename']}: height and width are pixels, "
                f"got {sizes[row, 0]} and {sizes[row, 1]}"
            )
    return sizes


def _vehicle_poses(devkit: Devkit, records: list[dict[str, Any]], folder: Path) -> np.ndarray:
    """Vehicle poses of records: (R, 7), a quaternion and a translation each.

    Raises:
        InputError: a pose is invalid; the sentence names the file of its record."""
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
