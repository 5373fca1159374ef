"""TRI's DGP format, in which DDAD is published: JSON files with each sensor's data, time stamps and poses.

    <root>/ddad.json                                  which scenes are train, val, test
    <root>/000187/scene_<sha1>.json                   samples, and for each sensor a file, time stamp and pose
    <root>/000187/calibration/<calibration_key>.json  intrinsics, and each sensor's extrinsics
    <root>/000187/rgb/CAMERA_01/15616458249936530.png
    <root>/000187/point_cloud/LIDAR/15616458250027900.npz

The files are protobuf messages written as JSON: names in snake_case or camelCase, enums as words or numbers,
and values equal to their default may be absent. All forms are read; unknown fields are ignored. Neither the
DGP library nor its caches are needed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.surround import pose_from_quaternion
from files import DAMAGED_ARRAY
from utils import InputError

PARTS = {"0": "train", "1": "val", "2": "test", "3": "train_overfit"}
EPOCH = datetime(1970, 1, 1)
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
EXTRACT_AGAIN = "is the archive extracted whole?"

Read = TypeVar("Read", bound=Callable)


@dataclass(frozen=True)
class Scene:
    """One recording of S samples and the D requested sensors.

    Attributes:
        path: its JSON file.
        sensors: names of the sensors, in the requested order.
        stamps: (S, D) int64 microseconds, as in the file names; -1 if a sample lacks the sensor.
        files: S x D paths relative to the scene's folder; "" if lacking.
        sizes: (S, D, 2) height and width of an image, 0 if the file does not give them.
        quaternions, translations: (S, D, 4) w x y z and (S, D, 3) metres, world_from_sensor at the sensor's
            own time; nan if the file does not give them.
        calibration_keys: S names of calibration files.
    """

    path: Path
    sensors: tuple[str, ...]
    stamps: np.ndarray
    files: list[list[str]]
    sizes: np.ndarray
    quaternions: np.ndarray
    translations: np.ndarray
    calibration_keys: list[str]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def name(self) -> str:
        """Name of the scene's folder, such as 000187."""
        return self.path.parent.name

    def missing(self, sensors: Sequence[int]) -> np.ndarray:
        """(S,) bool, samples that lack one of these sensors (columns)."""
        return (self.stamps[:, list(sensors)] < 0).any(1)

    def file(self, sample: int, sensor: int) -> Path:
        """The file of a sensor's image or points."""
        return self.path.parent / self.files[sample][sensor]

    def world_from_sensor(self, sample: int, sensor: int) -> np.ndarray:
        """(4, 4) float64 of numbers rounded to float32, as the reference library reads them.

        Raises:
            InputError: no pose in the file, or one that is not a rotation.
        """
        q, t = self.quaternions[sample, sensor], self.translations[sample, sensor]
        where = f"{self.path}, sample {sample}, {self.sensors[sensor]}"
        if np.isnan(q).all():
            raise InputError(f"{where}: there is no pose; {EXTRACT_AGAIN}")
        return pose_from_quaternion(q.astype(np.float32), t.astype(np.float32), where)

    def calibration(self, sample: int) -> Calibration:
        """The calibration of a sample; each file is read once.

        Raises:
            InputError: the sample names none, or there is no such file.
        """
        key = self.calibration_keys[sample]
        if key not in self._calibrations:
            where = f"{self.path}, sample {sample}"
            if not key:
                raise InputError(f"{where}: no calibration_key, so the cameras' intrinsics are not known")
            path = self.path.parent / "calibration" / f"{key}.json"
            if not path.is_file():
                raise InputError(f"{where}: there is no calibration {path}; {EXTRACT_AGAIN}")
            self._calibrations[key] = read_calibration(path)
        return self._calibrations[key]

    @cached_property
    def _calibrations(self) -> dict[str, Calibration]:
        return {}


@dataclass(frozen=True)
class Calibration:
    """The contents of a calibration file.

    Attributes:
        path: its file.
        intrinsics: sensor, upper case → (3, 3) float32 pixels; cameras only.
        rig_from_sensor: sensor, upper case → (4, 4) float64, its extrinsics, metres.
    """

    path: Path
    intrinsics: dict[str, np.ndarray]
    rig_from_sensor: dict[str, np.ndarray]

    def K(self, camera: str) -> np.ndarray:
        """(3, 3) float32, pixels."""
        return self._of(self.intrinsics, camera, "camera")

    def extrinsics(self, sensor: str) -> np.ndarray:
        """(4, 4) rig_from_sensor, metres."""
        return self._of(self.rig_from_sensor, sensor, "sensor")

    def _of(self, table: Mapping[str, np.ndarray], sensor: str, kind: str) -> np.ndarray:
        if sensor not in table:
            raise InputError(f"{self.path}: there is no {kind} {sensor} (there are {', '.join(table)})")
        return table[sensor]


# ----------------------------------------------------------------------------- the files


def _in_words(read: Read) -> Read:
    """Call `read(path, ...)`; a value of a type that the format does not allow raises a sentence."""

    @functools.wraps(read)
    def guarded(path: str | Path, *more: Any) -> Any:
        try:
            return read(path, *more)
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not in the DGP format ({error}); {EXTRACT_AGAIN}") from None

    return guarded


@_in_words
def scene_files(path: str | Path) -> dict[str, list[Path]]:
    """Part → the scene JSONs that a dataset JSON lists, in its order.

    Raises:
        InputError: it is not readable, or lists no scene.
    """
    path = Path(path)
    splits = _field(_read_json(path), "scene_splits", {})
    parts: dict[str, list[Path]] = {}
    for key, split in splits.items():
        part = PARTS.get(str(key), str(key).lower())
        parts[part] = [path.parent / name for name in _field(split, "filenames", [])]
    if not any(parts.values()):
        raise InputError(f"{path} lists no scene under scene_splits; is it a dataset file such as ddad.json?")
    return parts


@_in_words
def read_scene(path: str | Path, sensors: Sequence[str]) -> Scene:
    """The entries of a scene JSON for `sensors`; case of names is ignored.

    Raises:
        InputError: it is truncated or of another format, or a sample names data that it does not hold.
    """
    path = Path(path)
    message = _read_json(path)
    columns = {name.upper(): column for column, name in enumerate(sensors)}
    data: dict[Any, Mapping[str, Any]] = {}
    for datum in _field(message, "data", []):
        if data.setdefault(datum.get("key"), datum) != datum:
            raise InputError(
                f"{path} holds two different entries with the key {datum.get('key')}; {EXTRACT_AGAIN}"
            )
    samples = _field(message, "samples", [])
    count = (len(samples), len(columns))
    stamps, sizes = np.full(count, -1, np.int64), np.zeros((*count, 2), np.int32)
    quaternions, translations = np.full((*count, 4), np.nan), np.zeros((*count, 3))
    files = [[""] * len(columns) for _ in samples]
    for row, sample in enumerate(samples):
        for key in _field(sample, "datum_keys", []):
            if key not in data:
                raise InputError(f"{path}, sample {row}: the file holds no datum {key}; {EXTRACT_AGAIN}")
            head = _field(data[key], "id", {})
            column = columns.get(str(_field(head, "name", "")).upper())
            if column is None:
                continue
            if files[row][column]:
                raise InputError(f"{path}, sample {row} has {sensors[column]} twice; one of them must go")
            body = data[key].get("datum", {})
            body = _field(body, "image", None) or _field(body, "point_cloud", {})
            files[row][column] = _field(body, "filename", "")
            stamps[row, column] = microseconds(_field(head, "timestamp", ""), f"{path}, sample {row}")
            sizes[row, column] = int(_field(body, "height", 0)), int(_field(body, "width", 0))
            if pose := _field(body, "pose", None):
                quaternions[row, column], translations[row, column] = _pose(pose)
    keys = [str(_field(sample, "calibration_key", "")) for sample in samples]
    return Scene(path, tuple(sensors), stamps, files, sizes, quaternions, translations, keys)


@_in_words
def read_calibration(path: str | Path) -> Calibration:
    """A calibration JSON: three parallel lists; a sensor without a focal length is not a camera.

    Raises:
        InputError: it is truncated or of another format, its lists differ in length, a name is there twice,
            intrinsics are not finite, or extrinsics are not a rotation.
    """
    path = Path(path)
    message = _read_json(path)
    names = [str(name).upper() for name in _field(message, "names", [])]
    cameras, extrinsics = _field(message, "intrinsics", []), _field(message, "extrinsics", [])
    if not len(names) == len(cameras) == len(extrinsics):
        raise InputError(
            f"{path}: {len(names)} names, {len(cameras)} intrinsics and {len(extrinsics)} extrinsics; "
            "they must be as many"
        )
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{path} has {', '.join(sorted(twice))} twice; one of them must go")
    intrinsics, rig_from_sensor = {}, {}
    for name, camera, pose in zip(names, cameras, extrinsics):
        fx, fy, cx, cy = (float(camera.get(key, 0)) for key in ("fx", "fy", "cx", "cy"))
        if not np.isfinite([fx, fy, cx, cy]).all():
            raise InputError(f"{path}, {name}: fx, fy, cx and cy are pixels, got {fx}, {fy}, {cx}, {cy}")
        if fx > 0 and fy > 0:
            intrinsics[name] = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)
        quaternion, translation = (np.array(part, np.float32) for part in _pose(pose))
        rig_from_sensor[name] = pose_from_quaternion(quaternion, translation, f"{path}, {name}")
    return Calibration(path, intrinsics, rig_from_sensor)


def read_points(path: str | Path) -> np.ndarray:
    """(N, 3) float64 metres in the LiDAR's frame, of an npz with the rows x, y, z, ... under `data`.

    Raises:
        InputError: missing, truncated, or of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            data = arrays["data"]
    except FileNotFoundError:
        raise InputError(
            f"there are no LiDAR points {path}; {EXTRACT_AGAIN} (--skip_missing evaluates without)"
        ) from None
    except DAMAGED_ARRAY as error:
        raise InputError(f"{path} cannot be read as LiDAR points ({error}); is it truncated?") from None
    if data.dtype.names and {"X", "Y", "Z"} <= set(data.dtype.names):
        data = np.stack([data["X"], data["Y"], data["Z"]], 1)
    if data.ndim != 2 or data.shape[1] < 3 or not np.issubdtype(data.dtype, np.floating):
        raise InputError(f"{path}: LiDAR points are rows of x, y, z, ..., got {data.dtype} {data.shape}")
    return data[:, :3].astype(np.float64)


def microseconds(text: str, where: str = "time stamp") -> int:
    """`2464-11-12T01:04:09.936530Z` as 15616458249936530, exactly; an absent time is 0.

    Raises:
        InputError: not a time in RFC 3339; `where` locates it.
    """
    if not text:
        return 0
    try:
        # Until 3.11 fromisoformat takes neither Z nor fractions of any length, so these are cut off.
        seconds = (datetime.fromisoformat(text[:19]) - EPOCH) // SECOND
        rest = text[19:].rstrip("Zz")
        fraction, sign, offset = rest.partition("-" if "-" in rest else "+")
        if fraction and not (fraction[0] == "." and fraction[1:].isdecimal()):
            raise ValueError
        if offset:
            hours, minutes = map(int, offset.split(":"))
            seconds -= (60 * hours + minutes) * (-60 if sign == "-" else 60)
        return seconds * 10**6 + int(fraction[1:7].ljust(6, "0"))
    except (TypeError, ValueError):
        raise InputError(f"{where}: expected a time such as 2020-01-31T12:00:00.5Z, got '{text}'") from None


def rfc3339(stamp: int) -> str:
    """The inverse of `microseconds`."""
    return f"{EPOCH + stamp * MICROSECOND:%Y-%m-%dT%H:%M:%S.%f}Z"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        message = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {EXTRACT_AGAIN}") from None
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file ({error}); is it truncated? extract it again") from None
    if not isinstance(message, dict):
        raise InputError(f"{path}: expected a JSON object, got a {type(message).__name__}")
    return message


def _field(message: Mapping[str, Any], name: str, default: Any) -> Any:
    """A field under its snake_case or camelCase name; null is absent."""
    value = message.get(name)
    if value is None and "_" in name:
        first, *others = name.split("_")
        value = message.get(first + "".join(map(str.capitalize, others)))
    return default if value is None else value


def _pose(pose: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Quaternion w, x, y, z and translation; absent values are 0."""
    rotation, translation = _field(pose, "rotation", {}), _field(pose, "translation", {})
    quaternion = [float(rotation.get(key, 0)) for key in ("qw", "qx", "qy", "qz")]
    return quaternion, [float(translation.get(key, 0)) for key in "xyz"]


# ----------------------------------------------------------------------------- depth from LiDAR


def project_points(
    world: np.ndarray, world_from_camera: np.ndarray, K: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of LiDAR points in a camera's image, by the DGP library's rules.

    Pixel coordinates are truncated towards zero, so points up to one pixel left of or above the image fall
    into its first column or row. There is no depth range and no occlusion test. Of several points in a pixel
    the library keeps the last, as numpy does in `depth[rows, columns] = metres`.

    Args:
        world: (3, N) float64 metres.
        world_from_camera: (4, 4) float64.
        K: (3, 3) float32 pixels.
        height, width: size of the image.

    Returns:
        Rows, columns and metres along the optical axis, (K,) each, in the order of the points.
    """
    rotation, position = world_from_camera[:3, :3], world_from_camera[:3, 3]
    camera = rotation.T @ world - (rotation.T @ position)[:, None]
    x, y, z = camera.take(np.flatnonzero(camera[2] > 0), 1)  # twice as fast as a mask
    u = float(K[0, 0]) * x / z + float(K[0, 2])
    v = float(K[1, 1]) * y / z + float(K[1, 2])
    inside = np.flatnonzero((u > -1) & (v > -1) & (u < width) & (v < height))
    return v[inside].astype(np.int64), u[inside].astype(np.int64), z[inside]
