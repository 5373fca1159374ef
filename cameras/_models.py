"""Camera models with distortion: Brown-Conrady, Kannala-Brandt fisheye, unified and double sphere.

The inverse of a polynomial has no closed form. Newton's method finds it without gradient, and one last step
with gradient gives the derivative of the inverse (implicit function theorem).

A polynomial that was fitted within an image may decrease outside of it, so that points far to the side would
be projected into the image. Each model is therefore limited to angles below the first at which its polynomial
stops growing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cameras._base import Parametric, in_front

_STEPS = 7  # steps of Newton's method; a lens of 120 degrees takes five
_SAMPLES = 1024  # number of points at which a polynomial is tested for growth
_WIDEST = 8.0  # tangent of the widest angle tested for a lens on the plane z = 1: 83 degrees
_TINY = 1e-12


@dataclass
class BrownConrady(Parametric):
    """Radial and tangential distortion on the plane z = 1 (Brown 1966), as in OpenCV's `projectPoints`.

        x' = x rho + 2 p1 x y + p2 (r^2 + 2 x^2),     rho = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 ...)
        y' = y rho + p1 (r^2 + 2 y^2) + 2 p2 x y

    Attributes:
        distortion: (B, 4), (B, 5) or (B, 8): k1 k2 p1 p2 [k3 [k4 k5 k6]], OpenCV's order.
    """

    depth_is_distance: ClassVar[bool] = False

    distortion: Tensor

    def _coefficients(self) -> tuple[Tensor, ...]:
        """k1 k2 p1 p2 k3 k4 k5 k6, each (B, 1)."""
        missing = 8 - self.distortion.shape[1]
        padded = torch.cat([self.distortion, self.distortion.new_zeros(len(self.distortion), missing)], 1)
        return padded[:, :, None].unbind(1)

    def _radial(self, r2: Tensor) -> tuple[Tensor, Tensor]:
        """rho and its derivative with respect to r^2, from r^2 (B, P)."""
        k1, k2, _, _, k3, k4, k5, k6 = self._coefficients()
        top = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        slope_top = k1 + r2 * (2 * k2 + 3 * r2 * k3)
        slope_bottom = k4 + r2 * (2 * k5 + 3 * r2 * k6)
        return top / bottom, (slope_top - top / bottom * slope_bottom) / bottom

    def _bend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _, _, p1, p2, *_ = self._coefficients()
        r2 = x * x + y * y
        rho, _ = self._radial(r2)
        return (
            x * rho + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * rho + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    @torch.no_grad()
    def _widest(self) -> Tensor:
        """(B, 1), the radius on the plane z = 1 at which r rho(r) stops growing; inf if there is none."""
        r = torch.linspace(0, _WIDEST, _SAMPLES, device=self.distortion.device)[None]
        rho, slope = self._radial(r * r)
        return _first(rho + 2 * r * r * slope <= 0, r)

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        plane, valid = in_front(points)
        valid = valid & (plane.detach().norm(dim=1) < self._widest())
        # Invalid points keep a finite pixel: a polynomial of degree 7 overflows at the side of the camera.
        plane = torch.where(valid[:, None], plane, 0.0)
        return torch.stack(self._bend(plane[:, 0], plane[:, 1]), 1), valid

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        target = x, y
        with torch.no_grad():
            for _ in range(_STEPS):
                x, y = self._newton(x, y, *target)
        x, y = self._newton(x.detach(), y.detach(), *target)
        with torch.no_grad():
            found = self._bend(x, y)
            miss = (found[0] - target[0]).abs() + (found[1] - target[1]).abs()
            reached = (miss < 1e-4) & (torch.hypot(x, y) < self._widest())
        rays = torch.stack([x, y, torch.ones_like(x)], 1)
        return torch.where(reached[:, None], rays, 0.0)

    def _newton(self, x: Tensor, y: Tensor, x_target: Tensor, y_target: Tensor) -> tuple[Tensor, Tensor]:
        """One Newton step towards the point whose distorted point is the target."""
        _, _, p1, p2, *_ = self._coefficients()
        with torch.no_grad():
            rho, slope = self._radial(x * x + y * y)
            a = rho + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
            b = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
            d = rho + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
            determinant = a * d - b * b
            determinant = torch.where(determinant.abs() < 1e-6, 1e-6, determinant)
        x_bent, y_bent = self._bend(x, y)
        miss_x, miss_y = x_target - x_bent, y_target - y_bent
        x = x + (d * miss_x - b * miss_y) / determinant
        y = y + (a * miss_y - b * miss_x) / determinant
        return x.clamp(-2 * _WIDEST, 2 * _WIDEST), y.clamp(-2 * _WIDEST, 2 * _WIDEST)

    def _mirror_distortion(self, sign: Tensor) -> dict[str, Tensor]:
        distortion = self.distortion.clone()
        distortion[:, 3] = sign * distortion[:, 3]  # p2 bends along x
        return {"distortion": distortion}


@dataclass
class KannalaBrandt(Parametric):
    """Fisheye: the radius is a polynomial of the angle to the optical axis (Kannala and Brandt 2006, eq. 6).

        r = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)

    as in OpenCV's `cv2.fisheye`. All k are 0 for an equidistant lens.

    Attributes:
        distortion: (B, 4): k1 k2 k3 k4.
    """

    distortion: Tensor

    def _radius(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """r and its derivative, from theta (B, P)."""
        k1, k2, k3, k4 = self.distortion[:, :, None].unbind(1)
        t2 = theta * theta
        radius = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        return radius, 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + 9 * t2 * k4)))

    @torch.no_grad()
    def _widest(self) -> Tensor:
        """(B, 1) radians, the angle at which r stops growing, at most pi."""
        theta = torch.linspace(0, torch.pi, _SAMPLES, device=self.distortion.device)[None]
        return _first(self._radius(theta)[1] <= 0, theta).clamp(max=torch.pi)

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = points.unbind(1)
        across = (x * x + y * y).clamp(min=_TINY).sqrt()
        theta = torch.atan2(across, z)
        valid = (theta < self._widest()) & (points.detach().square().sum(1) > _TINY)
        radius, _ = self._radius(torch.where(valid, theta, 0.0))
        plane = points[:, :2] * (radius / across)[:, None]
        return torch.where(valid[:, None], plane, 0.0), valid

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        radius = (x * x + y * y).clamp(min=_TINY).sqrt()
        widest = self._widest()
        theta = torch.minimum(radius.detach(), widest)
        with torch.no_grad():
            reached = radius <= self._radius(widest)[0]
            for _ in range(_STEPS):
                theta = self._newton(theta, radius).clamp(min=0)
                theta = torch.minimum(theta, widest)
        theta = self._newton(theta, radius)
        across = torch.sin(theta) / radius
        rays = torch.stack([x * across, y * across, torch.cos(theta)], 1)
        return torch.where(reached[:, None], rays, 0.0)

    def _newton(self, theta: Tensor, target: Tensor) -> Tensor:
        radius, slope = self._radius(theta)
        return theta + (target - radius) / slope.detach().clamp(min=1e-3)


@dataclass
class Unified(Parametric):
    """Unified sphere model (Mei and Rives, ICRA 2007): the unit sphere seen from xi behind its centre.

        m = [x, y] / (z + xi |X|)

    xi = 0 is the pinhole, with unit rays.

    Attributes:
        xi: (B,), at least 0.
    """

    xi: Tensor

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        xi, length = self.xi[:, None], _length(points)
        # For xi > 1 the projection centre is outside the sphere and sees only its near part.
        farthest = torch.where(xi > 1, 1 / xi.clamp(min=_TINY), xi)
        valid = (points[:, 2] > -farthest * length) & (length > 1e-6)
        return _divide(points, points[:, 2] + xi * length, valid)

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        xi, r2 = self.xi[:, None], x * x + y * y
        inner = 1 + (1 - xi * xi) * r2
        along = (xi + inner.clamp(min=_TINY).sqrt()) / (1 + r2)
        rays = torch.stack([x * along, y * along, along - xi], 1)
        return torch.where((inner > 0)[:, None], rays, 0.0)


@dataclass
class DoubleSphere(Parametric):
    """Double sphere model (Usenko et al., 3DV 2018): two unit spheres xi apart, then a pinhole.

        d1 = |X|,  d2 = |[x, y, xi d1 + z]|,     m = [x, y] / (alpha d2 + (1 - alpha) (xi d1 + z))

    Attributes:
        xi: (B,), distance of the spheres.
        alpha: (B,) in [0, 1].
    """

    xi: Tensor
    alpha: Tensor

    def _distort(self, points: Tensor) -> tuple[Tensor, Tensor]:
        xi, alpha, d1 = self.xi[:, None], self.alpha[:, None], _length(points)
        shifted = xi * d1 + points[:, 2]
        d2 = (points[:, 0].square() + points[:, 1].square() + shifted.square()).clamp(min=_TINY).sqrt()
        w1 = torch.where(alpha > 0.5, (1 - alpha) / alpha.clamp(min=0.5), alpha / (1 - alpha).clamp(min=0.5))
        w2 = (w1 + xi) / (2 * w1 * xi + xi * xi + 1).clamp(min=_TINY).sqrt()
        valid = (points[:, 2] > -w2 * d1) & (d1 > 1e-6)
        return _divide(points, alpha * d2 + (1 - alpha) * shifted, valid)

    def _unproject(self, x: Tensor, y: Tensor) -> Tensor:
        xi, alpha, r2 = self.xi[:, None], self.alpha[:, None], x * x + y * y
        inner = 1 - (2 * alpha - 1) * r2
        z = (1 - alpha * alpha * r2) / (alpha * inner.clamp(min=_TINY).sqrt() + 1 - alpha)
        outer = z * z + (1 - xi * xi) * r2
        along = (z * xi + outer.clamp(min=_TINY).sqrt()) / (z * z + r2)
        rays = torch.stack([x * along, y * along, z * along - xi], 1)
        return torch.where(((inner > 0) & (outer > 0))[:, None], rays, 0.0)


def _length(points: Tensor) -> Tensor:
    return points.square().sum(1).clamp(min=_TINY).sqrt()


def _divide(points: Tensor, by: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 2, P) x and y over `by` (B, P), 0 where not valid."""
    valid = valid & (by > _TINY)
    plane = points[:, :2] / torch.where(valid, by, 1.0)[:, None]
    return torch.where(valid[:, None], plane, 0.0), valid


def _first(condition: Tensor, values: Tensor) -> Tensor:
    """(B, 1), the first of `values` (1, n) for which `condition` (B, n) holds; inf if there is none."""
    return torch.where(condition, values, torch.inf).amin(1, keepdim=True)
