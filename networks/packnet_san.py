"""PackNet-SAN: one network for depth prediction and depth completion (Guizilini et al., CVPR 2021).

    f_j = w_j f_j + S_j + b_j     for the five packed features f_j of the image, j = 1 to 5

S_j are the maps of the sparse encoder (networks/sparse_encoder.py), 0 where the input depth has no
measurement. Without an input depth nothing is added and the network is a slim PackNet. Training compares the
features of both passes, so that prediction learns from completion (losses/feature_gap.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from networks import NETWORKS
from networks._packing import SLIM, PackDecoder, PackEncoder, with_widths


class FeaturesAndDisparities(NamedTuple):
    """Output of one pass: six features (B, C, H / 2**k, W / 2**k), and scale → disparity."""

    features: list[Tensor]
    disparities: dict[int, Tensor]


@NETWORKS.register
class PackNetSan(nn.Module):
    """PackNetSAN01: images, with or without an input depth, to disparities. Keys are the published ones.

    Args:
        scales: resolution levels of the output, from 0 (the image size) to 3.
        pretrained: accepted for all depth networks; there are no ImageNet weights for a PackNet, so the
            weights are random either way.
        version: `1A` concatenates skip connections, as published; `1B` adds them.
        dropout: probability of dropping a channel of a residual shortcut, in training; published configs
            have 0.5.
        gradient_checkpointing: recompute activations in the backward pass; less memory, more time.
        completion: train with input depths. Without them the sparse encoder gets no gradient, and False
            freezes it.
        widths: channels of the first convolution and of the five stages; the published ones if not given.

    Raises:
        InputError: an unknown version; scales that are missing, doubled or out of range; impossible widths.
    """

    is_depth_network = True
    takes_input_depth = True  # forward has a second argument, `Batch.maps["input_depth"]`

    def __init__(
        self,
        scales: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool = False,
        version: str = "1A",
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        completion: bool = True,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes = with_widths(SLIM, widths)
        self.encoder = PackEncoder(sizes, dropout, gradient_checkpointing)
        self.decoder = PackDecoder(sizes, version, scales, gradient_checkpointing)
        self.mconvs = NETWORKS.get("sparse_encoder")(sizes.widths[1:])
        self.weight = nn.Parameter(torch.ones(5))
        self.bias = nn.Parameter(torch.zeros(5))
        for part in (self.mconvs, self.weight, self.bias):
            part.requires_grad_(completion)

    def forward(self, images: Tensor, input_depth: Tensor | None = None) -> dict[int, Tensor]:
        """Images, and an input depth for completion, to disparities.

        Args:
            images: (B, 3, H, W) in [0, 1].
            input_depth: (B, 1, H, W) metres, 0 where unknown.

        Returns:
            scale → (B, 1, H / 2**scale, W / 2**scale) in [0, 1].
        """
        return self.features_and_disparities(images, input_depth).disparities

    def features_and_disparities(
        self, images: Tensor, input_depth: Tensor | None = None
    ) -> FeaturesAndDisparities:
        """The disparities of `forward`, and the features that the decoder joins."""
        return self._decoded(self.encoder(images), input_depth)

    def prediction_and_completion(
        self, images: Tensor, input_depth: Tensor
    ) -> tuple[FeaturesAndDisparities, FeaturesAndDisparities]:
        """Both passes, without and with the input depth, from one pass of the image encoder."""
        features = self.encoder(images)
        return self._decoded(features, None), self._decoded(features, input_depth)

    def _decoded(self, features: list[Tensor], input_depth: Tensor | None) -> FeaturesAndDisparities:
        if input_depth is not None:
            first, *packed = features
            sparse = self.mconvs(input_depth)
            fused = [w * f + s + b for w, f, s, b in zip(self.weight, packed, sparse, self.bias)]
            features = [first, *fused]
        return FeaturesAndDisparities(features, self.decoder(features))
