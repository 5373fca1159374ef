"""FeatDepth's mmcv file `epoch_<n>.pth`: auto-encoder, `mono_fm` or `mono_fm_joint`.

    DepthEncoder.*          encoder.*
    DepthDecoder.*          depth.*
    PoseEncoder.*           pose_encoder.*
    PoseDecoder.reduce.*    pose.net.0.*
    PoseDecoder.conv<n>.*   pose.net.<n>.*            n = 1, 2, 3
    extractor.*             extractor.*               frozen, of mono_fm
    Encoder.*               extractor.*               of the auto-encoder and of mono_fm_joint
    Decoder.*               image_decoder.*

The keys tell which of the three it is, and the layers. The size is not in the file; the reader gives that of
the published KITTI config. Outputs `disp1` to `disp4` of the depth decoder are the published scales 0 to 3.
Here they are 1 to 4, since the finest has half the image's size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints._networks import resnet_layers
from checkpoints._record import Checkpoint, Layout, first, split_state_dict
from utils import InputError

_RENAMED = (  # published key → ours; the rest of the key follows
    (r"DepthEncoder\.", "encoder."),
    (r"DepthDecoder\.", "depth."),
    (r"PoseEncoder\.", "pose_encoder."),
    (r"PoseDecoder\.reduce\.", "pose.net.0."),
    (r"PoseDecoder\.conv([123])\.", r"pose.net.\1."),
    (r"(extractor|Encoder)\.", "extractor."),
    (r"Decoder\.", "image_decoder."),
)
_DEPTH_KEY, _AUTOENCODER_KEY = "DepthDecoder.reduce4.conv.weight", "Decoder.upconv5.conv.conv.weight"


def rename_featdepth_key(key: str) -> str | None:
    """Our key for a published one; "" if it is unused; None for a key that the published models lack."""
    for pattern, ours in _RENAMED:
        if re.match(pattern, key):
            # torchvision's classifier is carried along and never used.
            return "" if ".encoder.fc." in key else re.sub(f"^{pattern}", ours, key)
    return None


def _is_featdepth(content: Mapping[str, Any]) -> bool:
    state = content.get("state_dict")
    return isinstance(state, Mapping) and (_DEPTH_KEY in state or _AUTOENCODER_KEY in state)


def _read_featdepth(content: Mapping[str, Any], path: Path) -> Checkpoint:
    tensors, others = split_state_dict(content["state_dict"], path)
    unknown = [key for key in tensors if rename_featdepth_key(key) is None]
    if unknown:
        raise InputError(f"{path} has entries that FeatDepth's models do not have: {first(unknown)}")
    weights = {name: value for key, value in tensors.items() if (name := rename_featdepth_key(key))}
    ignored = [*map(str, others), *(key for key in tensors if not rename_featdepth_key(key))]
    ignored += [str(key) for key in content if key != "state_dict"]
    return Checkpoint(weights, _options(weights, path), ignored=ignored)


def _options(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    layers = {
        name: resnet_layers(key for key in weights if key.startswith(f"{name}."))
        for name in ("encoder", "pose_encoder", "extractor")
    }
    has_depth, joint = "depth.reduce4.conv.weight" in weights, any(k.startswith("image_dec") for k in weights)
    main = "encoder" if has_depth else "extractor"
    if layers[main] is None:
        raise InputError(f"{path}: its {main} is not a ResNet of 18 to 152 layers")
    if not has_depth:
        method: dict[str, Any] = {"name": "featdepth_autoencoder"}
        return {"method": method, "num_layers": layers[main], "frame_ids": [0], "height": 256, "width": 800}
    method = {"name": "featdepth", "joint": joint}
    if layers["extractor"]:
        method["extractor_layers"] = layers["extractor"]
    height, width = (192, 640) if joint else (320, 1024)
    options = {
        "method": method,
        "num_layers": layers["encoder"],
        "decoder": "refine_decoder",
        "scales": [1, 2, 3, 4],
        "frame_ids": [0, -1, 1],
        "min_depth": 0.1,
        "max_depth": 100.0,
        "height": height,
        "width": width,
        "intrinsics": "fixed",
    }
    if layers["pose_encoder"]:
        options["pose_encoder"] = f"resnet{layers['pose_encoder']}"
    return options


FEATDEPTH = Layout(
    "featdepth",
    "FeatDepth's epoch_<n>.pth with DepthDecoder or Decoder in its state_dict",
    _is_featdepth,
    _read_featdepth,
)
