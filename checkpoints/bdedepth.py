"""BDEdepth's file, model<epoch>.pth or ckpt.pth: a state dict each for encoder, depth [, pose_encoder, pose].

Keys and shapes determine the backbone and the scales, and the file holds the size. It does not hold the depth
range, which is 10 m for its NYUv2 recipe and 100 m for the others; set `--max_depth` if it is not 100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints._networks import optimizer_by_name, pose_options, resnet_layers
from checkpoints._reading import Folder
from checkpoints._record import Checkpoint, Layout, split_state_dict
from utils import InputError

_NETWORKS = ("encoder", "depth", "pose_encoder", "pose")
_PLAIN = ("height", "width", "use_stereo")
_GRID_KEY = "depth.decoder.0.1.weight"  # convolution of the first lateral; Monodepth2 has decoder.0.conv...


def _is_bdedepth(content: Mapping[str, Any]) -> bool:
    if isinstance(content, Folder):
        return False
    networks = content.get("encoder"), content.get("depth")
    grid = _GRID_KEY.removeprefix("depth.")
    return all(isinstance(network, Mapping) for network in networks) and grid in networks[1]


def _read_bdedepth(content: Mapping[str, Any], path: Path) -> Checkpoint:
    weights, order, ignored = {}, [], []
    for name in _NETWORKS:
        if name not in content:
            continue
        tensors, others = split_state_dict(content[name], path)
        ignored += [f"{name}.{key}" for key in others]
        for key, value in tensors.items():
            order.append((f"{name}.{key}", value))
            if key.startswith("encoder.fc."):  # torchvision's classifier, never used
                ignored.append(f"{name}.{key}")
            else:
                weights[f"{name}.{key}"] = value
    training = None
    if "optimizer" in content:
        states = optimizer_by_name(content["optimizer"], order)
        if states is None:
            ignored.append("optimizer (its parameters are not the ones of these networks)")
        else:
            training = {"optimizer_by_name": {key: states[key] for key in states if key in weights}}
    ignored += [str(key) for key in content if key not in (*_NETWORKS, *_PLAIN, "optimizer")]
    return Checkpoint(weights, _options(weights, content, path), training=training, ignored=ignored)


def _options(weights: Mapping[str, Tensor], content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    pose, frame_ids = pose_options(weights)
    use_stereo = bool(content.get("use_stereo"))
    options = {
        "method": "bdedepth",
        "encoder": _backbone(weights, path),
        "scales": _scales(weights),
        "min_depth": 0.1,  # the published defaults
        "max_depth": 100.0,
        "resize": "lanczos",
        "intrinsics": "fixed",
        "use_stereo": use_stereo,
        "frame_ids": [*frame_ids, "s"] if use_stereo else frame_ids,
        "views": {"published_camera": True},
        **pose,
    }
    if layers := resnet_layers(key for key in weights if key.startswith("pose_encoder.")):
        options["pose_encoder"] = f"resnet{layers}"
    return options | {key: content[key] for key in ("height", "width") if key in content}


def _backbone(weights: Mapping[str, Tensor], path: Path) -> str:
    first_branch = weights.get("encoder.encoder.transition1.0.0.weight")
    if first_branch is not None:
        return f"hrnet{len(first_branch)}"
    layers = resnet_layers(key for key in weights if key.startswith("encoder."))
    if layers is None:
        raise InputError(f"{path}: its encoder is neither an HRNet nor a ResNet of 18 to 152 layers")
    return f"resnet{layers}"


def _scales(weights: Mapping[str, Tensor]) -> list[int]:
    """Scales of the disparities, from indices of output convolutions; one may follow six blocks."""
    found = (re.fullmatch(r"depth\.decoder\.(\d+)\.conv\.weight", key) for key in weights)
    indices = sorted(int(match[1]) for match in found if match)
    return [(index - number) // 6 - 1 for number, index in enumerate(indices)]


BDEDEPTH = Layout(
    "bdedepth",
    "BDEdepth's file model<epoch>.pth or ckpt.pth, with encoder and depth",
    _is_bdedepth,
    _read_bdedepth,
)
