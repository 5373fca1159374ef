"""SC-Depth's Lightning file `epoch=*-val_loss=*.ckpt`, V1 to V3, and SC-SfMLearner's two `.pth.tar` files.

    depth_net.encoder.encoder.*        encoder.encoder.*
    depth_net.decoder.upconvs0.n.*     depth.decoder.(2 n).*           n = 0 the coarsest
    depth_net.decoder.upconvs1.n.*     depth.decoder.(2 n + 1).*
    depth_net.decoder.dispconvs.s.*    depth.decoder.(10 + s).*        only s = 0 is used
    pose_net.decoder.conv_squeeze.*    pose.net.0.*
    pose_net.decoder.convs_pose.n.*    pose.net.(n + 1).*              the last has translation first
    rectify_net.*                      rectifier.*, as pose_net

SC-SfMLearner stores depth in `dispnet_<which>.pth.tar` and pose in `exp_pose_<which>.pth.tar`, under the
names of the right column, and upsamples by nearest neighbour. Keys and shapes determine version and layers;
the options in a Lightning file determine the size. Depth is 1 / (10 sigmoid + 0.01) in every version, hence
within [1 / 10.01, 100].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints._networks import decoder_scales, resnet_layers
from checkpoints._reading import Folder, read_file
from checkpoints._record import Checkpoint, Layout, split_state_dict
from utils import InputError

SIZES = {"kitti": (256, 832), "ddad": (384, 640), "nyu": (256, 320), "bonn": (256, 320), "tum": (256, 320)}
_NETWORKS = {"depth_net": ("encoder", "depth"), "pose_net": ("pose_encoder", "pose")}
_COARSE = re.compile(r"depth\.decoder\.1[123]\.")  # outputs of coarser scales, not needed for depth
_DEPTH_FILE, _POSE_FILE = "dispnet", "exp_pose"  # prefixes of SC-SfMLearner's file names


def rename(key: str) -> str | None:
    """Our name of an entry of a Lightning state dict; None if it is unused."""
    network, _, rest = key.partition(".")
    if ".fc." in rest:  # torchvision's classifier, never used
        return None
    if network == "rectify_net" and rest.startswith("encoder."):
        return f"rectifier.{rest}"
    encoder, decoder = _NETWORKS.get(network, ("", "rectifier"))
    if rest.startswith("encoder."):
        return f"{encoder}.{rest.removeprefix('encoder.')}"
    if match := re.fullmatch(r"decoder\.upconvs([01])\.(\d)\.(.*)", rest):
        return f"{decoder}.decoder.{2 * int(match[2]) + int(match[1])}.{match[3]}"
    if match := re.fullmatch(r"decoder\.dispconvs\.(\d)\.(.*)", rest):
        return f"{decoder}.decoder.{10 + int(match[1])}.{match[2]}"
    if match := re.fullmatch(r"decoder\.conv_squeeze\.(.*)", rest):
        return f"{decoder}.net.0.{match[1]}"
    if match := re.fullmatch(r"decoder\.convs_pose\.(\d)\.(.*)", rest):
        return f"{decoder}.net.{int(match[1]) + 1}.{match[2]}"
    return f"{network}.{rest}"


def rotation_first(key: str, value: Tensor) -> Tensor:
    """A weight in our order: in the pose network's last layer, rotation comes before translation."""
    return value[[3, 4, 5, 0, 1, 2]] if key.startswith("pose.net.3.") else value


def _is_sc_depth(content: Mapping[str, Any]) -> bool:
    if isinstance(content, Folder):
        return False
    state = content.get("state_dict")
    return isinstance(state, Mapping) and (_is_lightning(state) or bool(_sfmlearner_part(state)))


def _is_lightning(state: Mapping[str, Any]) -> bool:
    return any(str(key).startswith("depth_net.decoder.upconvs0.") for key in state)


def _sfmlearner_part(state: Mapping[str, Any]) -> str | None:
    """`depth` or `pose` for one of SC-SfMLearner's two files."""
    if "encoder.encoder.conv1.weight" not in state:
        return None
    parts = {"depth": "decoder.decoder.0.conv.conv.weight", "pose": "decoder.net.0.weight"}
    return next((part for part, key in parts.items() if key in state), None)


def _read_sc_depth(content: Mapping[str, Any], path: Path) -> Checkpoint:
    if _is_lightning(content["state_dict"]):
        return _read_lightning(content, path)
    return _read_sfmlearner(content, path)


def _read_lightning(content: Mapping[str, Any], path: Path) -> Checkpoint:
    tensors, others = split_state_dict(content["state_dict"], path)
    weights, ignored = {}, [*others]
    for key, value in tensors.items():
        name = rename(key)
        if name is None or _COARSE.match(name):
            ignored.append(key)
        else:
            weights[name] = rotation_first(name, value)
    ignored += [str(key) for key in content if key not in ("state_dict", "hyper_parameters")]
    recorded = content.get("hyper_parameters") or {}
    recorded = recorded.get("hparams", recorded) if isinstance(recorded, Mapping) else {}
    version = recorded.get("model_version", "v1")
    if any(key.startswith("rectifier.") for key in weights):
        version = "v2"
    options = _options(weights, version if version in ("v1", "v2", "v3") else "v1", "depth_decoder_bilinear")
    if size := SIZES.get(recorded.get("dataset_name")):
        options["height"], options["width"] = size
    return Checkpoint(weights, options, ignored=ignored)


def _read_sfmlearner(content: Mapping[str, Any], path: Path) -> Checkpoint:
    states = {_sfmlearner_part(content["state_dict"]): content}
    missing = "pose" if "depth" in states else "depth"
    names = (_DEPTH_FILE, _POSE_FILE) if missing == "pose" else (_POSE_FILE, _DEPTH_FILE)
    partner = path.with_name(path.name.replace(*names, 1))
    if partner != path and partner.is_file():
        other = read_file(partner)
        if not isinstance(other, Mapping) or _sfmlearner_part(other.get("state_dict", {})) != missing:
            raise InputError(f"{partner} does not hold the {missing} network that belongs to {path}")
        states[missing] = other
    if "depth" not in states:
        raise InputError(
            f"{path} holds only the pose network; put the depth network's file next to it, {partner}"
        )
    weights, ignored = {}, []
    for part, file in states.items():
        tensors, _ = split_state_dict(file["state_dict"], path)
        encoder, decoder = _NETWORKS[f"{part}_net"]
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if rest.startswith("encoder.fc.") or rest.startswith("fc."):
                ignored.append(f"{part}: {key}")
                continue
            name = f"{encoder if kind == 'encoder' else decoder}.{rest}"
            if _COARSE.match(name):
                ignored.append(f"{part}: {key}")
            else:
                weights[name] = rotation_first(name, value)
    ignored += [str(key) for key in content if key != "state_dict"]
    return Checkpoint(weights, _options(weights, "v1", "depth_decoder"), ignored=ignored)


def _options(weights: Mapping[str, Tensor], version: str, decoder: str) -> dict[str, Any]:
    options = {
        "method": {"name": "sc_depth", "version": version},
        "decoder": decoder,
        "scales": decoder_scales(weights, "depth."),
        "num_layers": resnet_layers(key for key in weights if key.startswith("encoder.")),
        "min_depth": 1 / 10.01,
        "max_depth": 100.0,
        "frame_ids": [0, -1, 1],
        "use_stereo": False,
    }
    if layers := resnet_layers(key for key in weights if key.startswith("pose_encoder.")):
        options["pose_encoder"] = f"resnet{layers}"
    return {key: value for key, value in options.items() if value is not None}


SC_DEPTH = Layout(
    "sc_depth",
    "SC-Depth's .ckpt with depth_net in its state_dict, or SC-SfMLearner's dispnet_*.pth.tar",
    _is_sc_depth,
    _read_sc_depth,
)
