"""DPT: a pretrained encoder and the DPT decoder, to be adapted to other video (Ranftl et al., ICCV 2021).

    disparity = sigmoid(logit),     or  min(relative r, 1),  r = relu(logit),  if `relative` is given

The second form is that of Depth Anything and MiDaS, which predict inverse depth r >= 0 up to scale. The
encoder is any timm ViT or ConvNet, or a ResNet of ours. It is trained as a whole, or only by LoRA factors on
its attention, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS, build_encoder
from networks._lora import adapted_weights, add_lora, merged_weights
from networks._timm import is_plain
from networks._timm import models as timm_models
from utils import InputError, check_settings, nearest_name

TOKENS = ("blocks", "channels", "readout", "norm")


@NETWORKS.register
class Dpt(nn.Module):
    """An encoder with a DPT decoder: images to disparities.

    Keys are those of the encoder under `encoder.` and of networks/dpt_decoder.py under `decoder.`.

    Args:
        scales: scales of the output, from 0 (the image size) to 3.
        pretrained: start the encoder from `weights`.
        encoder: a name for `build_encoder`: `vit_small_patch14_dinov2`, `convnext_tiny`, `resnet18`, ...
        weights: a file or `hf://OWNER/NAME` with the encoder's weights in timm's format; timm's own if not
            given.
        tokens: settings of a ViT, {blocks, channels, readout, norm}; see networks/vit_encoder.py.
        width: channels of the decoder.
        relative: disparity of one unit of the relative inverse depth that the head predicts, such as 0.01 for
            Depth Anything; None for a sigmoid.
        lora_rank: rank of LoRA factors on the attention; the encoder's own weights are frozen. 0 for none.
        lora_alpha: their product is multiplied by lora_alpha / lora_rank; 2 lora_rank if not given.
        frozen: parts that are not trained, such as `encoder` or `encoder.encoder.patch_embed`.

    Raises:
        InputError: an unknown encoder, setting or part; LoRA without attention or without the package peft; a
            number out of its range; weights that cannot be loaded.
    """

    is_depth_network = True

    def __init__(
        self,
        scales: Sequence[int] = (0,),
        pretrained: bool = False,
        encoder: str = "vit_small_patch16_224",
        weights: str | None = None,
        tokens: Mapping[str, Any] | None = None,
        width: int = 256,
        relative: float | None = None,
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if relative is not None and not 0 < relative < float("inf"):
            raise InputError(f"relative must be above 0, got {relative}; try 0.01, or none for a sigmoid")
        if lora_rank < 0:
            raise InputError(f"lora_rank must be at least 0, got {lora_rank}; try 8")
        if lora_alpha is not None and (not lora_rank or not 0 < lora_alpha < float("inf")):
            raise InputError(f"lora_alpha must be above 0 and needs a lora_rank, got {lora_alpha}; try 16")
        self.relative, self.lora_rank = relative, lora_rank
        self.encoder = _build_encoder(encoder, pretrained, weights, tokens or {})
        self.decoder = NETWORKS.get("dpt_decoder")(self.encoder.num_channels, scales, width=width)
        if lora_rank:
            alpha = 2.0 * lora_rank if lora_alpha is None else float(lora_alpha)
            add_lora(getattr(self.encoder, "encoder", self.encoder), lora_rank, alpha)
            # A checkpoint's factors can be merged without the options of its run.
            self.register_buffer("lora_factor", torch.tensor(alpha / lora_rank))
        self._frozen = [self._part(name).requires_grad_(False) for name in _names(frozen)]

    def train(self, mode: bool = True) -> Dpt:
        """Set the mode of all parts except frozen ones, whose norms keep their statistics."""
        super().train(mode)
        for part in getattr(self, "_frozen", ()):
            part.eval()
        return self

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """(B, 3, H, W) in [0, 1] to scale → disparity (B, 1, H / 2**scale, W / 2**scale) in [0, 1].

        Raises:
            InputError: a height or width that is not a multiple of a ViT's patch.
        """
        logits = self.decoder.logits(self.encoder(images))
        if self.relative is None:
            return {scale: torch.sigmoid(logit) for scale, logit in logits.items()}
        return {scale: (self.relative * F.relu(logit)).clamp(max=1) for scale, logit in logits.items()}

    def weights_for(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """Weights of a network with other scales or LoRA factors as those of this one.

        Factors of another rank, or for a network without LoRA, are merged into the weights that they belong
        to. A network with LoRA starts its own factors at zero.

        Args:
            weights: state dict of a `dpt` network.

        Returns:
            The weights that fit this network; the scales of the heads left out in words, or "".
        """
        own, found = self.state_dict(), dict(weights)
        factors = {key: tuple(own[key].shape) for key in own if ".lora_" in key}
        if {key: tuple(value.shape) for key, value in found.items() if ".lora_" in key} != factors or (
            factors and not torch.isclose(found["lora_factor"].cpu(), own["lora_factor"].cpu())
        ):
            factor = found.pop("lora_factor", None)
            found = found if factor is None else merged_weights(found, float(factor))
            if factors:
                found = {**adapted_weights(found, own), "lora_factor": own["lora_factor"]}
        inner = {key.removeprefix("decoder."): v for key, v in found.items() if key.startswith("decoder.")}
        kept, left = self.decoder.weights_for(inner)
        others = {key: value for key, value in found.items() if not key.startswith("decoder.")}
        return {**others, **{f"decoder.{key}": value for key, value in kept.items()}}, left

    def _part(self, name: str) -> nn.Module:
        try:
            return self.get_submodule(name)
        except AttributeError:
            raise InputError(
                f"frozen: this network has no part '{name}'; try encoder, decoder or encoder.encoder"
            ) from None


def _build_encoder(name: str, pretrained: bool, weights: str | None, tokens: Mapping[str, Any]) -> nn.Module:
    model = name.removeprefix("timm/")
    if model in timm_models() and is_plain(model):
        cls = NETWORKS.get("vit")
        if unknown := [key for key in tokens if key not in TOKENS]:
            raise InputError(f"tokens has no setting '{unknown[0]}'{nearest_name(unknown[0], TOKENS)}")
        check_settings("tokens", cls, tokens)
        return cls(model, pretrained=pretrained, weights=weights, **tokens)
    if tokens:
        raise InputError(f"tokens are settings of a ViT, which {name} is not; leave them out")
    return build_encoder(name, pretrained=pretrained, weights=weights)


def _names(frozen: Sequence[str]) -> Sequence[str]:
    """A single name from the command line as a list."""
    return [frozen] if isinstance(frozen, str) else frozen
