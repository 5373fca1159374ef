"""BDEdepth: Monodepth2 that gets more out of the same images, by looking at each of them three times.

A zoomed window of the image and the image with its parts swapped are shown to the depth network as well.
Both are evaluated like the image itself, and all have to agree on its depth (methods/_views.py). A grid
decoder goes on to the image's own size, so that one scale of the loss is enough; at prediction nothing is
added (Liu et al., Towards better data exploitation in self-supervised monocular depth estimation, RA-L 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from methods import METHODS
from methods.monodepth2 import Monodepth2


@METHODS.register
class BDEdepth(Monodepth2):
    """Monodepth2 with both views, HRNet18 and a grid decoder, and with its settings as well.

    Args:
        encoder: of depth: `hrnet18`, `resnet18`, or any other; a feature of the image's size is added.
        decoder: of depth, a file of networks/.
        scales: of the disparities that are trained.
        views: as Monodepth2's, with `local_crop` and `patch_reshuffle` on and a `detail` of 2 where nothing
            else is said.
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
        views: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        views = {**self.defaults["views"], **(views or {})}
        super().__init__(encoder=encoder, decoder=decoder, scales=scales, views=views, **settings)
