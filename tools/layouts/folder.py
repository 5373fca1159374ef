"""Folders of frames in the layout of SC-Depth, with the time of each frame and the vehicle's speed."""

from __future__ import annotations

import numpy as np

from cameras import write_camera
from datasets.synthetic import Camera, FisheyeCamera, Room, View, World
from tools.layouts import LAYOUTS
from tools.layouts._base import (
    RATE,
    Layout,
    Plan,
    looking_ahead,
    numbers,
    save_array,
    save_depth,
    save_image,
    save_text,
)


@LAYOUTS.register("folder")
class SceneFolders(Layout):
    """SC-Depth's folders: training/<scene>/*.jpg with cam.txt and depth/*.png (uint16, depth * 256).

    In addition: times.txt (seconds of each frame) and speed.csv (seconds, metres per second). A fisheye also
    has camera.yaml; its cam.txt is the nearest pinhole and its depth the distance along the ray.
    `ground_truth/semantics` holds Cityscapes train ids and `ground_truth/moving` masks of moving objects, one
    file for each image of `training`; `label_files` reads both.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.camera = Camera.like_kitti(plan.height, plan.width)
        if plan.camera == "fisheye":
            self.camera = FisheyeCamera.of_size(plan.height, plan.width)

    def scene(self, sequence: int) -> str:
        return f"scene_{sequence:03d}"

    def view(self, sequence: int, frame: int) -> View:
        time = frame / RATE
        return self.world(sequence).render(self.camera, self.pose(sequence, time), time)

    def world(self, sequence: int) -> World | Room:
        """The street or the room of a sequence."""
        return self.plan.room(sequence) if self.is_room(sequence) else self.plan.world(sequence)

    def is_room(self, sequence: int) -> bool:
        """True if a sequence shows a room; of mixed scenes every second one does."""
        return self.plan.scenes == "rooms" or (self.plan.scenes == "mixed" and sequence % 2 == 1)

    def pose(self, sequence: int, time: float) -> np.ndarray:
        """(4, 4) world_from_camera."""
        height = 0 if self.is_room(sequence) else 1.65  # a room's own pose is that of the camera
        return self.world(sequence).ego_pose(time) @ looking_ahead(0, 0, height)

    def speed(self, sequence: int, time: float) -> float:
        """Speed of the camera, metres per second."""
        before, after = self.pose(sequence, time - 0.005), self.pose(sequence, time + 0.005)
        return float(np.linalg.norm((after - before)[:3, 3]) / 0.01)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, view = self.plan.out / "training" / self.scene(sequence), self.view(sequence, frame)
        save_image(folder / f"{frame:06d}.{self.plan.ext}", view.image)
        save_depth(folder / f"depth/{frame:06d}.png", view.depth)
        for kind, values in (("semantics", view.semantics), ("moving", view.moving.astype(np.uint8))):
            save_array(
                self.plan.out / "ground_truth" / kind / self.scene(sequence) / f"{frame:06d}.png", values
            )

    def write_sequence(self, sequence: int) -> None:
        rows = "".join(numbers(row) + "\n" for row in self.camera.intrinsics)
        folder = self.plan.out / "training" / self.scene(sequence)
        save_text(folder / "cam.txt", rows)
        times = [frame / RATE for frame in range(self.plan.frames)]
        save_text(folder / "times.txt", "".join(f"{time:.6f}\n" for time in times))
        lines = [f"{time:.6f},{self.speed(sequence, time):.6f}\n" for time in times]
        save_text(folder / "speed.csv", "seconds,metres_per_second\n" + "".join(lines))
        if isinstance(self.camera, FisheyeCamera):
            write_camera(folder / "camera.yaml", self.camera.model)

    def write_splits(self) -> None:
        held_out = self.held_out()
        training = [n for n in range(self.plan.sequences) if n not in held_out]
        for name, sequences in (("train", training), ("val", held_out or training)):
            lines = "".join(f"{self.scene(n)}\n" for n in sequences)
            save_text(self.plan.out / f"training/{name}.txt", lines)

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)
