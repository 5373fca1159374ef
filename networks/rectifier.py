"""Rectification network: the rotation between two frames of a hand-held video, removed before training.

    rotation = mean over pixels of conv(...)              Euler angles, R = Rx Ry Rz
    rectified(p) = source(K R K^-1 p)                     a pure rotation, so no depth is needed

The rotation of a hand-held camera dominates the flow and teaches depth nothing. Without it the remaining
motion resembles that of a car (Bian et al., Auto-Rectify Network for Unsupervised Indoor Depth Estimation,
PAMI 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import euler_to_rotation, invert_intrinsics, pixel_grid
from networks import NETWORKS, build_encoder

BLANK = 0.45  # grey, 0 after normalisation: colour of the pixels that a rectified image lacks
RANGE = 0.05  # radians; random rotations are uniform within +-RANGE about each axis
TRUSTED = (0.02, 0.1)  # radians; a mean rotation in this range supervises itself


@dataclass
class Rectified:
    """A source without its rotation relative to the target, and the rotations that supervise the network.

    Attributes:
        image: (B, 3, H, W) in [0, 1].
        seen: (B, 1, H, W) bool, False where the source does not show the pixel.
        before: (B, 3) radians, rotation of the source.
        after: (B, 3) radians, rotation of the rectified source, ideally 0.
        recovered: (B, 3) radians, rotation between a source and the same source turned by `known`.
        known: (B, 3) radians, without a gradient.
    """

    image: Tensor
    seen: Tensor
    before: Tensor
    after: Tensor
    recovered: Tensor
    known: Tensor


@NETWORKS.register
class Rectifier(nn.Module):
    """ResNet over two images at half size, four convolutions, the mean over the image.

    Args:
        num_layers: layers of the ResNet; 18 is published.
        pretrained: start from ImageNet weights.
    """

    def __init__(self, num_layers: int = 18, pretrained: bool = False) -> None:
        super().__init__()
        self.encoder = build_encoder(f"resnet{num_layers}", num_images=2, pretrained=pretrained)
        self.net = nn.ModuleList(
            [
                nn.Conv2d(self.encoder.num_channels[-1], 256, 1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 3, 1),
            ]
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Rotation from the target's camera to the source's.

        Args:
            target, source: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 3) radians about x, y and z, float32.
        """
        height, width = target.shape[-2:]
        pair = torch.cat([target, source], 1)
        pair = F.interpolate(pair, (height // 2, width // 2), mode="bilinear", align_corners=True)
        x = self.encoder(pair)[-1]
        for convolution in self.net[:-1]:
            x = F.relu(convolution(x))
        return self.net[-1](x).float().mean((2, 3))

    def rectify(
        self, target: Tensor, source: Tensor, intrinsics: Tensor, generator: torch.Generator | None = None
    ) -> Rectified:
        """Remove the rotation of a source, and predict two more rotations that supervise the network.

        A mean rotation of 0.02 to 0.1 radians supervises itself: it is large enough to matter and small
        enough to be plausible. Otherwise a random rotation does.

        Args:
            target, source: (B, 3, H, W) in [0, 1].
            intrinsics: (B, 3, 3) pixels at H x W.
            generator: generator of the random rotations, on the images' device.
        """
        before = self(target, source)
        image, seen = turn(source, before, intrinsics)
        after = self(target, image)
        drawn = torch.rand(before.shape, generator=generator, device=before.device)
        known = self.supervision(before.detach(), drawn)
        with torch.no_grad():
            turned, _ = turn(source, known, intrinsics)
        # The turned image is the target here: the network predicts the rotation from it to the source.
        return Rectified(image, seen, before, after, self(turned, source), known)

    @staticmethod
    def supervision(rotation: Tensor, drawn: Tensor) -> Tensor:
        """The rotation itself if its mean is plausible, else a random one; (B, 3), `drawn` in [0, 1)."""
        size = rotation.abs().mean()
        trusted = (size > TRUSTED[0]) & (size < TRUSTED[1])
        return torch.where(trusted, rotation, (2 * drawn - 1) * RANGE)


def turn(image: Tensor, angles: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """The image of a turned camera: pixel p shows the content of pixel K R K^-1 p.

    Args:
        image: (B, 3, H, W) in [0, 1].
        angles: (B, 3) radians about x, y and z.
        intrinsics: (B, 3, 3) pixels at H x W.

    Returns:
        (B, 3, H, W), grey beyond the border, and (B, 1, H, W) bool, True where the image has content.
    """
    height, width = image.shape[-2:]
    with torch.autocast(image.device.type, enabled=False):
        homography = intrinsics @ euler_to_rotation(angles.float()) @ invert_intrinsics(intrinsics)
        x, y, z = (homography @ pixel_grid(height, width, image.device)).unbind(1)
        x, y = x / (z + 1e-7), y / (z + 1e-7)
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
        grid = torch.nan_to_num(grid).unflatten(1, (height, width))
        turned = F.grid_sample(image.float() - BLANK, grid, padding_mode="zeros", align_corners=True) + BLANK
        seen = (grid.detach().abs() <= 1).all(-1)[:, None] & (z.detach().view(-1, 1, height, width) > 0)
    return turned, seen
