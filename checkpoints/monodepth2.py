"""Monodepth2's folder: encoder.pth, depth.pth [, pose_encoder.pth, pose.pth, predictive_mask.pth, adam.pth].

Keys and shapes determine most options. encoder.pth holds the size, and an opt.json in the folder or above it
the other options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints._networks import (
    OPT_JSON,
    decoder_scales,
    optimizer_by_name,
    pose_options,
    read_opt_json,
    resnet_layers,
)
from checkpoints._reading import Folder
from checkpoints._record import Checkpoint, Layout, by_network, split_state_dict
from checkpoints._writing import storable, write, writing
from utils import InputError

PUBLISHED_NETWORKS = ("encoder", "depth", "pose_encoder", "pose", "predictive_mask")  # Monodepth2's order


def _is_monodepth2(content: Mapping[str, Any]) -> bool:
    return isinstance(content, Folder) and ("encoder" in content or "depth" in content)


def _read_monodepth2(content: Mapping[str, Any], path: Path) -> Checkpoint:
    for name in ("encoder", "depth", *(("pose",) if "pose_encoder" in content else ())):
        if name not in content:
            raise InputError(f"{path} has {', '.join(f'{n}.pth' for n in content)} but no {name}.pth")
    weights, extras, ignored, order = {}, {}, [], []
    for name in PUBLISHED_NETWORKS:
        if name not in content:
            continue
        tensors, others = split_state_dict(content[name], path / f"{name}.pth")
        ignored += [f"{name}.{key}" for key in others]
        extras |= others if name == "encoder" else {}
        order += [(f"{name}.{key}", value) for key, value in tensors.items()]
        for key, value in tensors.items():
            if key.startswith("encoder.fc."):  # torchvision's classifier, never used
                ignored.append(f"{name}.{key}")
            else:
                weights[f"{name}.{key}"] = value
    options, skipped = _monodepth2_options(weights, extras, path)
    ignored += skipped
    training = None
    if "adam" in content:
        states = optimizer_by_name(content["adam"], order)
        if states is None:
            ignored.append("adam.pth (its parameters are not the ones of these networks)")
        else:
            training = {"optimizer_by_name": {key: states[key] for key in states if key in weights}}
    return Checkpoint(weights, options, training=training, ignored=ignored)


def _monodepth2_options(
    weights: Mapping[str, Tensor], extras: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], list[str]]:
    """Options from shapes, encoder.pth's entries and opt.json; and the ignored part of opt.json."""
    pose, frame_ids = pose_options(weights)
    use_stereo = bool(extras.get("use_stereo"))
    # Without a pose network, the model was trained only on the stereo partner.
    frame_ids = ([0, "s"] if not pose else [*frame_ids, "s"]) if use_stereo else frame_ids
    has_mask = "predictive_mask.decoder.0.conv.conv.weight" in weights
    guessed = {
        "method": "monodepth2",
        "min_depth": 0.1,  # the published defaults, in every published model
        "max_depth": 100.0,
        "resize": "lanczos",
        "intrinsics": "fixed",
        "use_stereo": False,
        "frame_ids": frame_ids,
        "disable_automasking": has_mask,  # a predictive mask requires it
    }
    certain = {
        "num_layers": resnet_layers(key for key in weights if key.startswith("encoder.")),
        "scales": decoder_scales(weights, "depth."),
        "predictive_mask": has_mask,
        **{key: extras[key] for key in ("height", "width", "use_stereo") if key in extras},
        **pose,
    }
    certain = {key: value for key, value in certain.items() if value is not None}
    recorded, file = read_opt_json(path)
    for key in certain.keys() & recorded.keys() & {"num_layers", "height", "width"}:
        if recorded[key] != certain[key]:  # the opt.json in the folder above is that of another model
            skipped = f"{file} (another model's: {key} {recorded[key]}, here {certain[key]})"
            return guessed | certain, [skipped]
    return guessed | recorded | certain, []


MONODEPTH2 = Layout(
    "monodepth2",
    "a folder with encoder.pth, depth.pth and, for training, pose_encoder.pth, pose.pth",
    _is_monodepth2,
    _read_monodepth2,
)


def write_monodepth2_folder(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the weights as a folder that the published Monodepth2 code loads.

    The published networks keep torchvision's unused classifier and load strictly, so `encoder.fc.*` is
    added as zeros. An opt.json next to the files holds the options that keys and shapes do not determine.

    Raises:
        InputError: the networks are not Monodepth2's, or an option that the files need is missing.
    """
    folder, networks = Path(folder), by_network(checkpoint.weights)
    if resnet_layers(networks.get("encoder", {})) is None:
        raise InputError("a Monodepth2 folder holds torchvision ResNets (18 to 152); this encoder is another")
    for key in networks.get("depth", ["no depth network"]):
        if not re.match(r"depth\.decoder\.\d+\.conv\.", key):
            raise InputError(f"a Monodepth2 folder holds Monodepth2's depth decoder; this model has {key}")
    for name in ("height", "width", "use_stereo"):
        if name not in checkpoint.options:
            raise InputError(f"encoder.pth needs {name}, which is not among the checkpoint's options")
    for name in PUBLISHED_NETWORKS:
        if name not in networks:
            continue
        content = {key.removeprefix(f"{name}."): value for key, value in networks[name].items()}
        if name in ("encoder", "pose_encoder"):
            channels = content["encoder.layer4.0.downsample.0.weight"].shape[0]
            content["encoder.fc.weight"] = torch.zeros(1000, channels)
            content["encoder.fc.bias"] = torch.zeros(1000)
        if name == "encoder":
            content |= {key: checkpoint.options[key] for key in ("height", "width", "use_stereo")}
        write(folder / f"{name}.pth", storable(content, name))
    options = {
        key: value for names in OPT_JSON.values() for key, value in checkpoint.options.items() if key in names
    }
    with writing(folder / "opt.json") as temporary:
        temporary.write_text(json.dumps(options, indent=2))
