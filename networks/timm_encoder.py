"""Any image model of the timm library as an encoder, with features at the strides that a depth decoder joins.

    x = (image - mean) / std  of the model;   features[k] has stride 2 ** (k + 1)

ConvNeXt, Swin and similar models start at stride 4. Their feature of stride 2 has 0 channels: there are
always five features, and a decoder joins nothing at that level (Wightman, PyTorch Image Models).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from networks import NETWORKS
from networks._timm import add_normalisation, check_model, create, facts, models
from utils import InputError

_OTHERS = "try 'convnext_tiny', 'efficientnet_b0' or 'swin_tiny_patch4_window7_224'"


@NETWORKS.register("timm")
class TimmEncoder(nn.Module):
    """A timm model over one or more images. Keys are those of timm's `features_only` model under `encoder.`.

    Args:
        model: timm's name, with or without the tag of its weights: `convnext_tiny`, `resnet18.a1_in1k`.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from timm's weights; for n images the first layer is repeated and divided by n.
        weights: a file or `hf://OWNER/NAME` whose weights `pretrained` loads instead of timm's own.

    Raises:
        InputError: an unknown model, one without features of strides 4, 8, 16 and 32 for images of any
            size, or weights that cannot be loaded.
    """

    strides = (2, 4, 8, 16, 32)

    def __init__(
        self, model: str, num_images: int = 1, pretrained: bool = False, weights: str | None = None
    ) -> None:
        super().__init__()
        check_model(model)
        self.encoder = _create(model, num_images, pretrained, weights)
        channels = dict(zip(self.encoder.feature_info.reduction(), self.encoder.feature_info.channels()))
        if missing := [stride for stride in self.strides[1:] if stride not in channels]:
            raise InputError(
                f"timm model '{model}' has no features of stride {' and '.join(map(str, missing))}, only of "
                f"{' and '.join(map(str, sorted(channels)))}; {_OTHERS}"
            )
        self.num_channels = [channels.get(stride, 0) for stride in self.strides]
        self._levels = [self.encoder.feature_info.reduction().index(s) for s in self.strides if s in channels]
        self._nhwc = getattr(self.encoder, "output_fmt", "NCHW") == "NHWC"
        add_normalisation(self, model, num_images)
        self._check_shapes(model, num_images)

    @staticmethod
    def models() -> list[str]:
        """All valid values of `model`."""
        return models()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 num_images, H, W) in [0, 1] to five features (B, num_channels[k], H / stride, W / stride).

        The first has 0 channels if the model has no feature of stride 2.
        """
        outputs = self.encoder((image - self.mean) / self.std)
        features = [outputs[level] for level in self._levels]
        if self._nhwc:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if not self.num_channels[0]:
            batch, _, height, width = image.shape
            features.insert(0, image.new_empty(batch, 0, height // 2, width // 2))
        return features

    @torch.no_grad()
    def _check_shapes(self, model: str, num_images: int) -> None:
        """Run a small image: some models accept one size only, and their records do not say so."""
        height, width = 64, 96
        expected = [
            (1, channels, height // stride, width // stride)
            for channels, stride in zip(self.num_channels, self.strides)
        ]
        self.eval()  # the empty image must not change the statistics of the norms
        try:
            shapes = [tuple(f.shape) for f in self(torch.zeros(1, 3 * num_images, height, width))]
        except (RuntimeError, AssertionError, ValueError):
            shapes = []
        self.train()
        if shapes != expected:
            raise InputError(f"timm model '{model}' does not accept all multiples of 32 as size; {_OTHERS}")


def _create(model: str, num_images: int, pretrained: bool, weights: str | None) -> nn.Module:
    settings: dict[str, Any] = {"weights": weights, "features_only": True}
    try:
        if facts(model).fixed_input_size:
            try:  # with this argument Swin accepts any size; other families do not have it
                return create(model, num_images, pretrained, **settings, strict_img_size=False)
            except TypeError:
                pass
        return create(model, num_images, pretrained, **settings)
    except (RuntimeError, NotImplementedError, AttributeError, AssertionError) as error:
        raise InputError(f"timm model '{model}' gives no features by stage: {error}") from error
