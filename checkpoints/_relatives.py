"""Description of a state dict in words, for the error that refuses a file of a related system.

Published depth networks often keep Monodepth2's file names, `encoder.pth` and `depth.pth`, for networks of
their own. Their keys tell which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from checkpoints._networks import decoder_scales, resnet_layers

ELSEWHERE = (
    "Parallax does not have this network; save its disparities with its own code and evaluate them with "
    "evaluate_depth.py --ext_disp_to_eval"
)

# The first pattern that a key matches names the network.
_FOREIGN = (
    (r"\blora_[AB]\b", "a LoRA adapter without the network that it changes"),
    (r"\b(embed_tokens|wte|tok_embeddings|word_embeddings)\.weight$|\blm_head\.", "a language model"),
    (r"\b(down_blocks|input_blocks)\.\d|\btime_embed", "a diffusion model"),
    (r"\bmhca_stages\.", "the encoder of MonoViT (MPViT)"),
    (r"\bstages\.\d+\.\d+\.(ddwconv|xca)\b", "the encoder of Lite-Mono"),
    (r"\b(reduce_conv|prematching_conv)\.", "the encoder of ManyDepth"),
    (r"\b(transition1|stage2)\.", "an HRNet encoder (DIFFNet, RA-Depth)"),
    (r"\bscratch\.(refinenet|layer)\d", "MiDaS, DPT or Depth Anything"),
    (r"\b(72|36|18|9)\.(ca|conv_se)\.|\.ca\.fc\.|\bup_x9_", "the depth decoder of DIFFNet or MonoViT"),
    (r"\bconv_se\.|\bX_\d\d_", "the depth decoder of HR-Depth"),
    (r"\bpredict_(disp|mask)\d\.", "a network of SfMLearner"),
    (r"\bblocks\.\d+\.attn\.qkv\.", "a vision transformer"),
    (r"\bfeatures\.\d+\.", "a torchvision network with `features`, such as MobileNet or VGG"),
)  # fmt: skip

# State of a training that is not a network: entries → what it is.
_TRAINING = (
    ({"state", "param_groups"}, "the state of an optimiser"),
    ({"last_epoch", "_step_count"}, "the state of a learning rate schedule"),
    ({"scale", "growth_factor", "backoff_factor"}, "the state of a gradient scaler"),
)


def network_kind(state: Mapping[str, Any]) -> str:
    """The file of a Monodepth2 folder that a state dict belongs to: `encoder`, `pose_encoder`, `depth`,
    `pose`; else the empty string.
    """
    first = state.get("encoder.conv1.weight")
    if first is not None and resnet_layers(state):
        return "encoder" if first.shape[1] == 3 else "pose_encoder"
    if "pose_conv.weight" in state or ("net.0.weight" in state and "net.3.weight" in state):
        return "pose"
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if "decoder.0.conv.conv.weight" in state and decoder_scales(tensors, ""):
        return "depth"
    return ""


def describe(state: Mapping[str, Any]) -> str:
    """Content of a state dict, such as `a ResNet-18 encoder`; the empty string if its keys do not tell."""
    keys = [str(key) for key in state]
    kind = network_kind(state)
    if kind in ("encoder", "pose_encoder"):
        images = state["encoder.conv1.weight"].shape[1] // 3
        of_images = f" of {images} images" if images > 1 else ""
        return f"a ResNet-{resnet_layers(keys)} encoder{of_images}"
    if kind:
        return {"depth": "a depth decoder of Monodepth2", "pose": "a pose network of Monodepth2"}[kind]
    for pattern, name in _FOREIGN:
        if any(re.search(pattern, key) for key in keys):
            return name
    if training := [words for names, words in _TRAINING if names <= set(keys)]:
        return training[0]
    if "decoder.0.conv.conv.weight" in state:
        return "a depth decoder with other levels than Monodepth2's (Lite-Mono has three)"
    if "decoder.0.1.weight" in state:
        return "a depth decoder of BDEdepth"
    if "conv1.weight" in state and (layers := resnet_layers(keys)):
        return f"a torchvision ResNet-{layers} classifier"
    return ""


def describe_file(content: Any) -> str:
    """`describe` of a file's content or of the state dicts nested in it."""
    if not isinstance(content, Mapping):
        return ""
    nested = [value for value in content.values() if isinstance(value, Mapping)]
    return next((found for state in (content, *nested) if (found := describe(state))), "")
