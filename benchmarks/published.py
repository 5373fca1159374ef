"""Plain implementations of the published pipeline, the reference of `make bench`.

Written from the specification step by step, as the published code computes: each scale separately, the
identity error at each scale, a pyramid of four Lanczos levels for each frame, colour jitter on every level.
Only the benchmarks and the tests that compare with it use this file.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as TF


def load_sample(paths: dict[int, Path], height: int, width: int, scales: int = 4) -> dict[tuple, Tensor]:
    """One training sample as the published loader builds it: float pyramids, plain and jittered."""
    augment, flip = random.random() > 0.5, random.random() > 0.5
    order, *factors = ColorJitter.get_params((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.1, 0.1))
    changes = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)

    def jitter(image: Image.Image) -> Image.Image:
        for place in order.tolist():
            image = changes[place](image, factors[place])
        return image

    sample = {}
    for frame, path in paths.items():
        with open(path, "rb") as file:
            image = Image.open(file).convert("RGB")
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for scale in range(scales):
            size = (width // 2**scale, height // 2**scale)
            image = image.resize(size, Image.Resampling.LANCZOS)
            sample["color", frame, scale] = TF.to_tensor(image)
            sample["color_aug", frame, scale] = TF.to_tensor(jitter(image) if augment else image)
    return sample


class Loss:
    """The published warp and loss: minimum reprojection, automask, four scales at full resolution."""

    def __init__(self, height: int, width: int, min_depth: float = 0.1, max_depth: float = 100.0) -> None:
        self.height, self.width = height, width
        self.min_depth, self.max_depth = min_depth, max_depth
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.pixels = torch.stack([x.reshape(-1), y.reshape(-1), torch.ones(height * width)]).float()

    def __call__(
        self,
        images: dict[int, Tensor],
        disparities: dict[int, Tensor],
        poses: dict[int, Tensor],
        K: Tensor,
        noise: float = 1e-5,
        movable: list[Tensor] | None = None,
    ) -> Tensor:
        """The total loss of images by frame, disparities by scale, poses (B, 4, 4) by source, K (B, 4, 4).

        `movable` are the movable pixels (B, 1, H, W) of target and sources; SGDepth leaves them out in images
        in which the target's overlap less than half with the warped ones.
        """
        target, total = images[0], 0
        for scale, disparity in disparities.items():
            small = F.interpolate(target, disparity.shape[-2:], mode="area")
            full = F.interpolate(disparity, (self.height, self.width), mode="bilinear", align_corners=False)
            low, high = 1 / self.max_depth, 1 / self.min_depth
            depth = 1 / (low + (high - low) * full)
            warped = [self._warp(images[frame], depth, T, K) for frame, T in poses.items()]
            reprojection = torch.cat([self._error(image, target) for image in warped], 1)
            identity = torch.cat([self._error(images[frame], target) for frame in poses], 1)
            identity = identity + torch.randn_like(identity) * noise
            least = torch.min(torch.cat([identity, reprojection], 1), dim=1, keepdim=True)[0]
            if movable is not None:
                if scale == 0:
                    weight = self._static(movable, depth.detach(), poses, K)
                least = least * weight
            total = total + least.mean()
            normal = disparity / (disparity.mean(2, True).mean(3, True) + 1e-7)
            total = total + 1e-3 * self._smoothness(normal, small) / 2**scale
        return total / len(disparities)

    @torch.no_grad()
    def _static(self, movable: list[Tensor], depth: Tensor, poses: dict[int, Tensor], K: Tensor) -> Tensor:
        """(B, 1, H, W), 0 on movable pixels of images in which objects move."""
        target, *sources = movable
        warped = [
            self._warp(source.float(), depth, T, K, mode="nearest") > 0.5
            for source, T in zip(sources, poses.values())
        ]
        both = sum((target & image).sum((1, 2, 3)) for image in warped)
        either = sum((target | image).sum((1, 2, 3)) for image in warped)
        moving = both / either < 0.5
        return 1 - (moving[:, None, None, None] & (target | warped[0] | warped[1])).float()

    def _warp(self, source: Tensor, depth: Tensor, T: Tensor, K: Tensor, mode: str = "bilinear") -> Tensor:
        batch = len(depth)
        pixels = self.pixels[None].repeat(batch, 1, 1)
        points = depth.view(batch, 1, -1) * (torch.linalg.inv(K)[:, :3, :3] @ pixels)
        points = torch.cat([points, torch.ones(batch, 1, self.height * self.width)], 1)
        image = (K @ T)[:, :3] @ points
        xy = image[:, :2] / (image[:, 2:] + 1e-7)
        grid = xy.view(batch, 2, self.height, self.width).permute(0, 2, 3, 1).clone()
        grid[..., 0] /= self.width - 1
        grid[..., 1] /= self.height - 1
        return F.grid_sample(source, (grid - 0.5) * 2, mode=mode, padding_mode="border", align_corners=True)

    def _error(self, prediction: Tensor, target: Tensor) -> Tensor:
        l1 = (target - prediction).abs().mean(1, True)
        return 0.85 * self._ssim(prediction, target).mean(1, True) + 0.15 * l1

    @staticmethod
    def _ssim(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.pad(x, (1, 1, 1, 1), mode="reflect"), F.pad(y, (1, 1, 1, 1), mode="reflect")
        mean_x, mean_y = F.avg_pool2d(x, 3, 1), F.avg_pool2d(y, 3, 1)
        var_x = F.avg_pool2d(x**2, 3, 1) - mean_x**2
        var_y = F.avg_pool2d(y**2, 3, 1) - mean_y**2
        covariance = F.avg_pool2d(x * y, 3, 1) - mean_x * mean_y
        top = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
        bottom = (mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)
        return torch.clamp((1 - top / bottom) / 2, 0, 1)

    @staticmethod
    def _smoothness(disparity: Tensor, image: Tensor) -> Tensor:
        dx = (disparity[:, :, :, :-1] - disparity[:, :, :, 1:]).abs()
        dy = (disparity[:, :, :-1] - disparity[:, :, 1:]).abs()
        edge_x = (image[:, :, :, :-1] - image[:, :, :, 1:]).abs().mean(1, keepdim=True)
        edge_y = (image[:, :, :-1] - image[:, :, 1:]).abs().mean(1, keepdim=True)
        return (dx * torch.exp(-edge_x)).mean() + (dy * torch.exp(-edge_y)).mean()
