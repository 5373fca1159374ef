"""Base of every layout: the plan, and functions that write files."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets.synthetic import Room, View, World
from utils import atomic_path

RATE = 10.0  # frames a second


@dataclass(frozen=True)
class Plan:
    """A dataset to write. Sizes in pixels; `ext` is png or jpg; `camera` is pinhole or fisheye; `traffic` is
    usual, dense or queues; `scenes` are streets, rooms, or mixed: every second sequence a room.
    """

    layout: str
    out: Path
    sequences: int
    frames: int
    height: int
    width: int
    seed: int
    ext: str
    camera: str = "pinhole"
    traffic: str = "usual"
    scenes: str = "streets"

    def world(self, sequence: int) -> World:
        return _world(self.seed * 1000 + sequence, self.frames / RATE, self.traffic)

    def room(self, sequence: int) -> Room:
        return _room(self.seed * 1000 + sequence, self.frames / RATE)


@functools.lru_cache(maxsize=4)
def _world(seed: int, seconds: float, traffic: str) -> World:
    return World(seed, seconds, traffic)


@functools.lru_cache(maxsize=4)
def _room(seed: int, seconds: float) -> Room:
    return Room(seed, seconds)


class Layout:
    """A dataset's place on disk: one frame of one sequence at a time, then what there is once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def write_frame(self, sequence: int, frame: int) -> None:
        raise NotImplementedError

    def write_sequence(self, sequence: int) -> None:
        """Write calibration, poses and time stamps of a sequence."""

    def write_splits(self) -> None:
        """Lists of training and evaluation frames."""

    def gallery_view(self, sequence: int) -> View:
        """The view in the middle of a sequence, for the image grid."""
        raise NotImplementedError

    def held_out(self) -> list[int]:
        """Numbers of the held-out sequences: the last quarter, and at least one if there are several."""
        count = self.plan.sequences
        return list(range(count - max(count // 4, int(count > 1)), count))


def looking_ahead(x: float, y: float, z: float) -> np.ndarray:
    """(4, 4) rig_from_camera of a camera at (x, y, z) on the rig that looks along its x axis."""
    rig_from_camera = np.eye(4)
    rig_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    rig_from_camera[:3, 3] = x, y, z
    return rig_from_camera


def numbers(values: np.ndarray | Iterable[float]) -> str:
    """Values as calibration files write them, row by row."""
    return " ".join(f"{value:.12e}" for value in np.ravel(values))


def pose_row(pose: np.ndarray) -> str:
    return numbers(pose[:3]) + "\n"


def save_array(path: Path, array: np.ndarray) -> None:
    """An image as OpenCV orders it; PNG or JPEG by the path's ending."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_PNG_COMPRESSION, 2]
    encoded = cv2.imencode(path.suffix, array, quality)[1]
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)


def save_image(path: Path, image: np.ndarray) -> None:
    """(H, W, 3) uint8 RGB."""
    save_array(path, np.ascontiguousarray(image[..., ::-1]))


def save_depth(path: Path, depth: np.ndarray) -> None:
    """(H, W) metres as uint16 of depth * 256; 0 where there is none."""
    save_array(path, (depth * 256).round().astype(np.uint16))


def save_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)
