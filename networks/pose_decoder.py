"""Pose decoder: the camera's motion from an encoder's coarsest feature, averaged over the image.

    (axis_angle, translation) = 0.01 * mean over pixels of conv(...)

The factor begins training near standing still, where the resampled source still overlaps the target
(Zhou et al., CVPR 2017; with a ResNet as in Godard et al., ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError

FACTOR = 0.01  # begins training near standing still


@NETWORKS.register
class PoseDecoder(nn.Module):
    """Four convolutions, the first shared by all input features. Keys `net.0` to `net.3`.

    Args:
        num_channels: of an encoder's features, finest first; the last counts.
        num_input_features: lists of features that come in: 1 from an encoder that saw all frames stacked, or
            one for each frame.
        num_frames: motions that go out; None is one fewer than `num_input_features`.
        factor_in_weights: multiply the last convolution's initial weights by 0.01 instead of every output
            (SGDepth). Its steps in training are then a hundred times as large.

    Raises:
        InputError: no feature comes in or no motion goes out.
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
            raise InputError("one input feature does not tell how many motions it holds; give num_frames")
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
            translation: (B, num_frames, 3) in the unit of the depths it is trained with, float32.
        """
        squeeze, first, second, last = self.net
        x = torch.cat([F.relu(squeeze(levels[-1])) for levels in features], 1)
        motion = last(F.relu(second(F.relu(first(x)))))
        motion = self.factor * motion.float().mean((2, 3)).unflatten(1, (self.num_frames, 6))
        return motion[..., :3], motion[..., 3:]
