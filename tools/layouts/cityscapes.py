"""Cityscapes: recordings of several cities with cameras, stereo disparity and labels, as downloaded."""

from __future__ import annotations

import json

import numpy as np

from datasets._cityscapes import NATIVE, frame_name
from datasets._cityscapes_labels import LABEL_IDS
from datasets.resizing import resize_intrinsics
from datasets.synthetic import Camera, View
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, looking_ahead, save_array, save_image, save_text
from utils import InputError

BASELINE = 0.209313  # metres
INTRINSICS = np.array([[2262.52, 0, 1096.98], [0, 2265.3017905988554, 513.137], [0, 0, 1]])  # of `NATIVE`
PLACE = (1.7, 0.1, 1.22)  # of the camera on the car, metres
ANNOTATED = 19  # of the 30 frames of a real recording the one with labels
CITIES = {"train": "aachen", "val": "frankfurt", "test": "berlin"}
UNLABELLED = 0  # the label id of what has none


@LAYOUTS.register("cityscapes")
class CityscapesTree(Layout):
    """Cityscapes: leftImg8bit_sequence, camera, disparity_sequence; gtFine for one frame per recording.

    Camera files and disparities refer to 2048 x 1024 pixels for any `height` and `width`, as in a download
    whose images were reduced. Held-out recordings alternate between the cities berlin (test) and frankfurt
    (val).
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        if plan.frames < 5:
            raise InputError(
                "neighbours are two frames apart in Cityscapes, so --frames must be at least 5, "
                f"got {plan.frames}"
            )
        K = resize_intrinsics(INTRINSICS, NATIVE, (plan.height, plan.width))
        self.camera = Camera(K, plan.width, plan.height)

    def part(self, sequence: int) -> str:
        held_out = self.held_out()
        if sequence not in held_out:
            return "train"
        return ("test", "val")[held_out.index(sequence) % 2]

    def folder(self, sequence: int) -> str:
        return f"{CITIES[self.part(sequence)]}_{sequence:06d}"

    def file(self, kind: str, sequence: int, frame: int, ending: str) -> str:
        part = self.part(sequence)
        return f"{kind}/{part}/{CITIES[part]}/{frame_name(self.folder(sequence), frame)}_{ending}"

    @property
    def annotated(self) -> int:
        return ANNOTATED if self.plan.frames > ANNOTATED else self.plan.frames // 2

    def view(self, sequence: int, frame: int) -> View:
        world, time = self.plan.world(sequence), frame / RATE
        return world.render(self.camera, world.ego_pose(time) @ looking_ahead(*PLACE), time)

    def write_frame(self, sequence: int, frame: int) -> None:
        view, out = self.view(sequence, frame), self.plan.out
        disparity = to_disparity(view.depth)
        save_image(out / self.file("leftImg8bit_sequence", sequence, frame, "leftImg8bit.png"), view.image)
        save_array(out / self.file("disparity_sequence", sequence, frame, "disparity.png"), disparity)
        if frame == self.annotated:
            save_image(out / self.file("leftImg8bit", sequence, frame, "leftImg8bit.png"), view.image)
            save_array(out / self.file("disparity", sequence, frame, "disparity.png"), disparity)
            labels = np.full(256, UNLABELLED, np.uint8)
            labels[: len(LABEL_IDS)] = LABEL_IDS
            save_array(
                out / self.file("gtFine", sequence, frame, "gtFine_labelIds.png"), labels[view.semantics]
            )

    def write_sequence(self, sequence: int) -> None:
        fx, fy, u0, v0 = INTRINSICS[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        x, y, z = PLACE
        camera = {
            "extrinsic": {
                "baseline": BASELINE,
                "pitch": 0.0,
                "roll": 0.0,
                "x": x,
                "y": y,
                "yaw": 0.0,
                "z": z,
            },
            "intrinsic": {"fx": fx, "fy": fy, "u0": u0, "v0": v0},
        }
        path = self.plan.out / self.file("camera", sequence, self.annotated, "camera.json")
        save_text(path, json.dumps(camera, indent=4) + "\n")

    def write_splits(self) -> None:
        """Write lists of the frames that have both neighbours.

        If no recording is left for validation, val is the last quarter of the training frames, so that
        `tools/prepare_cityscapes.py` prepares it as well.
        """
        parts: dict[str, list[tuple[int, int]]] = {"train": [], "val": [], "test": []}
        for sequence in range(self.plan.sequences):
            parts[self.part(sequence)] += [(sequence, frame) for frame in range(2, self.plan.frames - 2)]
        training = parts["train"]
        if not parts["val"]:
            cut = len(training) - max(1, len(training) // 4)
            parts["train"], parts["val"] = training[:cut] or training, training[cut:]
        parts["test"] = parts["test"] or parts["val"]
        for part, samples in parts.items():
            chosen = samples if part == "train" else samples[::4]
            lines = [f"{CITIES[self.part(n)]} {frame_name(self.folder(n), i)}\n" for n, i in chosen]
            save_text(self.plan.out / f"splits/{part}_files.txt", "".join(lines))

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)


def to_disparity(depth: np.ndarray) -> np.ndarray:
    """(h, w) metres to uint16: 256 * disparity + 1 in pixels of `NATIVE`; 0 is unknown."""
    known = depth > 0
    disparity = BASELINE * INTRINSICS[0, 0] / np.where(known, depth, 1)
    return np.where(known, (256 * disparity + 1).round().clip(2, 65535), 0).astype(np.uint16)
