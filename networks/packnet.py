"""PackNet: a depth network whose encoder packs and whose decoder unpacks (Guizilini et al., CVPR 2020).

    disparity[scale] = sigmoid(conv(x)),   1 / depth = disparity / 0.5

Every finer level also reads the inverse depth of the coarser one. Depth has no upper limit: configs set
`min_depth: 0.5` and `max_depth: .inf`, which is the published decoding. `packnet` has 128 million
parameters, `packnet_slim` 77 million. Both start from random weights, because no ImageNet weights exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from networks import NETWORKS
from networks._packing import PACKNET01, SLIM, PackDecoder, PackEncoder, Sizes, with_widths


@NETWORKS.register
class PackNet(nn.Module):
    """PackNet01: images to disparities.

    Keys are the published ones below `encoder.` (pre_calc, pack, conv) and `decoder.` (unpack, iconv, disp).

    Args:
        scales: resolution levels of the output, from 0 (the image size) to 3.
        pretrained: accepted for all depth networks; there are no ImageNet weights for a PackNet, so the
            weights are random either way.
        version: `1A` concatenates skip connections, `1B` adds them.
        dropout: probability of dropping a channel of a residual shortcut, in training.
        gradient_checkpointing: recompute activations in the backward pass; less memory, more time.
        widths: channels of the first convolution and of the five stages; the published ones if not given.

    Raises:
        InputError: an unknown version; scales that are missing, doubled or out of range; impossible widths.
    """

    is_depth_network = True
    sizes: ClassVar[Sizes] = PACKNET01

    def __init__(
        self,
        scales: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool = False,
        version: str = "1A",
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes = with_widths(self.sizes, widths)
        self.encoder = PackEncoder(sizes, dropout, gradient_checkpointing)
        self.decoder = PackDecoder(sizes, version, scales, gradient_checkpointing)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) in [0, 1] to scale → disparity (B, 1, H / 2**scale, W / 2**scale) in [0, 1]."""
        return self.decoder(self.encoder(images))


@NETWORKS.register("packnet_slim")
class PackNetSlim(PackNet):
    """PackNetSlim01: half as many 3-D filters and a narrower first stage. Settings of `PackNet`."""

    sizes: ClassVar[Sizes] = SLIM
