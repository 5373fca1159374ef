"""Local crop: a window of the image, zoomed by r (Liu et al., BDEdepth, RA-L 2024, section III-A).

    x' + 0.5 = r (x + 0.5) - x0

The crop keeps its geometry: a focal length r times as long, a principal point of its own, the same motion. An
object that looks r times as large looks r times as near.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from devices import constants
from layers import invert_intrinsics, resampling_matrix
from structures import Batch, Frame


def to_device_of(tensor: Tensor, values: Tensor) -> Tensor:
    """`values` on the device and in the precision of `tensor`, without a device sync."""
    return values.to(tensor, non_blocking=True)


@dataclass(frozen=True)
class LocalCrop:
    """A window of each image, zoomed to the size of the image. All numbers are float64, on the CPU.

    Attributes:
        size: (H, W) of image and crop.
        zoom: (n,) r, the factor by which objects look nearer.
        scale: (n, 2) zoom along x and y: r, except that the published code rounds to whole pixels.
        offset: (n, 2) x0 and y0, the window's corner in the zoomed image, pixels.
        published: use the published window in `restore` and the published camera.
    """

    size: tuple[int, int]
    zoom: Tensor
    scale: Tensor
    offset: Tensor
    published: bool = False

    @staticmethod
    def draw(
        draws: Tensor, size: tuple[int, int], zooms: tuple[float, float] = (1.2, 2.0), published: bool = False
    ) -> LocalCrop:
        """Draw n crops from (n, 5) random numbers in [0, 1): zoom, column, row; the last two are not used."""
        zoom = zooms[0] + (zooms[1] - zooms[0]) * draws[:, 0]
        image = draws.new_tensor([size[1], size[0]])
        zoomed = zoom[:, None] * image
        zoomed = zoomed.floor() if published else zoomed
        offset = (zoomed - image) * draws[:, 1:3]
        return LocalCrop(
            tuple(size), zoom, zoomed / image, offset.floor() if published else offset, published
        )

    def apply(self, batch: Batch, frames: Sequence[Frame] = (0,)) -> Batch:
        """The batch cropped to the window: images, maps, points and, unless published, intrinsics.

        Args:
            batch: the untransformed batch.
            frames: frames whose depth is predicted; only their jittered images are cropped.
        """
        K, camera, extra = batch.intrinsics, batch.camera, dict(batch.extra)
        if not self.published:
            follow = torch.eye(3, dtype=torch.float64).repeat(len(self.zoom), 1, 1)
            follow[:, 0, 0], follow[:, 1, 1] = self.scale.unbind(1)
            follow[:, :2, 2] = (self.scale - 1) / 2 - self.offset
            K, extra["zoom"] = to_device_of(K, follow) @ K, to_device_of(K, self.zoom)
            if camera is not None:
                camera = camera.zoomed(to_device_of(K, self.scale), to_device_of(K, self.offset), self.size)
        shown = batch if batch.detailed is None else batch.detailed
        zoomed = self._resampler(shown.images[0])
        images: dict[Frame, Tensor] = {frame: zoomed(image) for frame, image in shown.images.items()}
        augmented: dict[Frame, Tensor] | None = None
        if shown.augmented is not None:
            augmented = {frame: zoomed(shown.augmented[frame]) for frame in frames}
        return dataclasses.replace(
            batch,
            images=images,
            intrinsics=K,
            camera=camera,
            augmented=augmented,
            detailed=None,
            maps={name: self._map(values) for name, values in batch.maps.items()},
            points={name: self._points(points) for name, points in batch.points.items()},
            extra=extra,
        )

    def restore(self, disparity: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A map of the crop, resampled at the pixels of the image.

        Args:
            disparity: (n, 1, h, w) of any size.
            size: (H', W') of the result.

        Returns:
            (n, 1, H', W'), and (n, 1, H', W') bool: True inside the window.
        """
        first, share = self._window()
        coordinates = []
        for axis, length in ((0, size[1]), (1, size[0])):
            centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
            coordinates.append((centres - first[:, axis, None]) / share[:, axis, None])  # 0 ... 1 in the crop
        x, y = (to_device_of(disparity, values) for values in coordinates)
        x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
        grid = 2 * torch.stack([x, y], -1) - 1
        inside = ((x > 0) & (x < 1) & (y > 0) & (y < 1))[:, None]
        restored = F.grid_sample(disparity, grid, "bilinear", "border", align_corners=False)
        return restored, inside

    def bend(self, poses: dict[Frame, Tensor], intrinsics: Tensor) -> dict[Frame, Tensor]:
        """Published rule: motions seen by a camera with the intrinsics of the whole image.

        A point X of the image is Rc X for the crop's camera, so R and t become Rc R inv(Rc) and Rc t, with
        Rc = [1 0 -gx / 2 fx; 0 1 -gy / 2 fy; 0 0 f]; g is the window's middle and f half its width, in
        [-1, 1], and fx, fy are the first image's, over W and H.
        """
        corner = self.offset / (self.scale * self._pixels() - 1)
        extent = (self._pixels() - 1) / (self.scale * self._pixels() - 1)
        middle = to_device_of(intrinsics, 2 * corner + extent - 1)
        focal = intrinsics[0].diagonal()[:2] / to_device_of(intrinsics, self._pixels())
        Rc = torch.eye(3, device=intrinsics.device).repeat(len(self.zoom), 1, 1)
        Rc[:, :2, 2] = -middle / (2 * focal)
        Rc[:, 2, 2] = to_device_of(intrinsics, extent[:, 0])
        bent = {}
        for frame, T in poses.items():
            top = torch.cat([Rc @ T[:, :3, :3] @ invert_intrinsics(Rc), Rc @ T[:, :3, 3:]], 2)
            bent[frame] = torch.cat([top, T[:, 3:]], 1)
        return bent

    def image(self, image: Tensor) -> Tensor:
        """Crop images (n, C, h, w) in [0, 1] of any size to (n, C, H, W)."""
        return self._resampler(image)(image)

    def _resampler(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """The function that crops images of one size: a Lanczos resampling matrix along each axis."""
        matrices = []
        for axis, length in ((0, self.size[1]), (1, self.size[0])):
            old = like.shape[3 - axis]
            scale, offset = to_device_of(like, self.scale[:, axis] * length / old), self.offset[:, axis]
            matrices.append(resampling_matrix(scale, to_device_of(like, offset), old, length)[:, None])
        across, down = matrices
        return lambda image: (down @ image @ across.mT).clamp_(0, 1)

    def _pixels(self) -> Tensor:
        return constants([self.size[1], self.size[0]], like=self.zoom)

    def _window(self) -> tuple[Tensor, Tensor]:
        """(n, 2) corner and size of the window, both relative to the size of the image."""
        if not self.published:
            return self.offset / (self.scale * self._pixels()), 1 / self.scale
        corner = (self._pixels() * self.offset / (self.scale * self._pixels() - 1)).round()
        return corner / self._pixels(), (self._pixels() / self.zoom[:, None]).round() / self._pixels()

    def _map(self, values: Tensor) -> Tensor:
        """A map (n, C, h, w) of any type, by the nearest pixel."""
        first, share = self._window()
        index = []
        for axis, length in ((0, values.shape[3]), (1, values.shape[2])):
            centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
            coordinates = (first[:, axis, None] + share[:, axis, None] * centres) * length
            index.append(coordinates.long().clamp_(0, length - 1).to(values.device, non_blocking=True))
        rows = torch.arange(len(values), device=values.device)[:, None, None]
        return values[rows, :, index[1][:, :, None], index[0][:, None, :]].permute(0, 3, 1, 2)

    def _points(self, points: Tensor) -> Tensor:
        """Points (n, K, 2 + C); a point outside the window becomes a row of padding with depth 0."""
        scale, offset = (to_device_of(points, values)[:, None] for values in (self.scale, self.offset))
        pixels = scale * (points[..., :2] + 0.5) - 0.5 - offset
        last = to_device_of(points, self._pixels()) - 0.5
        shown = ((pixels >= -0.5) & (pixels <= last)).all(-1, keepdim=True)
        return torch.cat([pixels, points[..., 2:]], -1) * shown
