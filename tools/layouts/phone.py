"""Hand-held videos of rooms as a phone leaves them, without calibration, and their ground truth."""

from __future__ import annotations

import cv2
import numpy as np

from datasets.synthetic import Camera, View
from intrinsics import as_text, centred
from tools.layouts import LAYOUTS
from tools.layouts._base import Layout, looking_ahead, pose_row, save_depth, save_image, save_text
from videos import video

FPS = 15.0  # frames a second: the camera turns by a few degrees between two of them
FOCAL = 0.65, 1.1  # focal length as a share of the longer side, 75 to 49 degrees


@LAYOUTS.register("phone")
class PhoneVideos(Layout):
    """`walk_000.mp4`; `frames/walk_000/*.jpg` are its frames, with `depth/*.png` (uint16, depth * 256).

    `ground_truth/walk_000.txt` has the focal length and principal point, `fx fy cx cy`, and
    `ground_truth/walk_000_poses.txt` world_from_camera of each frame (KITTI's rows, metres). Each video has
    a focal length of its own, and no file next to the images gives it.
    """

    def camera(self, sequence: int) -> Camera:
        height, width = self.plan.height, self.plan.width
        share = np.random.default_rng([self.plan.seed, sequence, 35]).uniform(*FOCAL)
        return Camera(centred(share * max(height, width), height, width), width, height)

    def scene(self, sequence: int) -> str:
        return f"walk_{sequence:03d}"

    def pose(self, sequence: int, frame: int) -> np.ndarray:
        """(4, 4) world_from_camera."""
        return self.plan.room(sequence).ego_pose(frame / FPS) @ looking_ahead(0, 0, 0)

    def view(self, sequence: int, frame: int) -> View:
        pose = self.pose(sequence, frame)
        return self.plan.room(sequence).render(self.camera(sequence), pose, frame / FPS)

    def write_frame(self, sequence: int, frame: int) -> None:
        folder, view = self.plan.out / "frames" / self.scene(sequence), self.view(sequence, frame)
        save_image(folder / f"{frame:06d}.{self.plan.ext}", view.image)
        save_depth(folder / f"depth/{frame:06d}.png", view.depth)

    def write_sequence(self, sequence: int) -> None:
        scene, plan = self.scene(sequence), self.plan
        with video(plan.out / f"{scene}.mp4", FPS) as write:
            for frame in range(plan.frames):
                path = plan.out / f"frames/{scene}/{frame:06d}.{plan.ext}"
                write(np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]))
        save_text(plan.out / f"ground_truth/{scene}.txt", as_text(self.camera(sequence).intrinsics) + "\n")
        poses = "".join(pose_row(self.pose(sequence, frame)) for frame in range(plan.frames))
        save_text(plan.out / f"ground_truth/{scene}_poses.txt", poses)

    def gallery_view(self, sequence: int) -> View:
        return self.view(sequence, self.plan.frames // 2)
