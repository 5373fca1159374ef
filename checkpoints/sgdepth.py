"""SGDepth's folder epoch_<n>: model.pth, and from training optim.pth, scheduler.pth, train.pth.

`model.pth` is one state dict of `common`, `depth`, `seg` and `pose`. Its keys determine the ResNets, the
split and the scales. An opt.json two folders above, if there is one, holds the size and the depth range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints._networks import optimizer_by_name, read_opt_json, resnet_layers
from checkpoints._reading import Folder
from checkpoints._record import Checkpoint, Layout, first, split_state_dict
from utils import InputError

_RENAMED = (  # published key → ours; the rest of the key follows
    (r"common\.encoder\.", "encoder."),
    (r"common\.decoder\.blocks\.", "depth.shared."),
    (r"depth\.decoder\.blocks\.", "depth.depth_steps."),
    (r"depth\.multires\.convs\.(\d)\.", r"depth.disparity_heads.\1.conv."),
    (r"seg\.decoder\.blocks\.", "depth.segmentation_steps."),
    (r"seg\.multires\.convs\.0\.", "depth.segmentation_head.conv."),
    (r"pose\.encoder\.", "pose_encoder."),
    (r"pose\.decoder\.squeeze\.", "pose.net.0."),
    (r"pose\.decoder\.conv_([123])\.", r"pose.net.\1."),
)
_KEY = "common.encoder.encoder.conv1.weight"


def rename_sgdepth_key(key: str) -> str | None:
    """Our key for a published one; None for a key that the published model does not have."""
    for pattern, ours in _RENAMED:
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", ours, key)
    return None


def _is_sgdepth(content: Mapping[str, Any]) -> bool:
    if isinstance(content, Folder):
        weights = content.get("model")
        return isinstance(weights, Mapping) and _KEY in weights
    return _KEY in content


def _read_sgdepth(content: Mapping[str, Any], path: Path) -> Checkpoint:
    folder = isinstance(content, Folder)
    file = path / "model.pth" if folder else path
    tensors, others = split_state_dict(content["model"] if folder else content, file)
    unknown = [key for key in tensors if rename_sgdepth_key(key) is None]
    if unknown:
        raise InputError(f"{file} has entries that SGDepth's model does not have: {first(unknown)}")
    order = [(str(rename_sgdepth_key(key)), value) for key, value in tensors.items()]
    ignored = [str(key) for key in others]
    training = None
    if folder and "optim" in content:
        states = optimizer_by_name(content["optim"], order)
        if states is None:
            ignored.append("optim.pth (its parameters are not those of model.pth)")
        else:
            training = {"optimizer_by_name": states}
    if folder:  # a run has its own schedule and step count
        ignored += [f"{name}.pth" for name in content if name not in ("model", "optim")]
    weights = dict(order)
    options = _options(weights, path if folder else path.parent, file)
    return Checkpoint(weights, options, training=training, ignored=ignored)


def _options(weights: Mapping[str, Tensor], folder: Path, file: Path) -> dict[str, Any]:
    """Options from keys and shapes; size, depth range and loss settings from an opt.json if there is one."""
    recorded, found = read_opt_json(folder, _OPT_JSON)
    if not found:  # published layout: <model>/checkpoints/epoch_20 and <model>/opt.json
        recorded, _ = read_opt_json(folder.parent, _OPT_JSON)
    options: dict[str, Any] = {
        ours: recorded.get(name, default) for name, (ours, default) in _OPTIONS.items()
    }
    shared = [key for key in weights if re.match(r"depth\.shared\.step_\d+\.conv\.weight", key)]
    if len(shared) not in _SPLIT_OF_STEPS:
        raise InputError(f"{file} shares {len(shared)} decoder steps; a split shares 0, 1, 3, 5 or 7")
    scales = (re.fullmatch(r"depth\.disparity_heads\.(\d)\.conv\.weight", key) for key in weights)
    layers = resnet_layers(key for key in weights if key.startswith("encoder."))
    pose_layers = resnet_layers(key for key in weights if key.startswith("pose_encoder."))
    if layers is None:
        raise InputError(f"{file}: its encoder is not a ResNet of 18 to 152 layers")
    options |= {
        "method": {
            "name": "sgdepth",
            "split_position": _SPLIT_OF_STEPS[len(shared)],
            "classes": len(weights["depth.segmentation_head.conv.bias"]),
        },
        "num_layers": layers,
        "scales": sorted(int(match[1]) for match in scales if match),
        "frame_ids": [0, -1, 1],
        "intrinsics": "fixed",
        "resize": "bilinear",
    }
    if pose_layers:
        options["pose_encoder"] = f"resnet{pose_layers}"
    return options


_SPLIT_OF_STEPS = {0: 0, 1: 1, 3: 2, 5: 3, 7: 4}
_OPTIONS = {  # option in opt.json → ours, published default
    "depth_resize_height": ("height", 192),
    "depth_resize_width": ("width", 640),
    "model_depth_min": ("min_depth", 0.1),
    "model_depth_max": ("max_depth", 100.0),
    "depth_disparity_smoothness": ("disparity_smoothness", 1e-3),
    "depth_avg_reprojection": ("avg_reprojection", False),
    "depth_disable_automasking": ("disable_automasking", False),
}
_OPT_JSON = {
    kind: [name for name, (_, default) in _OPTIONS.items() if type(default) is kind]
    for kind in (int, float, bool)
}

SGDEPTH = Layout(
    "sgdepth",
    "SGDepth's folder epoch_<n> with model.pth, or that file",
    _is_sgdepth,
    _read_sgdepth,
)
