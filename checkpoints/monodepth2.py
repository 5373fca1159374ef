"""Monodepth2's folder: encoder.pth, depth.pth [, pose_encoder.pth, pose.pth, predictive_mask.pth, adam.pth].

One file that holds the same networks, nested or under `encoder.`, `depth.`, is read as well. Keys and shapes
determine most options. encoder.pth holds the size, and an opt.json in the folder or above it the rest.
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
from checkpoints._relatives import ELSEWHERE, describe, network_kind
from checkpoints._writing import storable, write, writing
from utils import InputError

PUBLISHED_NETWORKS = ("encoder", "depth", "pose_encoder", "pose", "predictive_mask")  # Monodepth2's order


def _is_monodepth2(content: Mapping[str, Any]) -> bool:
    if isinstance(content, Folder):
        return "encoder" in content or "depth" in content
    networks = _networks_in_file(content)
    return all(network_kind(networks.get(name, {})) == name for name in ("encoder", "depth"))


def _networks_in_file(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The networks of one file: a state dict each, or one state dict whose keys begin with their names."""
    nested = {name: content[name] for name in PUBLISHED_NETWORKS if isinstance(content.get(name), Mapping)}
    flat = by_network({key: value for key, value in content.items() if isinstance(value, Tensor)})
    return nested or {
        name: {key.removeprefix(f"{name}."): value for key, value in flat[name].items()}
        for name in PUBLISHED_NETWORKS
        if name in flat
    }


def _read_monodepth2(content: Mapping[str, Any], path: Path) -> Checkpoint:
    optimiser, others = content.get("adam"), []
    networks: Mapping[str, Any] = content
    if not isinstance(content, Folder):
        networks = _networks_in_file(content)
        optimiser = content.get("adam", content.get("optimizer"))
        others = [str(k) for k, v in content.items() if not isinstance(v, Tensor) and k not in networks]
    for name in ("encoder", "depth", *(("pose",) if "pose_encoder" in networks else ())):
        if name not in networks:
            raise InputError(f"{path} has {', '.join(f'{n}.pth' for n in networks)} but no {name}.pth")
    weights, extras, ignored, order = {}, {}, [], []
    states = {}
    for name in PUBLISHED_NETWORKS:
        if name in networks:
            states[name] = split_state_dict(networks[name], path / f"{name}.pth")
    _check_kinds({name: tensors for name, (tensors, _) in states.items()}, path)
    for name, (tensors, plain) in states.items():
        ignored += [f"{name}.{key}" for key in plain]
        extras |= plain if name == "encoder" else {}
        order += [(f"{name}.{key}", value) for key, value in tensors.items()]
        for key, value in tensors.items():
            if key.startswith("encoder.fc."):  # torchvision's classifier, never used
                ignored.append(f"{name}.{key}")
            else:
                weights[f"{name}.{key}"] = value
    beside = {key: content[key] for key in ("height", "width", "use_stereo") if key in others}
    options, skipped = _monodepth2_options(weights, beside | extras, path)
    ignored += [*skipped, *others]
    training = None
    if optimiser is not None:
        found = optimizer_by_name(optimiser, order)
        if found is None:
            ignored.append("adam.pth (its parameters are not the ones of these networks)")
        else:
            training = {"optimizer_by_name": {key: found[key] for key in found if key in weights}}
    return Checkpoint(weights, options, training=training, ignored=ignored)


def _check_kinds(networks: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """Refuse a file that holds another network than its name says.

    Raises:
        InputError: two files are swapped, or one is of a related system; says what it holds.
    """
    kinds = {name: network_kind(state) for name, state in networks.items()}
    for name, state in networks.items():
        expected = "depth" if name == "predictive_mask" else name
        if kinds[name] == expected or (name == "depth" and any("decoder_cross." in key for key in state)):
            continue
        file, held = path / f"{name}.pth", describe(state)
        swapped = [other for other, kind in kinds.items() if kind == expected and kinds[name] == other]
        if swapped:
            raise InputError(f"{file} holds {held}: {name}.pth and {swapped[0]}.pth are swapped, rename them")
        wanted = {
            "encoder": "a ResNet of 18 to 152 layers for one image",
            "pose_encoder": "a ResNet of 18 to 152 layers for several images",
            "depth": "Monodepth2's depth decoder",
            "pose": "a pose network",
        }[expected]
        advice = f"; {ELSEWHERE}" if not kinds[name] else "; put the right file there"
        held = held or f"a network with entries such as {next(iter(state))}"
        raise InputError(f"{file} holds {held}, and a Monodepth2 folder has {wanted} there{advice}")


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
    "a folder with encoder.pth, depth.pth and, for training, pose_encoder.pth, pose.pth, or one file of them",
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
    known = {key for names in OPT_JSON.values() for key in names}
    options = {key: v for key, v in checkpoint.options.items() if key in known and v is not None}
    options["num_layers"] = resnet_layers(networks["encoder"])
    with writing(folder / "opt.json") as temporary:
        temporary.write_text(json.dumps(options, indent=2))
