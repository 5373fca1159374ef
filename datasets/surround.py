"""The base of surround data: N cameras around a vehicle, one frame set in time per sample.

Cameras are in ring order, counter-clockwise seen from above, so the next camera is the neighbour to the left:
front, front_left, back_left, back, back_right, front_right. A dataset gives the extrinsics
(`rig_from_camera`: x forward, y left, z up, metres), ego masks (`mask_path`) and matches between neighbours
(`match_path`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets._derived import check_mask, check_matches
from datasets._speed import check_speeds
from datasets.image_files import read_image
from datasets.sequence import SequenceDataset, check_offsets
from files import DAMAGED_ARRAY
from structures import Frame
from utils import InputError, nearest_name

RING = ("front", "front_left", "back_left", "back", "back_right", "front_right")
SPEEDS_LOOKED_AT = 32  # samples, when a dataset with speed is opened
MATCH_COLUMNS = ("x", "y", "depth", "angle", "distance_source", "distance_target")
# A run without ground truth validates by its losses, so it needs the matches of the validation part as well.
MAKE_MATCHES = "tools/sift_matches.py makes them, those of both parts with --part train val"


class SurroundDataset(SequenceDataset):
    """Six cameras, or some of them, as one sample.

    `overlap` is the share of the image's width at either side in which a neighbour may see the same points.
    A subclass defines the methods of `SequenceDataset`, `rig_from_camera`, and `mask_path` and `match_path`
    if it has masks and matches. `paths`, `intrinsics` and the others are in the order of `self.camera_names`.

    Args:
        data_path: root folder of the dataset.
        camera_names: cameras to read, in ring order; all six if not given.
        frame_ids: 0 and the sources: offsets in frames.
        masks: read the ego masks, as the map `ego_mask`: True from `<data_path>/masks`, a folder, `auto`
            to read them if they exist, False for none.
        matches: read the matches that tools/sift_matches.py wrote, as the points `matches`: True from
            `<data_path>/matches`, a folder, None or False for none.
        max_matches: rows of matches per camera, those nearest to their epipolar lines; the rest is padding.
        speed: give the losses the mean speed of each camera between frames, from its recorded poses.
        published_intrinsics: scale the principal point of a pinhole as SurroundDepth does: cx s, up to half a
            pixel away from (cx + 0.5) s - 0.5, which keeps (0, 0) the centre of the first pixel.

    Raises:
        InputError: an unknown or repeated camera, frame "s", a missing mask or match file.
    """

    default_height: ClassVar[int] = 384
    default_width: ClassVar[int] = 640
    for_losses: ClassVar[tuple[str, ...]] = (
        *SequenceDataset.for_losses,
        "masks",
        "matches",
        "max_matches",
        "speed",
    )
    describes_folder: ClassVar[tuple[str, ...]] = (*SequenceDataset.describes_folder, "masks", "matches")
    provides: ClassVar[Mapping[str, str]] = {
        "points.matches": "--dataset.matches true reads them (tools/sift_matches.py makes them)",
        "maps.ego_mask": "--dataset.masks true reads them (tools/make_masks.py makes them)",
        **dict.fromkeys(("speed", "time_step"), "--dataset.speed true takes it from the recorded poses"),
    }
    overlap: ClassVar[float] = 0.31

    def __init__(
        self,
        data_path: str | Path,
        camera_names: Sequence[str] = RING,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        masks: bool | str | Path = False,
        matches: bool | str | Path | None = None,
        max_matches: int = 1024,
        speed: bool = False,
        published_intrinsics: bool = False,
        **settings: Any,
    ) -> None:
        check_offsets(frame_ids, "a surround rig")
        if max_matches < 1:
            raise InputError(f"--dataset.max_matches must be at least 1, got {max_matches}")
        root = Path(data_path)
        self.camera_names = ring_order(camera_names)
        self.cameras = len(self.camera_names)
        self.max_matches, self.speed = max_matches, speed
        self.published_intrinsics = published_intrinsics
        self._checked: set[Path] = set()  # masks and matches whose origin fits, in this process
        named = isinstance(masks, (str, Path)) and masks != "auto"
        self.mask_folders = [Path(masks)] if named else self._own_mask_folders(root)
        self.matches = root / "matches" if matches is True else Path(matches) if matches else None
        super().__init__(root, frame_ids=frame_ids, **settings)
        self.masks = self._has_masks() if masks == "auto" else bool(masks)
        if self.masks:
            self.maps(self.samples[0])
            self._check_origins(self.samples[-1])
        if speed:
            self._check_speed()
        if self.matches:
            self._check_matches()
            for number in (0, -1):
                self._check_origins(self.samples[number])

    # What a subclass defines.

    def recorded_motion(self, sample: Any, frame: Frame) -> np.ndarray:
        """(N, 4, 4) T_source_from_target of each camera between the times of its two images, metres."""
        raise InputError(f"{type(self).__name__} has no recorded poses; leave out --dataset.speed")

    def times(self, sample: Any, frame: Frame) -> np.ndarray:
        """(N,) int64 time stamps of the cameras' images, microseconds."""
        raise InputError(f"{type(self).__name__} has no time stamps; leave out --dataset.speed")

    def mask_path(self, sample: Any, camera: int) -> Path:
        """An image of the camera's size; pixels that are not black show the ego vehicle."""
        raise InputError(f"{type(self).__name__} has no masks; leave out --dataset.masks")

    def match_path(self, sample: Any, camera: int) -> Path:
        """File with the matches of a camera's image: .npy of (K, 6) in the columns `MATCH_COLUMNS`."""
        raise InputError(f"{type(self).__name__} has no matches; leave out --dataset.matches")

    @staticmethod
    def _own_mask_folders(root: Path) -> list[Path]:
        """Folders of the dataset in which masks are looked for, in this order."""
        return [root / "masks"]

    # What every rig shares.

    def network_intrinsics(self, sample: Any, camera: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels at network size; both rows are only scaled under `published_intrinsics`."""
        if not self.published_intrinsics:
            return super().network_intrinsics(sample, camera, height, width)
        K, (height, width) = self.cut_intrinsics(sample, camera, height, width)
        return np.array([self.width / width, self.height / height, 1])[:, None] * K

    def motion(self, sample: Any, frame: Frame) -> tuple[np.ndarray, np.ndarray] | None:
        """Speed and time step of each camera, (N,) each, with the setting `speed`; nan without time."""
        if not self.speed:
            return None
        seconds = 1e-6 * (self.times(sample, frame) - self.times(sample, 0))
        metres = np.linalg.norm(self.recorded_motion(sample, frame)[:, :3, 3], axis=1)
        return np.divide(metres, np.abs(seconds), np.full(len(metres), np.nan), where=seconds != 0), seconds

    def _check_speed(self) -> None:
        """Look at the speed of some samples, so that a rig that never moves is found at the start."""
        source = next((frame for frame in self.frame_ids if frame != 0), None)
        if source is None:
            return
        spread = self.samples[:: max(1, len(self.samples) // SPEEDS_LOOKED_AT)]
        speeds = np.concatenate([np.atleast_1d(self.motion(sample, source)[0]) for sample in spread])
        check_speeds(speeds[np.isfinite(speeds)], f"{self.data_path}, recorded poses")

    def maps(self, sample: Any) -> dict[str, Tensor]:
        """`ego_mask` (N, 1, height, width) bool, True where a camera sees its own vehicle."""
        if not self.masks:
            return {}
        self._check_origins(sample)
        masks = [self._ego_mask(self.mask_path(sample, n)) for n in range(self.cameras)]
        return {"ego_mask": torch.cat(masks)}

    def _has_masks(self) -> bool:
        return all(self.mask_path(self.samples[0], camera).is_file() for camera in range(self.cameras))

    def _ego_mask(self, path: Path) -> Tensor:
        mask = read_mask(path).float()[None]
        size = (self.height, self.width)
        # Pixels partly covered by the vehicle belong to the ego mask, as in the published data.
        return F.interpolate(mask, size, mode="bilinear", align_corners=False) != 0

    def points(self, sample: Any) -> dict[str, Tensor]:
        """`matches` (N, max_matches, 6), columns `MATCH_COLUMNS`: x and y in pixels at network size, depth in
        metres, angle between the rays in degrees, distances to the epipolar lines in pixels on disk."""
        if self.matches is None:
            return {}
        self._check_origins(sample)
        return {"matches": torch.stack([self._matches(sample, n) for n in range(self.cameras)])}

    def _matches(self, sample: Any, camera: int) -> Tensor:
        rows = read_matches(self.match_path(sample, camera))
        nearest = np.argsort(rows[:, 4:].max(1), kind="stable")[: self.max_matches]
        rows = rows[np.sort(nearest)]
        height, width = self.image_size(sample, camera)
        rows[:, 0] = (rows[:, 0] + 0.5) * (self.width / width) - 0.5
        rows[:, 1] = (rows[:, 1] + 0.5) * (self.height / height) - 0.5
        padded = torch.zeros(self.max_matches, len(MATCH_COLUMNS))
        padded[: len(rows)] = torch.from_numpy(rows)
        return padded

    def image_size(self, sample: Any, camera: int) -> tuple[int, int]:
        """Height and width of the recording, pixels."""
        raise NotImplementedError

    def _check_origins(self, sample: Any) -> None:
        """Refuse masks and matches of a sample that were made from other data; each file is checked once."""
        cameras = range(self.cameras)
        if self.masks:
            for path in {self.mask_path(sample, n) for n in cameras} - self._checked:
                check_mask(path, self.data_path)
                self._checked.add(path)
        new = {self.match_path(sample, n) for n in cameras} - self._checked if self.matches else set()
        if new:
            sizes = [self.image_size(sample, n) for n in cameras]
            K = np.stack([self.intrinsics(sample, n, *size) for n, size in enumerate(sizes)])
            for path in new:
                check_matches(path, self.data_path, self.camera_names, K, self.rig_from_camera(sample))
                self._checked.add(path)

    def _check_matches(self) -> None:
        for sample in self.samples:
            for camera in range(self.cameras):
                path = self.match_path(sample, camera)
                if not path.is_file():
                    raise InputError(f"there are no matches {path}; {MAKE_MATCHES}")


def read_mask(path: Path) -> Tensor:
    """(1, h, w) uint8, not 0 where a camera sees its own vehicle.

    Raises:
        InputError: missing, or not an image.
    """
    if not path.is_file():
        raise InputError(f"there is no mask {path}; tools/make_masks.py makes them from the recordings")
    return read_image(path)[:1]


def read_matches(path: Path) -> np.ndarray:
    """(K, 6) float32 in the columns `MATCH_COLUMNS`, x and y in pixels of the recording.

    Raises:
        InputError: missing, or not an array of matches.
    """
    try:
        rows = np.load(path, allow_pickle=False).astype(np.float32)
    except FileNotFoundError:
        raise InputError(f"there are no matches {path}; {MAKE_MATCHES}") from None
    except DAMAGED_ARRAY as error:
        raise InputError(
            f"{path} cannot be read as matches ({error}); remove it and run tools/sift_matches.py again"
        ) from None
    if rows.ndim != 2 or rows.shape[1] != len(MATCH_COLUMNS):
        raise InputError(f"{path} must be (K, {len(MATCH_COLUMNS)}) matches, got {rows.shape}")
    return rows


def ring_order(camera_names: Sequence[str]) -> list[str]:
    """Cameras counter-clockwise from the front.

    Raises:
        InputError: an unknown or repeated camera, or none.
    """
    names = [camera_names] if isinstance(camera_names, str) else list(camera_names)
    for name in names:
        if name not in RING:
            raise InputError(f"there is no camera '{name}'{nearest_name(name, RING)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"--dataset.camera_names must name one to six cameras, each once, got {names}")
    return sorted(names, key=RING.index)


def pose_from_quaternion(quaternion: Sequence[float], translation: Sequence[float], where: str) -> np.ndarray:
    """(4, 4) float64 of a unit quaternion (w, x, y, z) and a translation in metres.

    Args:
        quaternion: w, x, y, z; normalised to length 1.
        translation: x, y, z.
        where: file and entry, for errors.

    Raises:
        InputError: the quaternion is not a rotation (its length differs from 1 by more than 0.001), or a
            number is not finite.
    """
    try:
        q, t = np.asarray(quaternion, np.float64), np.asarray(translation, np.float64)
        fits = q.shape == (4,) and t.shape == (3,) and np.isfinite([*q, *t]).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(f"{where}: a pose is 4 + 3 finite numbers, got {quaternion} and {translation}")
    length = np.linalg.norm(q)
    if abs(length - 1) > 1e-3:
        raise InputError(f"{where}: the quaternion of a rotation must have length 1, got {length:.6g}")
    w, x, y, z = q / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = t
    return pose
