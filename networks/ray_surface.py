"""Neural ray surfaces: a network that predicts depth and the viewing ray of every pixel.

    rays = unit(template + g tanh(conv(...))),   point = depth * ray

One ResNet feeds two decoders, one for inverse depth and one for the correction of a template of rays, so that
any central camera can be learned from video (Vasiljevic et al., 3DV 2020). Depth decodes as in Monodepth2,
between 0.1 and 100.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks import NETWORKS, build_encoder


@NETWORKS.register
class RaySurface(nn.Module):
    """RaySurfaceResNet: images to disparities and ray corrections. Keys are the published ones.

    Args:
        scales: resolution levels of the disparities, from 0 (the image size) to 4.
        pretrained: start from ImageNet weights.
        num_layers: ResNet layers: 18, 34, 50, 101 or 152.

    Raises:
        InputError: another number of layers; scales that are missing, doubled or out of range; ImageNet
            weights that cannot be loaded.
    """

    is_depth_network = True

    def __init__(
        self, scales: Sequence[int] = (0, 1, 2, 3), pretrained: bool = False, num_layers: int = 18
    ) -> None:
        super().__init__()
        decoder = NETWORKS.get("depth_decoder")
        self.encoder = build_encoder(f"resnet{num_layers}", pretrained=pretrained)
        self.decoder = decoder(self.encoder.num_channels, scales)
        self.ray_surf = decoder(self.encoder.num_channels, (0,), num_outputs=3)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) in [0, 1] to scale → disparity (B, 1, H / 2**scale, W / 2**scale) in [0, 1]."""
        return self.decoder(self.encoder(images))

    def disparities_and_rays(self, images: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """The disparities of `forward`, and the correction of the rays, (B, 3, H, W) in (-1, 1), float32.

        The rays themselves are the template plus this correction, each divided by its length.
        """
        features = self.encoder(images)
        return self.decoder(features), torch.tanh(self.ray_surf.logits(features)[0].float())
