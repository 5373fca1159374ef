"""A nerfstudio scene with depth.

    transforms.json      camera, and for each frame its image, depth and pose
    images/000000.png    the frames, 8 bits
    depth/000000.png     depth x 1000, 16 bits: nerfstudio's depth_unit_scale_factor 0.001; 0 is unknown
    cloud.ply            points of all frames, from which splatfacto starts

`transform_matrix` is world_from_camera with the camera's x right, y up, z backwards, and the world's z up;
the centre of the first pixel is (0.5, 0.5). Format: docs.nerf.studio, "Data conventions".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from clouds import write_ply
from prediction.bridges import BRIDGES
from prediction.bridges._base import Bridge, BridgedImage, WorldPoints, up_is_z

CAMERA = ("fl_x", "fl_y", "cx", "cy", "w", "h")
BACKWARDS = np.diag([1.0, -1.0, -1.0, 1.0])  # from x right, y up, z backwards to x right, y down, z forward


@BRIDGES.register
class Nerfstudio(Bridge):
    """Posed images with depth; see above."""

    form_factor: ClassVar[float] = 1000.0
    needs_poses: ClassVar[bool] = True
    one_camera: ClassVar[bool] = False

    def __init__(self, folder: Path, unit: str, is_metric: bool, factor: float | None = None) -> None:
        super().__init__(folder, unit, is_metric, factor)
        self.frames: list[dict[str, Any]] = []
        self.points = WorldPoints()
        self.turn = np.eye(4)

    def write(self, image: BridgedImage) -> None:
        paths = {"file_path": f"images/{image.name}.png", "depth_file_path": f"depth/{image.name}.png"}
        self.save_image(paths["file_path"], image)
        self.save_depth(paths["depth_file_path"], image)
        self.turn = up_is_z(image.vertical)
        pose = self.turn @ image.world_from_camera @ BACKWARDS
        self.frames.append({**paths, **_camera(image), "transform_matrix": pose.tolist()})
        self.points.add(image)

    def describe(self) -> str:
        points, colours = self.points.means()
        write_ply(self.folder / "cloud.ply", points @ self.turn[:3, :3].T, colours, self.unit, "z up")
        cameras = [{key: frame[key] for key in CAMERA} for frame in self.frames]
        shared = cameras[0] if all(camera == cameras[0] for camera in cameras) else {}
        frames = [{key: frame[key] for key in frame if key not in shared} for frame in self.frames]
        content = {"camera_model": "PINHOLE", **shared, "ply_file_path": "cloud.ply", "frames": frames}
        self.save_json("transforms.json", content)
        scale = f" nerfstudio-data --depth-unit-scale-factor {1 / self.factor:g}"
        return f"type ns-train depth-nerfacto --data {self.folder}{scale if self.factor != 1000 else ''}"


def _camera(image: BridgedImage) -> dict[str, float]:
    """The camera's keys of a frame."""
    K, (height, width) = image.intrinsics.tolist(), image.depth.shape
    return dict(zip(CAMERA, (K[0][0], K[1][1], K[0][2] + 0.5, K[1][2] + 0.5, width, height)))
