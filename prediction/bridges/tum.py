"""TUM's RGB-D recordings, which RGB-D SLAM reads.

    rgb/000000.png      the frames, 8 bits
    depth/000000.png    depth x 5000, 16 bits, up to 13 m; 0 where depth does not fit
    rgb.txt, depth.txt  <seconds> <file>
    associations.txt    <seconds> rgb/000000.png <seconds> depth/000000.png
    groundtruth.txt     <seconds> x y z qx qy qz qw, the predicted path, if poses are predicted
    settings.yaml       factor, unit, frames per second, and intrinsics if they are known

Depth has the size of the frames. Format: cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import yaml

from files import explained, writing
from intrinsics import as_text
from prediction.bridges import BRIDGES
from prediction.bridges._base import Bridge, BridgedImage
from trajectories import write_tum

ASSOCIATIONS, SETTINGS, PATH = "associations.txt", "settings.yaml", "groundtruth.txt"


@BRIDGES.register
class Tum(Bridge):
    """A recording of one camera; see above."""

    form_factor: ClassVar[float] = 5000.0
    needs_time: ClassVar[bool] = True

    def __init__(self, folder: Path, unit: str, is_metric: bool, factor: float | None = None) -> None:
        super().__init__(folder, unit, is_metric, factor)
        self.rows: list[tuple[float, str]] = []
        self.poses: list[np.ndarray] = []

    def write(self, image: BridgedImage) -> None:
        self.K = image.intrinsics
        self.save_image(f"rgb/{image.name}.png", image)
        self.save_depth(f"depth/{image.name}.png", image)
        self.rows.append((image.seconds or 0.0, f"{image.name}.png"))
        self.poses += [] if image.world_from_camera is None else [image.world_from_camera]

    def describe(self) -> str:
        for kind in ("rgb", "depth"):
            self.save_text(f"{kind}.txt", "".join(f"{time:.6f} {kind}/{name}\n" for time, name in self.rows))
        self.save_text(
            ASSOCIATIONS,
            "".join(f"{time:.6f} rgb/{name} {time:.6f} depth/{name}\n" for time, name in self.rows),
        )
        if self.poses:
            with explained(self.folder / PATH):
                write_tum(self.folder / PATH, np.stack(self.poses), np.array([time for time, _ in self.rows]))
        settings = {"depth_factor": self.factor, "unit": self.unit}
        if len(self.rows) > 1:
            settings["fps"] = round(1 / float(np.diff([time for time, _ in self.rows]).min()), 6)
        if not self.guessed:
            settings["intrinsics"] = as_text(self.K)
        with writing(self.folder / SETTINGS) as path:
            path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return "its settings have no intrinsics" if self.guessed else ""
