"""First stage of FeatDepth: an image auto-encoder, whose features the second stage compares.

    loss = reconstruction(I, J) + feature gradients(F, I),     J = decoder(F),   F = encoder(I)

It sees one image at a time and predicts no depth. `methods/featdepth.py` takes its encoder over:
`--load_weights_folder runs/featdepth_autoencoder --models_to_load extractor` (Shu et al., Feature-metric Loss
for Self-supervised Learning of Depth and Egomotion, ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from losses._features import Features
from methods import METHODS
from methods._base import Method
from methods._networks import check_choice
from networks.image_decoder import ImageDecoder
from networks.resnet import Resnet
from structures import Batch, Prediction
from utils import InputError

_NO_DEPTH = (
    "featdepth_autoencoder predicts neither depth nor poses; train --method featdepth with its encoder: "
    "--load_weights_folder RUN --models_to_load extractor"
)


@METHODS.register
class FeatDepthAutoencoder(Method):
    """A ResNet on raw images and a decoder without skip connections.

    Args:
        num_layers: depth of the ResNet: 18, 34, 50, 101 or 152.
        weights_init: `pretrained` on ImageNet, or `scratch`.
        losses: term → weight and settings, over the defaults `reconstruction` and `feature_gradients`; a
            weight of 0 removes a term.

    Raises:
        InputError: a name that does not exist.
    """

    defaults: ClassVar[dict[str, Any]] = {"num_layers": 50, "frame_ids": [0]}
    tasks = ()
    provides = ("extra.features.levels", "extra.features.reconstructions")

    def __init__(
        self,
        num_layers: int = 50,
        weights_init: str = "pretrained",
        losses: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        check_choice("weights_init", weights_init, ("pretrained", "scratch"))
        self.extractor = Resnet(num_layers, pretrained=weights_init == "pretrained")
        self.extractor.leave_images_raw()
        self.image_decoder = ImageDecoder(self.extractor.num_channels)
        self.build_losses({"reconstruction": {}, "feature_gradients": {}}, losses or {})

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """Features and reconstructions of the target without colour jitter, which the losses compare with.

        Raises:
            InputError: the batch is an augmented view.
        """
        if plain is not None:
            raise InputError("an auto-encoder has no depth for views to agree on; leave --views out")
        return Prediction({}, extra={"features": self.encode(batch.images[0])})

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Do nothing, since an auto-encoder warps no image."""

    def encode(self, images: Tensor) -> Features:
        """Features and reconstructions of images (B, 3, H, W) in [0, 1], float32."""
        with self.networks_autocast():
            levels = self.extractor(images)
            reconstructions = self.image_decoder(levels)
        return Features(levels=[level.float() for level in levels], reconstructions=reconstructions)

    def predict(self, batch: Batch) -> Prediction:
        """Refuse, since an auto-encoder predicts no depth.

        Raises:
            InputError: always.
        """
        raise InputError(_NO_DEPTH)

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Refuse, since an auto-encoder predicts no motion."""
        raise InputError(_NO_DEPTH)

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Target, reconstruction, and the mean of the first feature, scaled to its largest value."""
        features = prediction.extra["features"]
        mean = features.levels[0].mean(1, keepdim=True)
        mean = mean / mean.amax((2, 3), keepdim=True).clamp(min=1e-6)
        return {
            "target": batch.images[0],
            "reconstruction": features.reconstructions[0],
            "feature": F.interpolate(mean, batch.images[0].shape[-2:]),
        }
