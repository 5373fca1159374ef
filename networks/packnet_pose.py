"""PackNet-SfM's pose networks: the motion from a target to each source, as translation and Euler angles.

    (t_x, t_y, t_z, r_x, r_y, r_z) = 0.01 * mean over pixels of conv(...)
    T_source_from_target = [R_x R_y R_z | t]

`packnet_pose` reads the target and all sources at once and normalises over groups of channels, so it does not
depend on the batch size (Zhou et al., CVPR 2017; as in Guizilini et al., CVPR 2020). `packnet_pose_resnet`
reads one source at a time (Godard et al., ICCV 2019). Both read the target first, before earlier and later
sources alike; `layers.euler_pose_matrix` makes the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks import NETWORKS, build_encoder
from networks._packing import GROUPS, initialise
from utils import InputError

# (output channels, kernel size) of each convolution
CONVOLUTIONS = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3), (256, 3), (256, 3))


@NETWORKS.register
class PackNetPose(nn.Module):
    """PoseNet: seven convolutions with group normalisation that halve each time. Keys are the published ones.

    Args:
        num_sources: number of source images, in the order of the frames.

    Raises:
        InputError: `num_sources` below 1.
    """

    is_pose_network = True

    def __init__(self, num_sources: int = 2) -> None:
        super().__init__()
        if num_sources < 1:
            raise InputError(f"a pose network needs at least 1 source, got num_sources {num_sources}")
        self.num_sources = num_sources
        channels = 3 * (1 + num_sources)
        for number, (width, kernel) in enumerate(CONVOLUTIONS, 1):
            conv = nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2)
            self.add_module(f"conv{number}", nn.Sequential(conv, nn.GroupNorm(GROUPS, width), nn.ReLU(True)))
            channels = width
        self.pose_pred = nn.Conv2d(channels, 6 * num_sources, 1)
        initialise(self)

    def forward(self, target: Tensor, sources: Sequence[Tensor]) -> Tensor:
        """Motions from the target to its sources.

        Args:
            target: (B, 3, H, W) in [0, 1].
            sources: `num_sources` images of the same shape.

        Returns:
            (B, S, 6) float32, T_source_from_target: translation in the unit of the training depths, then
            Euler angles in radians.

        Raises:
            InputError: another number of sources.
        """
        if len(sources) != self.num_sources:
            raise InputError(
                f"this pose network sees {self.num_sources} sources at once, got {len(sources)}; "
                "frame_ids and num_sources must agree"
            )
        x = torch.cat([target, *sources], 1)
        for number in range(1, 1 + len(CONVOLUTIONS)):
            x = self.get_submodule(f"conv{number}")(x)
        motion = self.pose_pred(x).float().mean((2, 3))
        return 0.01 * motion.unflatten(1, (self.num_sources, 6))


@NETWORKS.register("packnet_pose_resnet")
class PackNetPoseResnet(nn.Module):
    """PoseResNet: a ResNet on target and source, and the pose decoder. Keys are the published ones.

    As in the published files, the decoder predicts two motions and the first is used.

    Args:
        num_layers: ResNet layers: 18, 34, 50, 101 or 152; 18 and 50 are published.
        pretrained: start from ImageNet weights.

    Raises:
        InputError: another number of layers, or ImageNet weights that cannot be loaded.
    """

    is_pose_network = True

    def __init__(self, num_layers: int = 18, pretrained: bool = False) -> None:
        super().__init__()
        self.encoder = build_encoder(f"resnet{num_layers}", num_images=2, pretrained=pretrained)
        decoder = NETWORKS.get("pose_decoder")
        self.decoder = decoder(self.encoder.num_channels, num_input_features=1, num_frames=2)

    def forward(self, target: Tensor, sources: Sequence[Tensor]) -> Tensor:
        """Motions from the target to any number of sources; shapes and units as `PackNetPose.forward`."""
        motions = []
        for source in sources:
            axis_angle, translation = self.decoder([self.encoder(torch.cat([target, source], 1))])
            # The published decoder names the angles axis-angle but uses them as Euler angles.
            motions.append(torch.cat([translation[:, 0], axis_angle[:, 0]], 1))
        return torch.stack(motions, 1)
