"""The base of every bridge: an image with its depth, and a folder that takes one after another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from clouds import below_sky, point_cloud
from files import writing
from images import LARGEST, save_depth, save_image
from intrinsics import GUESSED_ANGLE
from prediction.voxels import VOXEL, VoxelMeans
from predictor import enlarge
from utils import InputError

CLOUD_WIDTH = 320  # pixels of an image that become points, along its width


@dataclass(frozen=True)
class BridgedImage:
    """An image and its depth, as a bridge takes it.

    Attributes:
        name: name of its files without ending.
        image: (h, w, 3) uint8 RGB.
        depth: (h, w) float32.
        intrinsics: (3, 3) pixels of the image.
        guessed: nothing gives the intrinsics, so that they are a guess.
        world_from_camera: (4, 4) pose, the translation in the unit of depth; None if unknown.
        seconds: time of the image; None if it is not from a video.
        vertical: axis of the world that points up, "-y" for a first camera as the world, "z" for a rig.
    """

    name: str
    image: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    guessed: bool = False
    world_from_camera: np.ndarray | None = None
    seconds: float | None = None
    vertical: str = "-y"


def bridged(
    name: str, image: Tensor, inverse_depth: Tensor, intrinsics: np.ndarray, guessed: bool, **facts: Any
) -> BridgedImage:
    """A `BridgedImage` of an image (3, h, w) uint8 and 1 / depth (1, H, W) at the network's size."""
    depth = (1 / enlarge(inverse_depth[None], *image.shape[-2:]))[0, 0].cpu().numpy()
    return BridgedImage(name, image.permute(1, 2, 0).numpy(), depth, intrinsics, guessed, **facts)


class Bridge:
    """A folder in the form of another program.

    Args:
        folder: the folder to write.
        unit: unit of depth in words.
        is_metric: depth is in metres.
        factor: value of 16-bit depth for one unit of depth; None for the form's own. If depth is known up to
            scale and the form's factor would not resolve it, a power of ten that does.

    Attributes:
        name: name of the form, that of its file.
        form_factor: the form's own factor.
        needs_poses: it cannot hold an image without a pose.
        needs_time: it cannot hold an image without a time.
        one_camera: all images have one size and one camera.
        count: images written.
    """

    form_factor: ClassVar[float] = 256.0
    needs_poses: ClassVar[bool] = False
    needs_time: ClassVar[bool] = False
    one_camera: ClassVar[bool] = True

    def __init__(self, folder: Path, unit: str, is_metric: bool, factor: float | None = None) -> None:
        self.folder, self.unit, self.is_metric, self.factor = folder, unit, is_metric, factor
        self.count = self.beyond = self.pixels = 0
        self.size: tuple[int, int] | None = None
        self.names: set[str] = set()
        self.guessed = False

    @property
    def name(self) -> str:
        """Name of the form."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def of_camera(self, camera: str) -> Bridge:
        """A bridge of the same form for one camera of a rig: this one, or a folder below it."""
        if not self.one_camera:
            return self
        return type(self)(self.folder / camera, self.unit, self.is_metric, self.factor)

    def add(self, image: BridgedImage) -> None:
        """Write the files of one image.

        Raises:
            InputError: a second image of this name, another size than the images before, or a file cannot be
                written.
        """
        size = image.depth.shape
        if image.name in self.names:
            raise InputError(
                f"--bridge {self.name}: two images are called {image.name}; give each folder a call of its "
                "own"
            )
        if self.one_camera and self.size not in (None, size):
            raise InputError(
                f"--bridge {self.name} holds images of one size, and {image.name} is {size[1]}x{size[0]} "
                f"after images of {self.size[1]}x{self.size[0]}; give each size a call of its own"
            )
        self.size = size
        self.guessed |= image.guessed
        self.write(image)
        self.names.add(image.name)
        self.count += 1

    def write(self, image: BridgedImage) -> None:
        """Write the files of one image of a known size."""
        raise NotImplementedError

    def describe(self) -> str:
        """Write the files about the whole folder; returns what to type next, or "" if nothing."""
        return ""

    def finish(self) -> str:
        """Complete the folder; returns a sentence about it.

        Raises:
            InputError: a file cannot be written.
        """
        hint = self.describe()
        sentence = f"wrote {self.folder} for {self.name}, {self.count} images"
        if self.factor:
            sentence += f", depth = value / {self.factor:g}, {self.unit}"
        if self.beyond:
            sentence += f"; {self.beyond / self.pixels:.1%} of the pixels do not fit and are 0, unknown"
        if self.guessed:
            sentence += (
                "; nothing gives the intrinsics (--intrinsics, or cam.txt next to the images), so the camera "
                f"is assumed to see {GUESSED_ANGLE:g} degrees along the longer side"
            )
        return sentence + (f"; {hint}" if hint else "")

    # Parts that several forms share.

    def save_image(self, path: str, image: BridgedImage) -> None:
        """Write the image as `path` below the folder."""
        save_image(self.folder / path, image.image)

    def save_depth(self, path: str, image: BridgedImage) -> None:
        """Write depth as a 16-bit PNG; depth that does not fit is 0, unknown."""
        self.factor = self.factor or fitting_factor(image.depth, self.form_factor, self.is_metric)
        fits = image.depth * self.factor <= LARGEST
        self.beyond, self.pixels = self.beyond + int((~fits).sum()), self.pixels + fits.size
        save_depth(self.folder / path, np.where(fits, image.depth, 0), self.factor)

    def save_text(self, path: str, text: str) -> None:
        """Write a text file below the folder."""
        with writing(self.folder / path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def save_json(self, path: str, content: Any) -> None:
        """Write a JSON file below the folder."""
        self.save_text(path, json.dumps(content, indent=2) + "\n")


def fitting_factor(depth: np.ndarray, factor: float, is_metric: bool) -> float:
    """`factor`, unless depth is up to scale and its median has fewer than 200 steps or its maximum, with room
    for images four times as deep, does not fit: then a power of ten.
    """
    median, most = float(np.median(depth)), LARGEST / (4 * float(depth.max()))
    if is_metric or (median * factor >= 200 and factor <= most):
        return factor
    return float(10.0 ** np.floor(np.log10(most)))


class WorldPoints:
    """Points of posed images in the world, one for each voxel: a start for splatting."""

    def __init__(self) -> None:
        self._voxels: VoxelMeans | None = None

    def add(self, image: BridgedImage) -> None:
        """Add the points of an image, without blurred edges and sky."""
        step = max(1, image.depth.shape[1] // CLOUD_WIDTH)
        depth, colours = image.depth[::step, ::step], np.ascontiguousarray(image.image[::step, ::step])
        K = np.diag([1 / step, 1 / step, 1]) @ image.intrinsics
        points, colours = point_cloud(depth, K, colours, kept=below_sky(depth))
        if self._voxels is None:
            self._voxels = VoxelMeans(max(VOXEL, 1 / K[0, 0]) * float(np.median(depth)))
        T = image.world_from_camera
        self._voxels.add(points @ T[:3, :3].T + T[:3, 3], colours)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """(V, 3) float32 points and (V, 3) uint8 colours."""
        return self._voxels.means()


def up_is_z(vertical: str) -> np.ndarray:
    """(4, 4) turn of a world to z up, see `BridgedImage.vertical`."""
    turn = np.eye(4)
    if vertical == "-y":
        turn[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    return turn
