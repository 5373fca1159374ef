"""A plain implementation of SC-Depth's published losses, one ordered pair after the other.

Written from the specification as the published code computes. The random pairs of V3's two ranking terms and
V2's rotation terms are left out, here and on our side, since their draws differ.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from structures import Batch, Prediction


class PairLoss:
    """Photometric and geometry consistency, smoothness (V1, V2) or matching of normals (V3)."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __call__(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The total of `prediction.depths[0]` and the depths and poses of its sources."""
        images = {frame: (image - 0.45) / 0.225 for frame, image in batch.images.items()}
        depth, K, maps = prediction.depths[0], batch.intrinsics, []
        for frame in batch.sources:
            source = prediction.sources[frame]
            there, back = prediction.T_source_from_target[frame], source.T_source_from_target[0]
            maps.append(self._pair(images[0], images[frame], depth, source.depths[0], there, K))
            maps.append(self._pair(images[frame], images[0], source.depths[0], depth, back, K))
        difference, error, inconsistency, valid = (torch.cat(one, 1) for one in zip(*maps))
        best = difference.argmin(1, keepdim=True)
        error, inconsistency, valid = (x.gather(1, best) for x in (error, inconsistency, valid))
        total = self._mean(error, valid) + 0.1 * self._mean(inconsistency, valid)
        if self.version == "v3":
            reference = self._normals(batch.maps["pseudo_depth"].float(), K)
            return total + 0.1 * (self._normals(depth, K) - reference).abs().mean()
        return total + 0.1 * self._smoothness(depth, images[0])

    def _pair(
        self, image: Tensor, other: Tensor, depth: Tensor, other_depth: Tensor, T: Tensor, K: Tensor
    ) -> tuple[Tensor, ...]:
        points = self._points(depth, K).flatten(2)
        moved = K @ (T[:, :3, :3] @ points + T[:, :3, 3:])
        height, width = depth.shape[-2:]
        x, y = (moved[:, n] / (moved[:, 2] + 1e-7) for n in (0, 1))
        grid = torch.stack([2 * (x / (width - 1) - 0.5), 2 * (y / (height - 1) - 0.5)], -1)
        grid = grid.view(len(depth), height, width, 2)
        warped = F.grid_sample(other, grid, padding_mode="zeros", align_corners=False)
        found = F.grid_sample(other_depth, grid, padding_mode="zeros", align_corners=False)
        computed = moved[:, 2].view_as(depth)
        inconsistency = (computed - found).abs() / (computed + found)
        valid = (image.abs().mean(1, True) > 1e-3).float() * (warped.abs().mean(1, True) > 1e-3).float()
        difference = (image - warped).abs().mean(1, True)
        valid = valid * (difference < (image - other).abs().mean(1, True)).float()
        error = 0.15 * (image - warped).abs().clamp(0, 1) + 0.85 * self._ssim(image, warped)
        error = error.mean(1, True) * (1 - inconsistency).detach()
        return difference, error, inconsistency, valid

    @staticmethod
    def _points(depth: Tensor, K: Tensor) -> Tensor:
        height, width = depth.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=depth.device).float(),
            torch.arange(width, device=depth.device).float(),
            indexing="ij",
        )
        fx, fy, cx, cy = (K[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return depth * torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x + cx)], 1)

    @staticmethod
    def _ssim(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.pad(x, (3,) * 4, mode="reflect"), F.pad(y, (3,) * 4, mode="reflect")
        mean_x, mean_y = F.avg_pool2d(x, 7, 1), F.avg_pool2d(y, 7, 1)
        var_x = F.avg_pool2d(x**2, 7, 1) - mean_x**2
        var_y = F.avg_pool2d(y**2, 7, 1) - mean_y**2
        covariance = F.avg_pool2d(x * y, 7, 1) - mean_x * mean_y
        top = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
        bottom = (mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)
        return torch.clamp((1 - top / bottom) / 2, 0, 1)

    @staticmethod
    def _mean(values: Tensor, valid: Tensor) -> Tensor:
        return (values * valid).sum() / valid.sum() if valid.sum() > 100 else values.new_zeros(())

    @staticmethod
    def _smoothness(depth: Tensor, image: Tensor) -> Tensor:
        depth = depth / (depth.mean((2, 3), True) + 1e-7)
        dx = (depth[..., :-1] - depth[..., 1:]).abs()
        dy = (depth[..., :-1, :] - depth[..., 1:, :]).abs()
        edge_x = (image[..., :-1] - image[..., 1:]).abs().mean(1, True)
        edge_y = (image[..., :-1, :] - image[..., 1:, :]).abs().mean(1, True)
        return (dx * torch.exp(-edge_x)).mean() + (dy * torch.exp(-edge_y)).mean()

    def _normals(self, depth: Tensor, K: Tensor) -> Tensor:
        points = F.pad(self._points(depth, K), (1,) * 4, mode="replicate")
        kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=depth.device) / 8
        kernels = torch.stack([kernel, kernel.T])[:, None]
        derivatives = F.conv2d(points.flatten(0, 1)[:, None], kernels).unflatten(0, (-1, 3))
        return F.normalize(torch.linalg.cross(derivatives[:, :, 0], derivatives[:, :, 1], dim=1), dim=1)
