"""Context: any encoder, with a further first feature at the image's own size.

    features = [relu(norm(conv(image))), *encoder(image)]

A decoder that predicts at the image's own size joins this feature (Liu et al., RA-L 2024). ResNet and HRNet
have a context of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks import NETWORKS, build_encoder

CHANNELS = 64  # channels of the context


@NETWORKS.register
class Context(nn.Module):
    """An encoder and its context. Keys: `encoder.` and the encoder's own, `context_conv`, `context_bn`.

    Args:
        encoder: a name for `networks.build_encoder`.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from ImageNet weights in the encoder; the context starts from random weights.
    """

    def __init__(self, encoder: str, num_images: int = 1, pretrained: bool = False) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, num_images, pretrained)
        self.num_channels = [CHANNELS, *self.encoder.num_channels]
        self.strides = (1, *self.encoder.strides)
        self.context_conv = nn.Conv2d(3 * num_images, CHANNELS, 3, padding=1, bias=False)
        self.context_bn = nn.BatchNorm2d(CHANNELS)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 num_images, H, W) in [0, 1] to features (B, num_channels[k], H / stride, W / stride)."""
        context = torch.relu(self.context_bn(self.context_conv((image - 0.45) / 0.225)))
        return [context, *self.encoder(image)]
