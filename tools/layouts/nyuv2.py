"""NYU Depth V2: hand-held video of scenes with lens distortion, and labelled images with depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np

from datasets.nyuv2 import DISTORTION, MAT, PUBLISHED_ORDER, SIZE, K
from datasets.resizing import resize_intrinsics
from datasets.synthetic import Camera, View
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, looking_ahead, save_image, save_text
from utils import atomic_path

REACH = 4  # images that a published line lists on each side of its target
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jul 23 12:00:00 2012 HDF5 schema 1.00 ."


@LAYOUTS.register("nyuv2")
class NyuV2Rooms(Layout):
    """NYUv2: `train/<scene>/*.jpg` through the Kinect's lens, `nyu_test/*.h5` and the labelled .mat.

    Every fourth image of the scenes held out is labelled; those are 640 x 480 whatever the size asked for,
    without distortion, since what is evaluated is a fixed window of them. Lists: nine paths a line to train
    on, labelled images for val and test.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        size = plan.height, plan.width
        self.filming = KinectCamera(resize_intrinsics(K, SIZE, size), plan.width, plan.height)
        self.labelling = Camera(K, SIZE[1], SIZE[0])
        tested = self.held_out() or [0]
        self.training = [n for n in range(plan.sequences) if n not in tested] or tested
        self.labelled = [(n, i) for n in tested for i in range(1, plan.frames, 4)]  # image 1, 2, ...

    def scene(self, sequence: int) -> str:
        return f"room_{sequence + 1:04d}"

    def image(self, sequence: int, frame: int) -> str:
        return f"train/{self.scene(sequence)}/{frame:05d}.{self.plan.ext}"

    def converted(self, number: int) -> str:
        return f"nyu_test/{number:05d}.h5"

    def view(self, camera: Camera, sequence: int, frame: int) -> View:
        room, time = self.plan.room(sequence), frame / RATE
        return room.render(camera, room.ego_pose(time) @ looking_ahead(0, 0, 0), time)

    def write_frame(self, sequence: int, frame: int) -> None:
        if sequence in self.training:
            view = self.view(self.filming, sequence, frame)
            save_image(self.plan.out / self.image(sequence, frame), view.image)
        if (sequence, frame) in self.labelled:
            number = self.labelled.index((sequence, frame)) + 1
            view = self.view(self.labelling, sequence, frame)
            with (
                atomic_path(self.plan.out / self.converted(number)) as path,
                h5py.File(path, "w") as file,
            ):
                file["rgb"] = view.image.transpose(2, 0, 1)
                file["depth"] = view.depth

    def write_splits(self) -> None:
        frames = self.plan.frames
        reach = min(REACH, (frames - 1) // 2)  # of few images, the outermost are listed again
        offsets = [max(-reach, min(offset, reach)) for offset in PUBLISHED_ORDER]
        lines = [
            " ".join(self.image(n, i + offset) for offset in offsets) + "\n"
            for n in self.training
            for i in range(reach, frames - reach)
        ]
        stills = [f"{self.converted(number)}\n" for number in range(1, len(self.labelled) + 1)]
        for name, text in (("train", lines), ("val", stills), ("test", stills)):
            save_text(self.plan.out / f"splits/{name}_files.txt", "".join(text))
        self._write_mat(self.plan.out / MAT)

    def _write_mat(self, path: Path) -> None:
        """Write all labelled images to a MATLAB 7.3 file: columns first, names as references to UTF-16."""

        def variable(file: h5py.File, name: str, shape: tuple, kind: object, word: str) -> h5py.Dataset:
            made = file.create_dataset(name, shape, kind)
            made.attrs["MATLAB_class"] = np.bytes_(word)
            return made

        count, (height, width) = len(self.labelled), SIZE
        with atomic_path(path) as temporary:
            with h5py.File(temporary, "w", userblock_size=512) as file:
                images = variable(file, "images", (count, 3, width, height), np.uint8, "uint8")
                depths = variable(file, "depths", (count, width, height), np.float32, "single")
                scenes = variable(file, "scenes", (1, count), h5py.ref_dtype, "cell")
                for place, (sequence, _) in enumerate(self.labelled):
                    with h5py.File(self.plan.out / self.converted(place + 1), "r") as still:
                        images[place] = still["rgb"][:].transpose(0, 2, 1)
                        depths[place] = still["depth"][:].T
                    letters = np.array([*map(ord, self.scene(sequence))])[:, None]
                    name = variable(file, f"#refs#/{place}", letters.shape, np.uint16, "char")
                    name[:] = letters
                    scenes[0, place] = name.ref
            with open(temporary, "r+b") as file:  # the block that makes MATLAB take it for its own
                file.write(HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")

    def gallery_view(self, sequence: int) -> View:
        return self.view(self.filming, sequence, self.plan.frames // 2)


@dataclass(frozen=True)
class KinectCamera(Camera):
    """A camera with the lens distortion of NYUv2's Kinect, relative to its size."""

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(3, P) rays through pixels (u, v) of the distorted image, with z = 1."""
        pixels = np.stack([u, v], 1).astype(np.float64)[:, None]
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-10)
        # OpenCV 5 lacks undistortPointsIter, and OpenCV 4's undistortPoints takes no criteria.
        straight = cv2.undistortImagePoints(pixels, self.intrinsics, DISTORTION, arg1=criteria)[:, 0].T
        return np.linalg.inv(self.intrinsics) @ np.concatenate([straight, np.ones((1, len(u)))])
