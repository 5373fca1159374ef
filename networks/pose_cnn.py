"""PoseCNN: the camera's motion from stacked frames, by seven plain convolutions that halve each time.

    (axis_angle, translation) = 0.01 * mean over pixels of conv(...)

Images in [0, 1] are not normalised (Zhou et al., CVPR 2017; as in Wang et al., CVPR 2018).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from utils import InputError

# (output channels, kernel size) of each convolution
CONVOLUTIONS = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3), (256, 3), (256, 3))


@NETWORKS.register
class PoseCNN(nn.Module):
    """Motions between `num_frames` frames. Keys `net.0` to `net.6` and `pose_conv`.

    Args:
        num_frames: RGB frames stacked on the channel axis; the output has num_frames - 1 motions.

    Raises:
        InputError: fewer than two frames.
    """

    def __init__(self, num_frames: int = 2) -> None:
        super().__init__()
        if num_frames < 2:
            raise InputError(f"motion takes at least 2 frames, got num_frames {num_frames}")
        self.num_motions = num_frames - 1
        self.net = nn.ModuleList()
        channels = 3 * num_frames
        for width, kernel in CONVOLUTIONS:
            self.net.append(nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2))
            channels = width
        self.pose_conv = nn.Conv2d(channels, 6 * self.num_motions, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3 num_frames, H, W) in [0, 1] to the motions.

        Returns:
            axis_angle: (B, num_frames - 1, 3) radians, float32.
            translation: (B, num_frames - 1, 3) in the unit of the training depths, float32.
        """
        x = images
        for conv in self.net:
            x = F.relu(conv(x))
        motion = self.pose_conv(x).float()
        motion = 0.01 * motion.mean((2, 3)).unflatten(1, (self.num_motions, 6))
        return motion[..., :3], motion[..., 3:]
