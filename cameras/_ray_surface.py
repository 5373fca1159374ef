"""Ray surface: one direction per pixel, for a camera with any or no model (Vasiljevic et al. 2020).

    point = Q(p) d(p),     project(X) = the pixel p with a ray Q(p) towards X

A network may predict Q as a correction of a template, which grows during training:

    Q = normalise(template + g residual),     g = min((100 progress)^(4/3) / 100, 1)

There is no formula for the projection. Two rules are implemented:

* `refine` (default): the nearest ray of a coarse grid, then Gauss-Newton steps on Q, interpolated bilinearly,
  so that project(rays * depth) is the pixel again. The last step carries the gradient to the points and Q.
* `softmax`, the published rule: at half resolution, the mean of the pixels of a window around the point's own
  pixel, weighted by softmax(cosine / temperature). It needs one point for each pixel, and does not find a ray
  outside of the window. Near the border the window is one-sided, and the mean is biased towards the inside.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cameras._base import Camera, Size
from devices import constants
from layers import pixel_grid
from utils import InputError, nearest_name

RULES = ("refine", "softmax")
_COARSE = 32  # rays along the longer side of the coarse grid
_STEPS = 6  # Gauss-Newton steps
_CHUNK = 1 << 24  # largest number of elements of one chunk of the coarse search


@dataclass
class RaySurface(Camera):
    """One ray per pixel.

    Attributes:
        directions: (B, 3, H, W), unit vectors, or (0, 0, 0) where a pixel has no ray.
        projection: `refine` or `softmax`.
        window: side length of the softmax's window in pixels of its resolution; odd.
        temperature: temperature of the softmax. The published code lowers it from 1e-4 to 0.905e-4 during
            training, see `published_temperature`.
        halve: compare at half resolution, as published.

    Raises:
        InputError: an unknown rule, an even window.
    """

    directions: Tensor
    projection: str = "refine"
    window: int = 41
    temperature: float = 1e-4
    halve: bool = True

    def __post_init__(self) -> None:
        if self.projection not in RULES:
            raise InputError(f"projection is 'refine' or 'softmax'{nearest_name(self.projection, RULES)}")
        if self.window < 3 or self.window % 2 == 0:
            raise InputError(f"window must be odd and at least 3, got {self.window}; the published one is 41")

    @classmethod
    def of(
        cls, template: Tensor, residual: Tensor | None = None, share: float = 1.0, **settings
    ) -> RaySurface:
        """The surface normalise(template + share * residual), both (B or 1, 3, H, W)."""
        directions = template if residual is None else template + share * residual
        return cls(F.normalize(directions, dim=1), **settings)

    @property
    def size(self) -> Size:
        return self.directions.shape[-2], self.directions.shape[-1]

    def rays(self, height: int, width: int) -> Tensor:
        if (height, width) != self.size:
            raise InputError(
                f"the ray surface has {self.size[1]}x{self.size[0]} rays and the image is {width}x{height}; "
                "call resized() on the camera, or write another template with tools/ray_template.py"
            )
        return self.directions.flatten(2)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        if self.projection == "softmax":
            return self._project_softmax(points)
        return self._project_refined(F.normalize(points, dim=1))

    # The default rule.

    def _project_refined(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, P) pixels of directions (B, 3, P), and bool (B, P), True if the error is below 1."""
        height, width = self.size
        with torch.no_grad():
            pixels = self._nearest_coarse(unit)
            reach = float(max(2, math.ceil(max(self.size) / _COARSE)))  # largest step in pixels
            for _ in range(_STEPS):
                step, _ = self._gauss_newton(pixels, unit)
                pixels = pixels + step.clamp(-reach, reach)
                pixels = torch.stack(
                    [
                        pixels[:, 0].clamp(-0.5 * width, 1.5 * width),
                        pixels[:, 1].clamp(-0.5 * height, 1.5 * height),
                    ],
                    1,
                )
        step, _ = self._gauss_newton(pixels, unit)
        pixels = pixels + step.clamp(-reach, reach)
        with torch.no_grad():
            _, miss = self._gauss_newton(pixels, unit)
            x, y = pixels.unbind(1)
            inside = (x > -1) & (x < width) & (y > -1) & (y < height)
            valid = inside & (miss < 1) & (unit != 0).any(1)
        return torch.where(valid[:, None], pixels, 0.0), valid

    def _nearest_coarse(self, unit: Tensor) -> Tensor:
        """(B, 2, P) pixels with the largest cosine among the rays of every n-th row and column."""
        height, width = self.size
        n = max(1, max(height, width) // _COARSE)
        rows = torch.arange(n // 2, height, n, device=unit.device)
        columns = torch.arange(n // 2, width, n, device=unit.device)
        rays = self.directions[:, :, rows][:, :, :, columns].flatten(2)  # (B, 3, cells)
        length = max(1, _CHUNK // (len(rays) * rays.shape[2]))
        # The search for the largest is several times faster along the last axis.
        parts = unit.transpose(1, 2).split(length, 1)
        best = torch.cat([(part @ rays).argmax(2) for part in parts], 1)
        return torch.stack([columns[best % len(columns)], rows[best // len(columns)]], 1).to(unit)

    def _gauss_newton(self, pixels: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """The step (B, 2, P) in pixels that turns the rays at `pixels` towards `unit`, and their error (B, P)
        in pixels.
        """
        ray, across, down = self._interpolate(pixels)
        a, b, d = (across * across).sum(1), (across * down).sum(1), (down * down).sum(1)
        determinant = (a * d - b * b).clamp(min=1e-14)
        error = unit - ray
        by_x, by_y = (across * error).sum(1), (down * error).sum(1)
        step = torch.stack([(d * by_x - b * by_y) / determinant, (a * by_y - b * by_x) / determinant], 1)
        miss = error.norm(dim=1) / torch.maximum(a, d).sqrt().clamp(min=1e-7)
        return step, miss

    def _interpolate(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit rays (B, 3, P) at `pixels` (B, 2, P) and their change per pixel along x and y.

        Outside of the image, the rays of the last two rows or columns are continued.
        """
        height, width = self.size
        x, y = pixels.unbind(1)
        left, top = x.detach().floor().clamp(0, width - 2), y.detach().floor().clamp(0, height - 2)
        fx, fy = (x - left)[:, None], (y - top)[:, None]
        flat = self.directions.flatten(2)
        index = (top * width + left).long()[:, None].expand(-1, 3, -1)
        a, b = flat.gather(2, index), flat.gather(2, index + 1)
        c, d = flat.gather(2, index + width), flat.gather(2, index + width + 1)
        above, below = a + fx * (b - a), c + fx * (d - c)
        ray = above + fy * (below - above)
        across = (b - a) + fy * ((d - c) - (b - a))
        down = below - above
        length = ray.norm(dim=1, keepdim=True).clamp(min=1e-6)
        ray = ray / length
        # The derivative of a unit vector is orthogonal to it.
        across = (across - ray * (ray * across).sum(1, keepdim=True)) / length
        down = (down - ray * (ray * down).sum(1, keepdim=True)) / length
        return ray, across.detach(), down.detach()

    # The published rule.

    def _project_softmax(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, P) pixels of points (B, 3, P), one for each pixel of the image."""
        height, width = self.size
        if points.shape[2] != height * width:
            raise InputError(
                f"projection 'softmax' needs one point for each of the {height * width} pixels, got "
                f"{points.shape[2]}; use projection 'refine'"
            )
        rays, valid = self.directions, (points.detach() != 0).any(1)
        points = points.unflatten(2, (height, width))
        size = (height // 2, width // 2) if self.halve else (height, width)
        if size != (height, width):
            both = torch.cat([rays, points], 1)
            both = F.interpolate(both, size, mode="bilinear", align_corners=True)
            rays, points = both[:, :3], both[:, 3:]  # published: the rays keep their length below 1
        if min(size) < self.window:
            raise InputError(
                f"the softmax's window of {self.window} pixels is larger than {size[1]}x{size[0]}; "
                "lower window, or set halve to False"
            )
        grid = self._soft_argmax(rays, F.normalize(points, dim=1))  # (B, 2, h, w) in [-1, 1]
        if size != (height, width):
            grid = F.interpolate(grid, (height, width), mode="bilinear", align_corners=True)
        ends = constants([width - 1, height - 1], like=grid)[:, None]
        return (grid.flatten(2) + 1) / 2 * ends, valid

    def _soft_argmax(self, rays: Tensor, points: Tensor) -> Tensor:
        """(B, 2, h, w), the expected x and y in [-1, 1] of unit directions `points` among unit `rays`."""
        height, width = rays.shape[-2:]
        k, half = self.window, self.window // 2
        left = (torch.arange(width, device=rays.device) - half).clamp(0, width - k)
        within = pixel_grid(k, k, rays.device)[:2].T.to(rays)  # (k k, 2): x and y from a window's corner
        rows = []
        for row in range(height):  # one row of windows at a time, because all rows need too much memory
            top = min(max(row - half, 0), height - k)
            band = rays[:, :, top : top + k].unfold(3, k, 1)  # (B, 3, k, width - k + 1, k)
            seen = band[:, :, :, left].permute(0, 3, 1, 2, 4).flatten(3)  # (B, w, 3, k k)
            cosine = (points[:, :, row].transpose(1, 2)[:, :, None] @ seen)[:, :, 0]
            expected = torch.softmax(cosine / self.temperature, 2) @ within  # (B, w, 2)
            corner = torch.stack([left, torch.full_like(left, top)], 1)
            rows.append((expected + corner).transpose(1, 2))
        ends = constants([width - 1, height - 1], like=rays)[:, None, None]
        return 2 * torch.stack(rows, 2) / ends - 1

    # Transformed images.

    def resized(self, old: Size, new: Size) -> RaySurface:
        self.rays(*old)  # raises if `old` is not the size of the template
        scale = constants([[new[1] / old[1], new[0] / old[0]]], like=self.directions)
        return self.zoomed(scale, torch.zeros_like(scale), new)

    def cropped(self, top: int, left: int, height: int, width: int) -> RaySurface:
        return self._with(self.directions[:, :, top : top + height, left : left + width])

    def zoomed(self, scale: Tensor, offset: Tensor, size: Size) -> RaySurface:
        scale, offset = (values.to(self.directions)[:, :, None] for values in (scale, offset))
        pixels = pixel_grid(*size, self.directions.device)[:2]
        pixels = (pixels + 0.5 + offset) / scale - 0.5
        ray, _, _ = self._interpolate(pixels.expand(len(self.directions), -1, -1))
        return self._with(ray.unflatten(2, size))

    def mirrored(self, width: int, flip: Tensor | None = None) -> RaySurface:
        mirror = self.directions.flip(3) * constants([-1.0, 1.0, 1.0], like=self.directions)[:, None, None]
        if flip is not None:
            mirror = torch.where(flip.to(mirror.device)[:, None, None, None], mirror, self.directions)
        return self._with(mirror)

    def nearest_pinhole(self, height: int, width: int) -> Tensor:
        """Least squares over the rays within 60 degrees of the optical axis: x = f_x X / Z + c_x."""
        rays = self.rays(height, width).detach()
        z = rays[:, 2]
        weight = (z > 0.5).to(rays)  # (B, P)
        plane = rays[:, :2] / z.clamp(min=0.5)[:, None]
        pixels = pixel_grid(height, width, rays.device)[:2]
        count = weight.sum(1).clamp(min=1)[:, None]
        mean_plane = (plane * weight[:, None]).sum(2) / count
        mean_pixels = (pixels * weight[:, None]).sum(2) / count
        spread = (plane - mean_plane[:, :, None]) * weight[:, None]
        focal = (spread * (pixels - mean_pixels[:, :, None])).sum(2) / spread.square().sum(2).clamp(min=1e-6)
        K = torch.zeros(len(rays), 3, 3, device=rays.device)
        K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = focal[:, 0], focal[:, 1], 1.0
        K[:, :2, 2] = mean_pixels - focal * mean_plane
        return K

    def _with(self, directions: Tensor) -> RaySurface:
        return dataclasses.replace(self, directions=directions)


def published_temperature(progress: float) -> float:
    """The softmax's temperature, 1e-4 to 0.905e-4, at a progress of the training in [0, 1]."""
    return max(1e-8, 1e-4 / math.exp(0.1 * progress))


def residual_share(progress: float) -> float:
    """The weight g of a predicted residual at a progress of the training in [0, 1]; 1 from 0.316 on."""
    return min((100 * progress) ** (4 / 3) / 100, 1.0)
