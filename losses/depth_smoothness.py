"""Edge-aware smoothness of depth (SC-Depth): depth may change where the image does.

    mean of  |dx d*| exp(-|dx I|) + |dy d*| exp(-|dy I|),     d* = d / mean(d),   I = (image - 0.45) / 0.225

Monodepth2's term (`losses/smoothness.py`) acts on disparity, in which near regions dominate. On depth, far
regions dominate (Bian et al., IJCV 2021, section 3.4).
"""

from __future__ import annotations

from torch import Tensor, nn

from layers import edge_aware_gradient
from losses import LOSSES
from losses._pairs import MEAN, STD
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class DepthSmoothness(nn.Module):
    """Smoothness of the target's finest depth.

    Raises:
        InputError: depth of another size than the image.
    """

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Returns a scalar without unit."""
        image, depth = batch.images[0], prediction.depths.get(0)
        if depth is None or depth.shape[-2:] != image.shape[-2:]:
            raise InputError("depth_smoothness needs depth of the image's size; set --scales 0")
        mean = depth.mean((2, 3), keepdim=True) + 1e-7
        return edge_aware_gradient(depth / mean, (image - MEAN) / STD)
