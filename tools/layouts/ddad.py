"""DDAD: scenes in TRI's DGP format, with every field that the DGP library requires."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from datasets._dgp import microseconds, rfc3339
from datasets.ddad import CAMERAS
from datasets.synthetic import View, rotation
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, save_array, save_depth, save_image, save_text
from tools.layouts._rig import SurroundRig, quaternion
from utils import atomic_path

SENSORS = tuple(CAMERAS.values())
START = microseconds("2019-09-01T03:24:48.168641Z")
LIDAR_LATE = 0.0137  # seconds behind the cameras; 9 to 21 ms in the real recordings


@LAYOUTS.register("ddad")
class DdadScenes(Layout):
    """DDAD: ddad.json and numbered scenes of six cameras and a LiDAR.

    As in the real recordings the world's origin is far away, the LiDAR comes a little after the cameras, its
    points are given in the vehicle's frame, and half of the clocks run tenfold. In addition to
    the recordings' files, `ground_truth` holds dense depth (uint16, depth * 256) and ego masks.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rig = SurroundRig(plan.height, plan.width)

    def scene(self, sequence: int) -> str:
        return f"{sequence:06d}"

    def stamp(self, sequence: int, time: float) -> int:
        """Microseconds of the scene's own clock."""
        clock = START + sequence * 3_600_000_000 + round(time * 1e6)
        return clock * 10 if sequence % 2 else clock

    def world_from_rig(self, sequence: int, time: float) -> np.ndarray:
        """Pose of the vehicle, (4, 4), in the coordinates of the scene's log."""
        log_from_street = rotation(0.7 + sequence, 0.0, 0.0)
        log_from_street[:3, 3] = 111.5, -2261.4, -12.7
        return log_from_street @ self.plan.world(sequence).ego_pose(time)

    def write_frame(self, sequence: int, frame: int) -> None:
        world, time, scene = self.plan.world(sequence), frame / RATE, self.scene(sequence)
        stamp = self.stamp(sequence, time)
        for number, sensor in enumerate(SENSORS):
            view = self.rig.view(world, number, time)
            save_image(self.plan.out / scene / f"rgb/{sensor}/{stamp}.{self.plan.ext}", view.image)
            save_depth(self.plan.out / f"ground_truth/{scene}/{sensor}/{stamp}.png", view.depth)
        late = time + LIDAR_LATE
        scan = self.rig.scan(world, late).astype(np.float64)
        to_rig = self.rig.rig_from_lidar
        scan[:, :3] = scan[:, :3] @ to_rig[:3, :3].T + to_rig[:3, 3]
        points = self.plan.out / scene / f"point_cloud/LIDAR/{self.stamp(sequence, late)}.npz"
        with atomic_path(points) as path, open(path, "wb") as file:
            np.savez_compressed(file, data=scan)

    def write_sequence(self, sequence: int) -> None:
        folder = self.plan.out / self.scene(sequence)
        calibration = self.calibration()
        key = _sha1(calibration)
        save_text(folder / f"calibration/{key}.json", _text(calibration))
        data, samples = [], []
        for frame in range(self.plan.frames):
            stamps = [self.stamp(sequence, frame / RATE)] * len(SENSORS)
            stamps.append(self.stamp(sequence, frame / RATE + LIDAR_LATE))
            datums = [
                self.datum(sequence, frame, name, stamp) for name, stamp in zip((*SENSORS, "LIDAR"), stamps)
            ]
            data += datums
            identity = _identity(sequence, "", stamps[-1], frame)
            keys = [datum["key"] for datum in datums]
            samples.append({"id": identity, "calibration_key": key, "datum_keys": keys, "metadata": {}})
        scene = {
            "name": self.scene(sequence),
            "log": _log(sequence),
            "description": "",
            "ontologies": {},
            "samples": samples,
            "data": data,
        }
        save_text(folder / self.scene_file(sequence), _text(scene))

    def scene_file(self, sequence: int) -> str:
        return f"scene_{_sha1([self.plan.seed, sequence])}.json"

    def datum(self, sequence: int, frame: int, name: str, stamp: int) -> dict[str, Any]:
        """The record of a sensor: data, time and pose."""
        if name == "LIDAR":
            pose = self.world_from_rig(sequence, frame / RATE + LIDAR_LATE)
            body = {
                "filename": f"point_cloud/LIDAR/{stamp}.npz",
                "point_format": ["X", "Y", "Z", "INTENSITY"],
                "point_fields": [],
            }
        else:
            place = self.rig.rig_from_camera(SENSORS.index(name))
            pose = self.world_from_rig(sequence, frame / RATE) @ place
            body = {
                "filename": f"rgb/{name}/{stamp}.{self.plan.ext}",
                "height": self.plan.height,
                "width": self.plan.width,
                "channels": 3,
            }
        body = {**body, "annotations": {}, "metadata": {}, "pose": _pose(pose)}
        keys = [
            _sha1([self.plan.seed, sequence, name, near]) if 0 <= near < self.plan.frames else ""
            for near in (frame, frame + 1, frame - 1)
        ]
        return {
            "id": _identity(sequence, name, stamp, frame),
            **dict(zip(("key", "next_key", "prev_key"), keys)),
            "datum": {"point_cloud" if name == "LIDAR" else "image": body},
        }

    def calibration(self) -> dict[str, Any]:
        """Calibration of every scene; the LiDAR comes first, with empty intrinsics."""
        intrinsics = [dict.fromkeys(("fx", "fy", "cx", "cy", "skew"), 0)]
        extrinsics = [_pose(np.eye(4))]
        for number in range(len(SENSORS)):
            K = self.rig.camera(number).intrinsics
            intrinsics.append({"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "skew": 0})
            extrinsics.append(_pose(self.rig.rig_from_camera(number)))
        return {"names": ["LIDAR", *SENSORS], "intrinsics": intrinsics, "extrinsics": extrinsics}

    def write_splits(self) -> None:
        held_out = self.held_out()
        training = [n for n in range(self.plan.sequences) if n not in held_out]
        splits = {
            key: {"filenames": [f"{self.scene(n)}/{self.scene_file(n)}" for n in sequences]}
            for key, sequences in (("0", training), ("1", held_out or training))
        }
        metadata = {"name": "synthetic", "version": "1", "origin": "PUBLIC", "available_annotation_types": []}
        save_text(self.plan.out / "ddad.json", _text({"metadata": metadata, "scene_splits": splits}))
        for number, sensor in enumerate(SENSORS):
            own = self.rig.own_vehicle(number).astype(np.uint8) * 255
            save_array(self.plan.out / f"ground_truth/masks/{sensor}.png", own)

    def gallery_view(self, sequence: int) -> View:
        return self.rig.view(self.plan.world(sequence), 0, self.plan.frames // 2 / RATE)


def _identity(sequence: int, name: str, stamp: int, frame: int) -> dict[str, str]:
    # 64-bit integers are strings in protobuf's JSON.
    return {"log": _log(sequence), "name": name, "timestamp": rfc3339(stamp), "index": str(frame)}


def _log(sequence: int) -> str:
    return f"synthetic_{sequence:06d}"


def _pose(pose: np.ndarray) -> dict[str, dict[str, float]]:
    turn = dict(zip(("qw", "qx", "qy", "qz"), quaternion(pose[:3, :3])))
    return {"translation": dict(zip("xyz", pose[:3, 3].tolist())), "rotation": turn}


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, indent=2, sort_keys=True) + "\n"


def _sha1(value: Any) -> str:
    return hashlib.sha1(json.dumps(value, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
