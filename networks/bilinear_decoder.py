"""Depth decoder with bilinear upsampling: smoother than nearest neighbour, with the same keys.

    x = conv(join(up(conv(x)), features[level - 1])),   up: bilinear, x 2, align_corners=False

SC-Depth V1 to V3 decode this way (Bian et al., IJCV 2021); everything else is `networks/depth_decoder.py`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from networks import NETWORKS
from networks.depth_decoder import DepthDecoder


@NETWORKS.register
class BilinearDecoder(DepthDecoder):
    """As `DepthDecoder`, with its settings and keys."""

    def enlarge(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2 h, 2 w)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
