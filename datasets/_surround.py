"""The base of surround data: N cameras round a vehicle, one sample a frame set in time.

Cameras go round the vehicle in one order, counter-clockwise seen from above, so the next one is the
neighbour to the left: front, front_left, back_left, back, back_right, front_right. A dataset says where each
stands (`rig_from_camera`: x forward, y left, z up, metres), where it sees its own vehicle (`mask_path`) and
where the matches between neighbours lie (`match_path`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets._sequence import SequenceDataset, check_offsets, read_image
from structures import Frame
from utils import InputError, nearest_name

RING = ("front", "front_left", "back_left", "back", "back_right", "front_right")
MATCH_COLUMNS = ("x", "y", "depth", "angle", "distance_source", "distance_target")
# Where there is no ground truth to validate by, those of the validation part are needed too.
MAKE_MATCHES = "tools/sift_matches.py makes them, those of both parts with --part train val"


class SurroundDataset(SequenceDataset):
    """Six cameras, or some of them, as one sample.

    `overlap` is the share of the image's width, at either side, in which a neighbour may see the same.
    A subclass defines what `SequenceDataset` asks for, with `rig_from_camera`, and `mask_path` and
    `match_path` where it has them. `paths`, `intrinsics`, ... go by `self.camera_names`.

    Args:
        data_path: the dataset's root folder.
        camera_names: which cameras, in ring order; all six where not given.
        frame_ids: 0 and the sources: offsets in frames.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack an image of any camera.
        masks: read the ego masks, as the map `ego_mask`.
        matches: read what tools/sift_matches.py wrote, as the points `matches`: True (from
            `<data_path>/matches`), None for none, or the folder they lie in.
        max_matches: rows of matches a camera, those nearest to their epipolar lines; the rest is padding.

    Raises:
        InputError: an unknown or repeated camera, frame "s", a mask or match file that is not there.
    """

    overlap: ClassVar[float] = 0.31

    def __init__(
        self,
        data_path: str | Path,
        camera_names: Sequence[str] = RING,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 384,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
        masks: bool = False,
        matches: bool | str | Path | None = None,
        max_matches: int = 1024,
    ) -> None:
        check_offsets(frame_ids, "a surround rig")
        if max_matches < 1:
            raise InputError(f"max_matches must be at least 1, got {max_matches}")
        self.camera_names = ring_order(camera_names)
        self.cameras = len(self.camera_names)
        self.masks, self.max_matches = masks, max_matches
        self.matches = Path(data_path) / "matches" if matches is True else Path(matches) if matches else None
        super().__init__(data_path, frame_ids, height, width, resize, skip_missing)
        if self.masks:
            self.maps(self.lines[0])
        if self.matches:
            self._check_matches()

    # What a subclass answers.

    def mask_path(self, line: Any, camera: int) -> Path:
        """An image of the camera's size, not black where it sees its own vehicle."""
        raise InputError(f"{type(self).__name__} has no masks; leave masks off")

    def match_path(self, line: Any, camera: int) -> Path:
        """The matches of a camera's image: a .npy of (K, 6) in the columns `MATCH_COLUMNS`."""
        raise InputError(f"{type(self).__name__} has no matches; leave matches off")

    # What every rig shares.

    def maps(self, line: Any) -> dict[str, Tensor]:
        """`ego_mask` (N, 1, height, width) bool, True where a camera sees its own vehicle."""
        if not self.masks:
            return {}
        masks = [self._ego_mask(self.mask_path(line, n)) for n in range(self.cameras)]
        return {"ego_mask": torch.cat(masks)}

    def _ego_mask(self, path: Path) -> Tensor:
        mask = read_mask(path).float()[None]
        size = (self.height, self.width)
        # Interpolated fringes count as the vehicle, as in the published data.
        return F.interpolate(mask, size, mode="bilinear", align_corners=False) != 0

    def points(self, line: Any) -> dict[str, Tensor]:
        """`matches` (N, max_matches, 6): x and y in pixels at the network's size, then depth in metres, angle
        between the rays in degrees, and distances to the epipolar lines in pixels of the recording."""
        if self.matches is None:
            return {}
        return {"matches": torch.stack([self._matches(line, n) for n in range(self.cameras)])}

    def _matches(self, line: Any, camera: int) -> Tensor:
        rows = read_matches(self.match_path(line, camera))
        nearest = np.argsort(rows[:, 4:].max(1), kind="stable")[: self.max_matches]
        rows = rows[np.sort(nearest)]
        height, width = self.image_size(line, camera)
        rows[:, 0] = (rows[:, 0] + 0.5) * (self.width / width) - 0.5
        rows[:, 1] = (rows[:, 1] + 0.5) * (self.height / height) - 0.5
        padded = torch.zeros(self.max_matches, len(MATCH_COLUMNS))
        padded[: len(rows)] = torch.from_numpy(rows)
        return padded

    def image_size(self, line: Any, camera: int) -> tuple[int, int]:
        """Height and width of the recording, pixels."""
        raise NotImplementedError

    def _check_matches(self) -> None:
        for line in self.lines:
            for camera in range(self.cameras):
                path = self.match_path(line, camera)
                if not path.is_file():
                    raise InputError(f"there are no matches {path}; {MAKE_MATCHES}")


def read_mask(path: Path) -> Tensor:
    """(1, h, w) uint8, not 0 where a camera sees its own vehicle.

    Raises:
        InputError: missing, or no image.
    """
    if not path.is_file():
        raise InputError(f"there is no mask {path}; tools/make_masks.py makes them from the recordings")
    return read_image(path)[:1]


def read_matches(path: Path) -> np.ndarray:
    """(K, 6) float32 in the columns `MATCH_COLUMNS`, places in pixels of the recording.

    Raises:
        InputError: missing, or no matches.
    """
    try:
        rows = np.load(path, allow_pickle=False).astype(np.float32)
    except FileNotFoundError:
        raise InputError(f"there are no matches {path}; {MAKE_MATCHES}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as matches ({error}); remove it and make it again") from None
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
        raise InputError(f"camera_names must name one to six cameras, each once, got {names}")
    return sorted(names, key=RING.index)


def pose_from_quaternion(quaternion: Sequence[float], translation: Sequence[float], where: str) -> np.ndarray:
    """(4, 4) float64 of a unit quaternion (w, x, y, z) and a translation in metres.

    Args:
        quaternion: w, x, y, z; brought to length 1 exactly.
        translation: x, y, z.
        where: names them in the error.

    Raises:
        InputError: the quaternion is no rotation (its length is off by more than 0.001), or a number is not
            finite.
    """
    try:
        q, t = np.asarray(quaternion, np.float64), np.asarray(translation, np.float64)
        fits = q.shape == (4,) and t.shape == (3,) and np.isfinite([*q, *t]).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{where}: expected 4 + 3 finite numbers of a pose, got {quaternion} and {translation}"
        )
    length = np.linalg.norm(q)
    if abs(length - 1) > 1e-3:
        raise InputError(f"{where}: a rotation's quaternion has length 1, this one {length:.6g}")
    w, x, y, z = q / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = t
    return pose
