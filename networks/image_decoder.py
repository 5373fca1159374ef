"""Image decoder: reconstructs the image from only an encoder's coarsest feature, without skip connections.

    x = conv(up(conv(x))),   image[s] = sigmoid(conv(x)) at 1 / 2**s of the input's size

It is the second half of FeatDepth's auto-encoder (Shu et al., Feature-metric Loss for Self-supervised
Learning of Depth and Egomotion, ECCV 2020). Without skips, the encoder must keep what the image shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from networks._blocks import ConvBlock, ReflectedConv
from utils import InputError

WIDTHS = (16, 32, 64, 128, 256)  # channels at level 0, the input's size, to 4, a sixteenth of it
SCALES = (0, 1, 2, 3)


@NETWORKS.register
class ImageDecoder(nn.Module):
    """Decoder that doubles the size five times, with an RGB image after each time except the first.

    Keys are the published ones, `upconv1` to `upconv5`, `iconv1` to `iconv5` and `disp1` to `disp4`; 1 is the
    finest.

    Args:
        num_channels: channels of an encoder's five features, finest first; only the last is read.

    Raises:
        InputError: not five features.
    """

    def __init__(self, num_channels: Sequence[int]) -> None:
        super().__init__()
        if len(num_channels) != len(WIDTHS):
            raise InputError(f"the image decoder follows 5 features, got {len(num_channels)}")
        channels = num_channels[-1]
        for level in reversed(range(len(WIDTHS))):
            self.add_module(f"upconv{level + 1}", ConvBlock(channels, WIDTHS[level]))
            self.add_module(f"iconv{level + 1}", ConvBlock(WIDTHS[level], WIDTHS[level]))
            channels = WIDTHS[level]
        for scale in SCALES:
            self.add_module(f"disp{scale + 1}", ReflectedConv(WIDTHS[scale], 3))

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """Reconstruct the image.

        Args:
            features: five of them, finest first; the last is (B, C, H / 32, W / 32).

        Returns:
            scale → (B, 3, H / 2**scale, W / 2**scale) RGB in (0, 1), float32, for the scales 0 to 3.

        Raises:
            InputError: an image whose height or width is below 64.
        """
        x = features[-1]
        if min(x.shape[-2:]) < 2:  # a single row has nothing to reflect
            raise InputError(
                "the image's height and width must be at least 64; its coarsest feature has "
                f"{x.shape[-2]} x {x.shape[-1]} pixels"
            )
        images = {}
        for level in reversed(range(len(WIDTHS))):
            x = F.interpolate(self.get_submodule(f"upconv{level + 1}")(x), scale_factor=2.0, mode="nearest")
            x = self.get_submodule(f"iconv{level + 1}")(x)
            if level in SCALES:
                images[level] = torch.sigmoid(self.get_submodule(f"disp{level + 1}")(x).float())
        return {scale: images[scale] for scale in SCALES}
