"""Make3D: single upright images with a grid of laser depths, to evaluate on."""

from __future__ import annotations

import io

import cv2
import numpy as np
from scipy.io import savemat

from datasets.make3d import GRID, SIZE, K
from datasets.resizing import resize_intrinsics
from datasets.synthetic import Camera, View
from tools.layouts import LAYOUTS
from tools.layouts._base import RATE, Layout, Plan, looking_ahead, save_image, save_text
from utils import atomic_path

HEADER = b"MATLAB 5.0 MAT-file Platform: posix, Created on: Mon Jul 23 12:00:00 2007"
FARTHEST = 81.0  # metres; what the laser answers for the sky and whatever is farther


@LAYOUTS.register("make3d")
class Make3DImages(Layout):
    """Make3D's test set: `Test134/*.jpg`, `Gridlaserdata/*.mat` and the list of all images.

    Images are 1704 x 2272 whatever the size asked for, which is the size they are rendered at (a part of
    this) before they are enlarged; the laser's depth is that of the rays through the middles of its cells.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        height = max(plan.height, plan.width)
        small = height, round(height * SIZE[1] / SIZE[0])
        self.camera = Camera(resize_intrinsics(K, SIZE, small), small[1], small[0])
        self.laser = Camera(resize_intrinsics(K, SIZE, GRID[:2]), GRID[1], GRID[0])

    def identity(self, sequence: int, frame: int) -> str:
        return f"street{sequence + 1}-p-{frame}t0"

    def view(self, camera: Camera, sequence: int, frame: int) -> View:
        world, time = self.plan.world(sequence), frame / RATE
        return world.render(camera, world.ego_pose(time) @ looking_ahead(0, 0, 1.65), time)

    def write_frame(self, sequence: int, frame: int) -> None:
        name = self.identity(sequence, frame)
        image = self.view(self.camera, sequence, frame).image
        large = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        save_image(self.plan.out / f"Test134/img-{name}.jpg", large)
        with atomic_path(self.plan.out / f"Gridlaserdata/depth_sph_corr-{name}.mat") as path:
            path.write_bytes(mat_bytes({"Position3DGrid": self.grid(sequence, frame)}))

    def grid(self, sequence: int, frame: int) -> np.ndarray:
        """(55, 305, 4) metres: vertical, horizontal, forward, and depth, which equals forward here."""
        depth = self.view(self.laser, sequence, frame).depth.astype(np.float64)
        depth = np.where(depth > 0, np.minimum(depth, FARTHEST), FARTHEST)
        v, u = (a.ravel() for a in np.mgrid[: GRID[0], : GRID[1]])
        x, y, _ = self.laser.directions(u, v).reshape(3, *GRID[:2]) * depth
        return np.stack([-y, x, depth, depth], 2)

    def write_splits(self) -> None:
        plan = self.plan
        names = [self.identity(n, i) for n in range(plan.sequences) for i in range(plan.frames)]
        save_text(plan.out / "splits/test_files.txt", "".join(f"{name}\n" for name in names))

    def gallery_view(self, sequence: int) -> View:
        return self.view(self.camera, sequence, self.plan.frames // 2)


def mat_bytes(variables: dict[str, np.ndarray]) -> bytes:
    """Write a MATLAB 5 file without SciPy's date, so that equal arrays make equal bytes."""
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return HEADER.ljust(116) + buffer.getvalue()[116:]
