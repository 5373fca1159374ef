"""nuScenes: scenes in its 13 tables, as nuscenes-devkit loads them, with the names of official scenes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets._nuscenes_tables import CHANNELS, LIDAR, TABLES
from datasets.splits import load_split
from datasets.synthetic import View, rotation
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, save_array, save_depth, save_image, save_text
from tools.layouts._rig import SurroundRig, quaternion
from utils import InputError, atomic_path

VERSION = "v1.0-trainval"
START = 1532402927647951  # microseconds
SENSORS = (*CHANNELS.values(), LIDAR)
# Seconds from a scan's time to each camera's image, which is taken as the LiDAR sweeps past it; from the
# first key frame of v1.0-mini.
LATE = dict(zip(SENSORS, (-0.0355, -0.0431, -0.0005, -0.0104, -0.0201, -0.0276, 0.0)))
FIRST = 0.05  # seconds into the drive: the first scan
LIDAR_YAW = np.radians(-90)  # its x axis points to the right


@dataclass(frozen=True)
class Shot:
    """One image or scan: its sensor, frame of the plan, and time in the world."""

    channel: str
    frame: int
    time: float


@LAYOUTS.register("nuscenes")
class NuScenesTables(Layout):
    """nuScenes: tables, key frames in `samples`, the images between in `sweeps`.

    Every fifth frame is a key frame; in sequences of less than twelve frames, every second one. The first
    key frame is frame 1, which has a neighbour on either side. As in the real recordings, each camera fires
    at its own time and each record has its own vehicle pose. LiDAR scans are written only for key frames. In
    addition to the real dataset's files, `ground_truth` holds dense depth of the key frames (uint16,
    depth * 256) and `ground_truth/masks` holds the ego masks.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rig = SurroundRig(plan.height, plan.width)
        self.rig_from_lidar = self.rig.rig_from_lidar @ rotation(LIDAR_YAW, 0.0, 0.0)
        self.step = 5 if plan.frames >= 12 else 2

    # What a sequence is called, when and where it is.

    def scene(self, sequence: int) -> str:
        """An official scene name: of val for held-out sequences, otherwise of train."""
        held_out = self.held_out()
        part = "val" if sequence in held_out else "train"
        names = [line.folder for line in load_split("nuscenes", "official", part)]
        number = held_out.index(sequence) if sequence in held_out else sequence
        if number >= len(names):
            raise InputError(
                f"--sequences needs more {part} scenes than nuScenes has ({len(names)}); try fewer"
            )
        return names[number]

    def log(self, sequence: int) -> str:
        return f"n{15 + sequence % 2:03d}-2018-07-24-11-22-{sequence:02d}+0800"

    def is_key(self, frame: int) -> bool:
        return frame % self.step == 1

    def shot(self, channel: str, frame: int) -> Shot:
        return Shot(channel, frame, FIRST + frame / RATE + LATE[channel])

    def shots(self, channel: str) -> list[Shot]:
        """Recordings of one sensor in order of time; scans only at key frames."""
        frames = (frame for frame in range(self.plan.frames) if channel != LIDAR or self.is_key(frame))
        return [self.shot(channel, frame) for frame in frames]

    def stamp(self, sequence: int, time: float) -> int:
        """Microseconds since 1970."""
        return START + sequence * 60_000_000 + round(time * 1e6)

    def stem(self, sequence: int, shot: Shot) -> str:
        return f"{self.log(sequence)}__{shot.channel}__{self.stamp(sequence, shot.time)}"

    def filename(self, sequence: int, shot: Shot) -> str:
        folder = "samples" if self.is_key(shot.frame) else "sweeps"
        ext = "pcd.bin" if shot.channel == LIDAR else self.plan.ext
        return f"{folder}/{shot.channel}/{self.stem(sequence, shot)}.{ext}"

    def world_from_rig(self, sequence: int, time: float) -> np.ndarray:
        """(4, 4) map_from_rig, in the coordinates of the log's map."""
        map_from_street = rotation(0.9 + sequence, 0.0, 0.0)
        map_from_street[:2, 3] = 411.3, 1180.9
        return map_from_street @ self.plan.world(sequence).ego_pose(time)

    # Images and scans.

    def write_frame(self, sequence: int, frame: int) -> None:
        world = self.plan.world(sequence)
        for number, channel in enumerate(CHANNELS.values()):
            shot = self.shot(channel, frame)
            view = self.rig.view(world, number, shot.time)
            save_image(self.plan.out / self.filename(sequence, shot), view.image)
            if self.is_key(frame):
                save_depth(
                    self.plan.out / f"ground_truth/samples/{channel}/{self.stem(sequence, shot)}.png",
                    view.depth,
                )
        if self.is_key(frame):
            shot = self.shot(LIDAR, frame)
            with atomic_path(self.plan.out / self.filename(sequence, shot)) as path:
                self.scan(sequence, shot.time).tofile(path)

    def scan(self, sequence: int, time: float) -> np.ndarray:
        """(P, 5) float32 in the LiDAR's frame: x, y, z in metres, intensity to 255, ring to 31."""
        scan = self.rig.scan(self.plan.world(sequence), time)
        height = np.degrees(np.arcsin(scan[:, 2] / np.linalg.norm(scan[:, :3], axis=1)))
        ring = ((height + 30.67) / 1.33).round().clip(0, 31)
        points = scan[:, :3] @ rotation(LIDAR_YAW, 0.0, 0.0)[:3, :3]
        return np.column_stack([points, scan[:, 3] * 255, ring]).astype("<f4")

    def write_sequence(self, sequence: int) -> None:
        for number, channel in enumerate(CHANNELS.values()):
            path = self.plan.out / f"ground_truth/masks/{channel}/{self.scene(sequence)}.png"
            save_array(path, self.rig.own_vehicle(number).astype(np.uint8) * 255)

    def gallery_view(self, sequence: int) -> View:
        time = self.shot("CAM_FRONT", self.plan.frames // 2).time
        return self.rig.view(self.plan.world(sequence), 0, time)

    # Tables.

    def write_splits(self) -> None:
        """Write the tables; the names of the scenes decide which are for training."""
        tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        tables["sensor"] = [
            {"token": self.token("sensor", channel), "channel": channel, "modality": modality}
            for channel in SENSORS
            for modality in ["lidar" if channel == LIDAR else "camera"]
        ]
        tables["map"] = [
            {
                "token": self.token("map"),
                "log_tokens": [self.token("log", n) for n in range(self.plan.sequences)],
                "category": "semantic_prior",
                "filename": "maps/synthetic.png",
            }
        ]
        save_array(self.plan.out / "maps/synthetic.png", np.zeros((8, 8), np.uint8))
        for sequence in range(self.plan.sequences):
            tables["log"].append(self.log_record(sequence))
            tables["calibrated_sensor"] += self.calibrations(sequence)
            tables["sample"] += self.samples(sequence)
            tables["scene"].append(self.scene_record(sequence))
            for data, pose in self.records(sequence):
                tables["sample_data"].append(data)
                tables["ego_pose"].append(pose)
        for name, records in tables.items():
            save_text(self.plan.out / VERSION / f"{name}.json", json.dumps(records, indent=0) + "\n")

    def token(self, *what: Any) -> str:
        """32 hexadecimal digits, equal for equal arguments."""
        return hashlib.md5(repr((self.plan.seed, *what)).encode(), usedforsecurity=False).hexdigest()

    def log_record(self, sequence: int) -> dict[str, Any]:
        return {
            "token": self.token("log", sequence),
            "logfile": self.log(sequence),
            "vehicle": self.log(sequence)[:4],
            "date_captured": "2018-07-24",
            "location": "synthetic",
        }

    def calibrations(self, sequence: int) -> list[dict[str, Any]]:
        """Extrinsics of the sensors and intrinsics of the cameras."""
        places = [self.rig.rig_from_camera(number) for number in range(len(CHANNELS))]
        matrices = [self.rig.camera(number).intrinsics.tolist() for number in range(len(CHANNELS))]
        return [
            {
                "token": self.token("calibrated_sensor", sequence, channel),
                "sensor_token": self.token("sensor", channel),
                **_pose(place),
                "camera_intrinsic": matrix,
            }
            for channel, place, matrix in zip(SENSORS, [*places, self.rig_from_lidar], [*matrices, []])
        ]

    def keys(self) -> list[int]:
        return [frame for frame in range(self.plan.frames) if self.is_key(frame)]

    def samples(self, sequence: int) -> list[dict[str, Any]]:
        tokens = [self.token("sample", sequence, frame) for frame in self.keys()]
        return [
            {
                "token": token,
                "timestamp": self.stamp(sequence, self.shot(LIDAR, frame).time),
                "prev": before,
                "next": after,
                "scene_token": self.token("scene", sequence),
            }
            for token, frame, before, after in zip(tokens, self.keys(), ["", *tokens[:-1]], [*tokens[1:], ""])
        ]

    def scene_record(self, sequence: int) -> dict[str, Any]:
        tokens = [sample["token"] for sample in self.samples(sequence)]
        return {
            "token": self.token("scene", sequence),
            "log_token": self.token("log", sequence),
            "nbr_samples": len(tokens),
            "first_sample_token": tokens[0],
            "last_sample_token": tokens[-1],
            "name": self.scene(sequence),
            "description": f"synthetic street {self.plan.seed * 1000 + sequence}",
        }

    def records(self, sequence: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The record of every image and scan, and the pose of the vehicle at its time."""
        for channel in SENSORS:
            shots = self.shots(channel)
            tokens = [self.token("sample_data", sequence, channel, shot.frame) for shot in shots]
            links = zip(["", *tokens[:-1]], [*tokens[1:], ""])
            for shot, token, (before, after) in zip(shots, tokens, links):
                # A record between two key frames belongs to the later one.
                key = next((frame for frame in self.keys() if frame >= shot.frame), self.keys()[-1])
                stamp = self.stamp(sequence, shot.time)
                pose_token = self.token("ego_pose", sequence, channel, shot.frame)
                camera = channel != LIDAR
                data = {
                    "token": token,
                    "sample_token": self.token("sample", sequence, key),
                    "ego_pose_token": pose_token,
                    "calibrated_sensor_token": self.token("calibrated_sensor", sequence, channel),
                    "timestamp": stamp,
                    "fileformat": self.plan.ext if camera else "pcd",
                    "is_key_frame": self.is_key(shot.frame),
                    "height": self.plan.height if camera else 0,
                    "width": self.plan.width if camera else 0,
                    "filename": self.filename(sequence, shot),
                    "prev": before,
                    "next": after,
                }
                place = _pose(self.world_from_rig(sequence, shot.time))
                yield data, {"token": pose_token, "timestamp": stamp, **place}


def _pose(pose: np.ndarray) -> dict[str, list[float]]:
    """A (4, 4) pose in the form of the tables: quaternion w, x, y, z and translation in metres."""
    return {"rotation": quaternion(pose[:3, :3]), "translation": pose[:3, 3].tolist()}
