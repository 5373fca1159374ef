"""A dataset for supervised training: images, depth of the same names, and the camera.

    images/000000.png    the image, 8 bits
    depth/000000.png     depth x 256, 16 bits; 0 is unknown
    cam.txt              fx fy cx cy, pixels; left out if they are a guess

`--dataset folder` reads it, see datasets/folder.py.
"""

from __future__ import annotations

from intrinsics import GUESS, as_text
from prediction.bridges import BRIDGES
from prediction.bridges._base import Bridge, BridgedImage


@BRIDGES.register
class Supervised(Bridge):
    """A folder of images and depth; see above."""

    def write(self, image: BridgedImage) -> None:
        self.save_image(f"images/{image.name}.png", image)
        self.save_depth(f"depth/{image.name}.png", image)
        if not image.guessed and self.count == 0:
            self.save_text("cam.txt", as_text(image.intrinsics) + "\n")

    def describe(self) -> str:
        scale = "" if self.factor == 256 else f" --dataset.depth_scale {self.factor:g}"
        guess = f" --dataset.intrinsics {GUESS}" if self.guessed else ""
        return (
            "to train on it, type python run.py --method packnet --dataset folder --dataset.supervision true "
            f"--data_path {self.folder}{scale}{guess}"
        )
