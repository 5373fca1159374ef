"""LoRA: the weights of attention stay, and a product of two small factors is trained (Hu et al., ICLR 2022).

    W x  ->  W x + alpha / r  B A x,     A (r, in),  B (out, r),  B = 0 at the start

The layers are those of the package peft. Keys of an adapted layer: `qkv.base_layer.weight`,
`qkv.lora_A.default.weight`, `qkv.lora_B.default.weight`; those of an unchanged layer: `qkv.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from utils import InputError

TARGETS = ("qkv", "q_proj", "k_proj", "v_proj", "proj")  # linear layers of an attention block `attn`
_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def attention_layers(network: nn.Module) -> list[str]:
    """Names of the linear layers of attention in a timm model."""
    return [
        name
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear) and re.search(rf"(^|\.)attn\.({'|'.join(TARGETS)})$", name)
    ]


def add_lora(network: nn.Module, rank: int, alpha: float) -> None:
    """Give the attention of a timm model LoRA factors and freeze everything else in it, in place.

    Args:
        network: a model with attention.
        rank: r, at least 1.
        alpha: the product is multiplied by alpha / r.

    Raises:
        InputError: no attention; the package peft is missing.
    """
    layers = attention_layers(network)
    if not layers:
        raise InputError(
            "lora_rank is for the attention of a transformer, and this encoder has none; leave it at 0, or "
            "choose --depth_network.encoder vit_small_patch16_224"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise InputError(f"lora_rank needs the package {error.name}; type pip install peft") from None
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, lora_dropout=0.0)
    inject_adapter_in_model(config, network)


def merge_lora(network: nn.Module) -> None:
    """Replace adapted layers by plain ones that compute the same, in place."""
    for name, part in list(network.named_modules()):
        if not hasattr(part, "lora_A"):
            continue
        part.merge()
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, part.get_base_layer())


def merged_weights(weights: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Weights with LoRA factors as those of a network without.

    Args:
        weights: a state dict; without LoRA factors it is returned as it is.
        factor: alpha / r.
    """
    found = {}
    for key, value in weights.items():
        if key.endswith((_A, _B)):
            continue
        name, base, rest = key.partition(_BASE)
        if base and rest == "weight":
            value = value + factor * (weights[name + _B] @ weights[name + _A]).to(value)
        found[f"{name}.{rest}" if base else key] = value
    return found


def adapted_weights(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network without LoRA as those of an adapted one, whose factors keep their values.

    Args:
        weights: a state dict without LoRA factors.
        own: state dict of the adapted network.
    """
    adapted = {key.partition(_BASE)[0] for key in own if _BASE in key}
    found = {}
    for key, value in weights.items():
        name, _, rest = key.rpartition(".")
        found[f"{name}{_BASE}{rest}" if name in adapted else key] = value
    return {**found, **{key: torch.clone(own[key]) for key in own if key.endswith((_A, _B))}}
