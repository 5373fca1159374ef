"""Inverse depth that regularises 3D Gaussian splatting (Kerbl et al. 2023), with a COLMAP scene if posed.

    images/000000.png            the images, 8 bits
    depths/000000.png            inverse depth, 16 bits
    sparse/0/depth_params.json   image → scale, offset:  1 / depth = value / 65536 x scale + offset
    sparse/0/cameras.txt, images.txt, points3D.txt       COLMAP's model, from predicted poses or a rig

All images have one scale, since the program mistrusts an image whose scale is far from the others'. Without
poses there is no model: `depths` is for a scene that COLMAP has solved, whose unit is another one, and the
program's own `utils/make_depth_scale.py` fits the scales to it. Formats: the README of graphdeco-inria's
gaussian-splatting; colmap.github.io/format.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from files import writing
from images import LARGEST
from prediction.bridges import BRIDGES
from prediction.bridges._base import Bridge, BridgedImage, WorldPoints
from trajectories import quaternions

MODEL = "sparse/0"
STEPS = 65536  # by which the program divides a value
ROOM = 4.0  # largest inverse depth that fits, times that of the first image


@BRIDGES.register
class Gaussians(Bridge):
    """Images with inverse depth; see above."""

    one_camera: ClassVar[bool] = False

    def __init__(self, folder: Path, unit: str, is_metric: bool, factor: float | None = None) -> None:
        super().__init__(folder, unit, is_metric, None)  # the scale stands in depth_params.json
        self.images: list[tuple[str, tuple[float, ...], np.ndarray]] = []
        self.scale = 0.0
        self.points = WorldPoints()

    def write(self, image: BridgedImage) -> None:
        import cv2

        inverse = 1 / image.depth.astype(np.float64)
        self.scale = self.scale or ROOM * float(inverse.max())
        values = (inverse / self.scale * STEPS).round().clip(0, LARGEST).astype(np.uint16)
        self.save_image(f"images/{image.name}.png", image)
        with writing(self.folder / f"depths/{image.name}.png") as path:
            path.write_bytes(cv2.imencode(".png", values)[1].tobytes())
        if image.world_from_camera is not None:
            K, (height, width) = image.intrinsics, image.depth.shape
            camera = (width, height, K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5)
            self.images.append((f"{image.name}.png", camera, np.linalg.inv(image.world_from_camera)))
            self.points.add(image)

    def describe(self) -> str:
        parameters = {name: {"scale": self.scale, "offset": 0.0} for name in sorted(self.names)}
        self.save_json(f"{MODEL}/depth_params.json", parameters)
        if not self.images:
            return (
                "it has no poses; copy depths/ into a scene that COLMAP has solved and type there: python "
                "utils/make_depth_scale.py --base_dir SCENE --depths_dir SCENE/depths"
            )
        self._write_model()
        return f"type there: python train.py -s {self.folder.absolute()} -d depths"

    def _write_model(self) -> None:
        """COLMAP's model as text."""
        cameras = {camera: n for n, camera in enumerate(dict.fromkeys(c for _, c, _ in self.images), 1)}
        rows = [
            f"{n} PINHOLE {camera[0]} {camera[1]} " + " ".join(f"{value:.9g}" for value in camera[2:])
            for camera, n in cameras.items()
        ]
        self.save_text(f"{MODEL}/cameras.txt", "\n".join(rows) + "\n")
        poses = np.stack([pose for _, _, pose in self.images])
        x, y, z, w = quaternions(poses[:, :3, :3]).T
        rows = []
        for n, (name, camera, pose) in enumerate(self.images):
            numbers = (w[n], x[n], y[n], z[n], *pose[:3, 3])
            pose_row = f"{n + 1} " + " ".join(f"{value:.12g}" for value in numbers)
            rows += [f"{pose_row} {cameras[camera]} {name}", ""]  # the second line lists keypoints
        self.save_text(f"{MODEL}/images.txt", "\n".join(rows) + "\n")
        points, colours = self.points.means()
        rows = [
            f"{n} {x:.6g} {y:.6g} {z:.6g} {r} {g} {b} 0"
            for n, ((x, y, z), (r, g, b)) in enumerate(zip(points, colours), 1)
        ]
        self.save_text(f"{MODEL}/points3D.txt", "\n".join(rows) + "\n")
