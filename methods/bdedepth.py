"""BDEdepth: Monodepth2 with augmented views and a decoder at full resolution (Liu et al., RA-L 2024).

Two augmented views of each sample, a zoomed window and a copy with swapped parts, are trained as well, and
depth must agree over all three (views/). A grid decoder predicts at the image's own size, so that one scale
of the loss is enough. Inference runs the plain network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from methods import METHODS
from methods.monodepth2 import Monodepth2


@METHODS.register
class BDEdepth(Monodepth2):
    """Monodepth2 with an HRNet18 and a grid decoder; a run adds both views by default.

    Args:
        encoder: depth encoder: `hrnet18`, `resnet18`, or any other; a context at the image's size is added.
        decoder: depth decoder, a file of networks/.
        scales: scales of the trained disparities.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "encoder": "hrnet18",
        "decoder": "grid_decoder",
        "scales": [0],
        "views": {"local_crop": True, "patch_reshuffle": True, "detail": 2},
        "optimizer": "adamw",
        "weight_decay": 0.01,
    }

    def __init__(
        self,
        encoder: str = "hrnet18",
        decoder: str = "grid_decoder",
        scales: Sequence[int] = (0,),
        **settings: Any,
    ) -> None:
        super().__init__(encoder=encoder, decoder=decoder, scales=scales, **settings)
