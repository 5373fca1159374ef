"""KITTI's depth benchmark, in the form of its `depth_selection/val_selection_cropped`.

    image/000000.png              the image, 8 bits
    groundtruth_depth/000000.png  depth x 256, 16 bits, up to 256 m; 0 is unknown
    intrinsics/000000.txt         fx 0 cx 0 fy cy 0 0 1, pixels; left out if they are a guess

Each image has its own size. Format: readme.txt of cvlibs.net's depth development kit (Uhrig et al. 2017).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from prediction.bridges import BRIDGES
from prediction.bridges._base import Bridge, BridgedImage


@BRIDGES.register
class Kitti(Bridge):
    """Images with depth and intrinsics; see above."""

    one_camera: ClassVar[bool] = False

    def write(self, image: BridgedImage) -> None:
        self.save_image(f"image/{image.name}.png", image)
        self.save_depth(f"groundtruth_depth/{image.name}.png", image)
        if not image.guessed:
            numbers = " ".join(f"{value:.6e}" for value in np.ravel(image.intrinsics))
            self.save_text(f"intrinsics/{image.name}.txt", numbers + "\n")
