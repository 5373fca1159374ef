"""The interface of camera models, and the pinhole.

Resizing, cropping and mirroring act on pixels, so all parametric models share one rule: the pixel is
K [m_x, m_y, 1] of a distorted point m on the plane z = 1, and only K changes. Mirroring also changes the
tangential distortion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from devices import constants
from layers import invert_intrinsics, pixel_grid

Size = tuple[int, int]  # height, width

NEAR = 1e-6  # smallest z of a point in front of the camera, in the unit of the point


@dataclass
class Camera:
    """The interface. Every tensor of a camera has B rows.

    `depth_is_distance`: False if the rays have z = 1 and depth is along the optical axis; True if they have
    unit length and depth is the distance from the camera.
    """

    depth_is_distance: ClassVar[bool] = True

    def rays(self, height: int, width: int) -> Tensor:
        """(B, 3, P) rays through the pixel centres, row by row: x right, y down, z forward.

        A pixel that no ray reaches, such as the dark corners of a fisheye image, has the ray (0, 0, 0).
        """
        raise NotImplementedError

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points to pixels.

        Args:
            points: (B, 3, P) in the camera's frame, any unit.

        Returns:
            (B, 2, P) pixels, all finite, and (B, P) bool, True if the model can see the point: in front of
            the camera, or within its field of view. The pixel may be outside of the image.
        """
        raise NotImplementedError

    def resized(self, old: Size, new: Size) -> Camera:
        """The camera of an image resized from `old` to `new`; x becomes (x + 0.5) s - 0.5."""
        raise NotImplementedError

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        """The camera of the crop of `height` x `width` pixels with its corner at (top, left)."""
        raise NotImplementedError

    def zoomed(self, scale: Tensor, offset: Tensor, size: Size) -> Camera:
        """The camera of a window of the enlarged image, separate for each sample.

        Args:
            scale: (B, 2), enlargement along x and y.
            offset: (B, 2), x and y of the window's corner in the enlarged image, pixels.
            size: height and width of the window. x becomes (x + 0.5) scale - 0.5 - offset.
        """
        raise NotImplementedError

    def mirrored(self, width: int, flip: Tensor | None = None) -> Camera:
        """The camera of the image mirrored left and right.

        Args:
            width: width of the image, pixels.
            flip: (B,) bool, True for the samples to mirror; all if None.
        """
        raise NotImplementedError

    def nearest_pinhole(self, height: int, width: int) -> Tensor:
        """(B, 3, 3) intrinsics of a pinhole close to this camera, for `Batch.intrinsics`."""
        raise NotImplementedError

    def repeat(self, count: int) -> Camera:
        """The B cameras repeated `count` times, as `tensor.repeat(count)` does; for stacked sources."""
        return self.map(lambda tensor: tensor.repeat(count, *[1] * (tensor.ndim - 1)))

    def map(self, function: Callable[[Tensor], Tensor]) -> Camera:
        """The same record with `function` applied to every tensor, for example a permutation of the rows."""
        tensors = {
            field.name: function(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **tensors)

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return next(len(value) for value in values if isinstance(value, Tensor))

    def sees(self, height: int, width: int) -> Tensor:
        """(B, 1, H, W) bool, True for pixels with a ray. Datasets add the others to `ego_mask`."""
        return (self.rays(height, width) != 0).any(1, keepdim=True).unflatten(2, (height, width))


@dataclass
class Parametric(Camera):
    """A model with intrinsics K. A subclass maps directions to points of the plane z = 1 and back.

    Attributes:
        intrinsics: (B, 3, 3) pixels; (0, 0) is the centre of the first pixel.
    """

    intrinsics: Tensor

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        """Rays (B, 3, P) of distorted points on the plane z = 1, x (B, P) and y (B, P)."""
        raise NotImplementedError

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, P) points to distorted points (B, 2, P) and bool (B, P), True if they can be seen."""
        raise NotImplementedError

    def _mirror_distortion(self, sign: Tensor) -> dict[str, Tensor]:
        """The changed fields of a mirrored camera, except intrinsics; `sign` (B,) is -1 if mirrored."""
        return {}

    def rays(self, height: int, width: int) -> Tensor:
        """Rays of all pixels, cached for the scales of a step unless they need a gradient.

        A change of a tensor of the camera invalidates the cache.
        """
        tensors = [getattr(self, field.name) for field in dataclasses.fields(self)]
        # A tensor made in inference mode has no version, and cannot be changed outside of that mode.
        versions = (0 if tensor.is_inference() else tensor._version for tensor in tensors)
        key = (height, width, *map(id, tensors), *versions)
        kept = self.__dict__.get("_kept")
        if kept is not None and kept[0] == key:
            return kept[1]
        rays = self.unproject(pixel_grid(height, width, self.intrinsics.device)[:2].to(self.intrinsics))
        if not rays.requires_grad:
            self.__dict__["_kept"] = key, rays
        return rays

    def unproject(self, pixels: Tensor) -> Tensor:
        """(B, 3, P) rays through any `pixels` (B, 2, P) or (2, P); see `rays`."""
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1, :])], -2)
        plane = invert_intrinsics(self.intrinsics) @ homogeneous
        return self._unproject(plane[:, 0], plane[:, 1])

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        plane, valid = self._distort(points)
        return self.intrinsics[:, :2, :2] @ plane + self.intrinsics[:, :2, 2:], valid

    def resized(self, old: Size, new: Size) -> Camera:
        scale = constants([[new[1] / old[1], new[0] / old[0]]], like=self.intrinsics)
        return self.zoomed(scale, torch.zeros_like(scale), new)

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        shift = constants([[0.0, 0.0, left], [0.0, 0.0, top], [0.0, 0.0, 0.0]], like=self.intrinsics)
        return dataclasses.replace(self, intrinsics=self.intrinsics - shift)

    def zoomed(self, scale: Tensor, offset: Tensor, size: Size) -> Camera:
        follow = torch.diag_embed(torch.cat([scale, torch.ones_like(scale[:, :1])], 1))
        follow[:, :2, 2] = (scale - 1) / 2 - offset
        return dataclasses.replace(self, intrinsics=follow.to(self.intrinsics) @ self.intrinsics)

    def mirrored(self, width: int, flip: Tensor | None = None) -> Camera:
        K = self.intrinsics.clone()
        flip = torch.ones(len(K), dtype=torch.bool, device=K.device) if flip is None else flip.to(K.device)
        K[:, 0, 2] = torch.where(flip, width - 1 - K[:, 0, 2], K[:, 0, 2])
        sign = torch.where(flip, -1.0, 1.0)
        K[:, 0, 1] = sign * K[:, 0, 1]  # skew
        return dataclasses.replace(self, intrinsics=K, **self._mirror_distortion(sign))

    def nearest_pinhole(self, height: int, width: int) -> Tensor:
        return self.intrinsics


@dataclass
class Pinhole(Parametric):
    """An ideal camera: pixel = K x / z."""

    depth_is_distance: ClassVar[bool] = False

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y, torch.ones_like(x)], 1)

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return in_front(points)


def in_front(points: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, P) points to (B, 2, P) on the plane z = 1 and (B, P), True in front of the camera."""
    z = points[:, 2]
    valid = z > NEAR
    return points[:, :2] / torch.where(valid, z, 1.0)[:, None], valid
