"""Pose decoder: the camera's motion from an encoder's coarsest feature, averaged over the image.

    (axis_angle, translation) = 0.01 * mean over pixels of conv(...)

The factor lets training start near zero motion, where the resampled source still overlaps the target
(Zhou et al., CVPR 2017; with a ResNet as in Godard et al., ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError

FACTOR = 0.01  # training starts near zero motion


@NETWORKS.register
class PoseDecoder(nn.Module):
    """Four convolutions, the first shared by all input features. Keys `net.0` to `net.3`.

    Args:
        num_channels: channels of an encoder's features, finest first; only the last is used.
        num_input_features: number of input lists of features: 1 from an encoder that reads all frames
            stacked, or one per frame.
        num_frames: number of output motions; None for `num_input_features` - 1.
        factor_in_weights: multiply the last convolution's initial weights by 0.01 instead of every output
            (SGDepth). A training step then changes the output a hundred times as much.

    Raises:
        InputError: `num_input_features` or `num_frames` below 1.
    """

    def __init__(
        self,
        num_channels: Sequence[int],
        num_input_features: int = 1,
        num_frames: int | None = None,
        factor_in_weights: bool = False,
    ) -> None:
        super().__init__()
        if num_input_features < 1:
            raise InputError(f"num_input_features must be at least 1, got {num_input_features}")
        if num_frames is None and num_input_features == 1:
            raise InputError("one input feature leaves the number of motions open; give num_frames")
        self.num_frames = num_input_features - 1 if num_frames is None else num_frames
        if self.num_frames < 1:
            raise InputError(f"num_frames must be at least 1, got {num_frames}")
        self.net = nn.ModuleList(
            [
                nn.Conv2d(num_channels[-1], 256, 1),
                nn.Conv2d(256 * num_input_features, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
                nn.Conv2d(256, 6 * self.num_frames, 1),
            ]
        )
        self.factor = 1.0 if factor_in_weights else FACTOR
        if factor_in_weights:
            for parameter in self.net[-1].parameters():
                parameter.data *= FACTOR

    def forward(self, features: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """One list of features, (B, C, h, w) each, for every input feature.

        Returns:
            axis_angle: (B, num_frames, 3) radians, float32.
            translation: (B, num_frames, 3) in the unit of the training depths, float32.
        """
        squeeze, first, second, last = self.net
        x = torch.cat([F.relu(squeeze(levels[-1])) for levels in features], 1)
        motion = last(F.relu(second(F.relu(first(x)))))
        motion = self.factor * motion.float().mean((2, 3)).unflatten(1, (self.num_frames, 6))
        return motion[..., :3], motion[..., 3:]
