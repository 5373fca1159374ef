"""Depth Anything and DPT in the format of Hugging Face transformers: config.json and model.safetensors.

    backbone.* or dpt.*                    depth.encoder.encoder.*       query, key and value joined to qkv
    neck.reassemble_stage.layers.n.*       depth.encoder.reassemble.n.*
    neck.reassemble_stage.readout_projects depth.encoder.readouts.n.*
    neck.convs.n.*                         depth.decoder.reduce.n.*
    neck.fusion_stage.layers.m.*           depth.decoder.fuse.(3 - m).*
    head.*                                 depth.decoder.heads.0.*

The configuration tells blocks, readout and width, the shapes tell the transformer. Models of relative depth
with a DINOv2 (Depth Anything V1, V2) or a ViT (DPT-Large) are read. Metric ones have the same keys and
another meaning, so that the configuration is needed. There is no pose network; training starts one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints._record import Checkpoint, Layout, first, split_state_dict
from utils import InputError, read_text

_MARK = "neck.fusion_stage.layers.0.projection.weight"
_DINOV2 = {384: "vit_small", 768: "vit_base", 1024: "vit_large"}  # width → timm's model, _patch14_dinov2
_VIT = {192: "vit_tiny", 384: "vit_small", 768: "vit_base", 1024: "vit_large"}  # _patch16_384
_DEPTHS = {"vit_tiny": 12, "vit_small": 12, "vit_base": 12, "vit_large": 24}
_LAYER = r"(?:backbone|dpt)\.encoder\.layer\.(\d+)\."
_BLOCK = r"encoder.encoder.blocks.\1."
_RENAMED = (  # published key → ours without `depth.`; the rest of the key follows
    (r"(?:backbone|dpt)\.embeddings\.cls_token", "encoder.encoder.cls_token"),
    (r"(?:backbone|dpt)\.embeddings\.position_embeddings", "encoder.encoder.pos_embed"),
    (r"(?:backbone|dpt)\.embeddings\.patch_embeddings\.projection\.", "encoder.encoder.patch_embed.proj."),
    (rf"{_LAYER}attention\.(?:attention\.query|q_proj)\.", rf"{_BLOCK}attn.q."),
    (rf"{_LAYER}attention\.(?:attention\.key|k_proj)\.", rf"{_BLOCK}attn.k."),
    (rf"{_LAYER}attention\.(?:attention\.value|v_proj)\.", rf"{_BLOCK}attn.v."),
    (rf"{_LAYER}attention\.(?:output\.dense|o_proj)\.", rf"{_BLOCK}attn.proj."),
    (rf"{_LAYER}(?:norm1|layernorm_before)\.", rf"{_BLOCK}norm1."),
    (rf"{_LAYER}(?:norm2|layernorm_after)\.", rf"{_BLOCK}norm2."),
    (rf"{_LAYER}(?:mlp\.fc1|intermediate\.dense)\.", rf"{_BLOCK}mlp.fc1."),
    (rf"{_LAYER}(?:mlp\.fc2|output\.dense)\.", rf"{_BLOCK}mlp.fc2."),
    (rf"{_LAYER}layer_scale([12])\.lambda1", rf"{_BLOCK}ls\2.gamma"),
    (r"(?:backbone|dpt)\.layernorm\.", "encoder.encoder.norm."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"encoder.reassemble.\1.project."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"encoder.reassemble.\1.resize."),
    (r"neck\.reassemble_stage\.readout_projects\.(\d)\.0\.", r"encoder.readouts.\1."),
    (r"neck\.convs\.(\d)\.", r"decoder.reduce.\1."),
    (r"neck\.fusion_stage\.layers\.(\d)\.projection\.", r"decoder.fuse.\1.project."),
    (r"neck\.fusion_stage\.layers\.(\d)\.residual_layer1\.convolution", r"decoder.fuse.\1.first.conv"),
    (r"neck\.fusion_stage\.layers\.(\d)\.residual_layer2\.convolution", r"decoder.fuse.\1.second.conv"),
    (r"head\.(?:conv1|head\.0)\.", "decoder.heads.0.conv1."),
    (r"head\.(?:conv2|head\.2)\.", "decoder.heads.0.conv2."),
    (r"head\.(?:conv3|head\.4)\.", "decoder.heads.0.conv3."),
)


def _is_transformers(content: Mapping[str, Any]) -> bool:
    return _MARK in content


def _read_transformers(content: Mapping[str, Any], path: Path) -> Checkpoint:
    tensors, _ = split_state_dict(content, path)
    config = _config(path)
    network = _network(config, tensors, path)
    norm, blocks = network["tokens"]["norm"], network["tokens"]["blocks"]
    weights, ignored, unknown = {}, [], []
    for key, value in tensors.items():
        name = _renamed(key)
        block = re.match(r"encoder\.encoder\.blocks\.(\d+)\.", name or "")
        unread = block and int(block[1]) > max(blocks)
        unread = unread or (name and name.startswith("encoder.encoder.norm.") and not norm)
        # The coarsest level has nothing to join, so that its first unit is never used.
        if unread or key.endswith("mask_token") or (name or "").startswith("decoder.fuse.3.first."):
            ignored.append(key)
        elif name is None:
            unknown.append(key)
        else:
            weights[name] = value
    if unknown:
        raise InputError(f"{path} has entries that Depth Anything and DPT do not have: {first(unknown)}")
    weights = {f"depth.{key}": value for key, value in _joined(weights).items()}
    size = {"height": 448, "width": 672} if "dinov2" in network["encoder"] else {"height": 384, "width": 384}
    options = {
        "method": {"name": "monodepth2"},
        "depth_network": network,
        "scales": [0],
        "frame_ids": [0, -1, 1],
        "min_depth": 0.1,
        "max_depth": 100.0,
        **size,
    }
    return Checkpoint(weights, options, ignored=ignored)


def _renamed(key: str) -> str | None:
    """Our name of an entry; None for one that the published models do not have."""
    for pattern, ours in _RENAMED:
        if re.match(pattern, key):
            name = re.sub(f"^{pattern}", ours, key)
            return re.sub(r"^decoder\.fuse\.(\d)", lambda m: f"decoder.fuse.{3 - int(m[1])}", name)
    return None


def _joined(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with query, key and value of a block as one `qkv`."""
    found = {}
    for key, value in weights.items():
        if ".attn.q." in key:
            parts = [weights[key.replace(".attn.q.", f".attn.{part}.")] for part in "kv"]
            found[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat([value, *parts])
        elif ".attn.k." not in key and ".attn.v." not in key:
            found[key] = value
    return found


def _config(path: Path) -> dict[str, Any]:
    file = path.parent / "config.json"
    if not file.is_file():
        raise InputError(
            f"{path} holds Depth Anything or DPT and needs its config.json next to it, which tells whether "
            "it predicts relative or metric depth; copy it there"
        )
    try:
        config = json.loads(read_text(file))
    except json.JSONDecodeError:
        raise InputError(f"{file} is not valid JSON; download it again") from None
    return config if isinstance(config, dict) else {}


def _network(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The section `depth_network` that has these weights.

    Raises:
        InputError: a model of another kind; says which.
    """
    kind, backbone = config.get("model_type"), config.get("backbone_config") or {}
    anything = kind == "depth_anything"
    other = backbone.get("model_type", "dinov2" if anything else None)
    metric = config.get("depth_estimation_type") == "metric"
    factors = [float(factor) for factor in config.get("reassemble_factors") or (4, 2, 1, 0.5)]
    plain = not config.get("add_projection") and not config.get("use_batch_norm_in_fusion_residual")
    if (
        metric
        or kind not in ("depth_anything", "dpt")
        or other != ("dinov2" if anything else None)
        or config.get("is_hybrid")
        or factors != [4, 2, 1, 0.5]
        or not plain
    ):
        what = "metric depth" if metric else f"a {kind} with a backbone of type {other or 'hybrid'}"
        raise InputError(
            f"{path.parent} is {what}, which cannot be adapted; relative Depth Anything with DINOv2 and "
            "DPT-Large can, such as hf://depth-anything/Depth-Anything-V2-Small-hf"
        )
    prefix = "backbone" if anything else "dpt"
    width = tensors[f"{prefix}.embeddings.cls_token"].shape[-1]
    depth = 1 + max(int(m[1]) for key in tensors if (m := re.match(_LAYER, key)))
    name = (_DINOV2 if anything else _VIT).get(width)
    if name is None or _DEPTHS[name] != depth:
        raise InputError(f"{path} has a transformer of {depth} blocks of width {width}, which timm lacks")
    tokens = {
        "blocks": _blocks(config, backbone, path),
        "channels": [tensors[f"neck.convs.{n}.weight"].shape[1] for n in range(4)],
        "readout": "ignore" if anything else config.get("readout_type", "project"),
        "norm": bool(anything and backbone.get("apply_layernorm", True)),
    }
    return {
        "name": "dpt",
        "encoder": f"{name}_patch14_dinov2" if anything else f"{name}_patch16_384",
        "tokens": tokens,
        "width": tensors["neck.convs.0.weight"].shape[0],
        # Both predict an inverse depth without unit, of about 10 and 30 for what is near.
        "relative": 0.01 if anything else 0.003,
    }


def _blocks(config: Mapping[str, Any], backbone: Mapping[str, Any], path: Path) -> list[int]:
    """The blocks whose tokens are read, from 0; a stage of the backbone is a block's number from 1."""
    if config.get("model_type") == "dpt":
        return list(config.get("backbone_out_indices") or (2, 5, 8, 11))
    stages = backbone.get("out_indices") or [
        int(str(name).removeprefix("stage")) for name in backbone.get("out_features") or ()
    ]
    if not stages:
        raise InputError(f"{path.parent}/config.json does not name the blocks that are read (out_indices)")
    return [int(stage) - 1 for stage in stages]


TRANSFORMERS = Layout(
    "transformers",
    "Depth Anything or DPT with config.json and model.safetensors",
    _is_transformers,
    _read_transformers,
)
