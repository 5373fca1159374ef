"""Options of a network from the keys and shapes of its weights, and from an opt.json next to it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils import InputError, read_text

_RESNETS = {  # blocks of layer1 to layer4, bottlenecks → layers
    (2, 2, 2, 2, False): 18,
    (3, 4, 6, 3, False): 34,
    (3, 4, 6, 3, True): 50,
    (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}

_CHANNELS_OF_SCALE = {16: 0, 32: 1, 64: 2, 128: 3}  # input channels of a disparity convolution → its scale

OPT_JSON = {  # type → options of that type that are read from a published opt.json
    int: ("num_layers", "height", "width"),
    float: ("min_depth", "max_depth", "disparity_smoothness"),
    bool: (
        "use_stereo",
        "predictive_mask",
        "v1_multiscale",
        "avg_reprojection",
        "disable_automasking",
        "no_ssim",
    ),
    str: ("pose_model_type", "pose_model_input"),
    list: ("scales", "frame_ids"),
}


def resnet_layers(weights: Iterable[str]) -> int | None:
    """18 to 152 from the keys of a torchvision ResNet (with any prefix before `layer1`), else None."""
    found = (re.search(r"\blayer([1-4])\.(\d+)\.conv([123])\.", key) for key in weights)
    convs = {match.groups() for match in found if match}
    counts = [len({block for layer, block, _ in convs if layer == n}) for n in "1234"]
    return _RESNETS.get((*counts, any(conv == "3" for _, _, conv in convs)))


def decoder_scales(weights: Mapping[str, Tensor], prefix: str) -> list[int] | None:
    """The scales of a Monodepth2 depth decoder by its disparity convolutions; None for another decoder."""
    scales, index = [], 10  # after two convolutions for each of five levels
    while (key := f"{prefix}decoder.{index}.conv.weight") in weights:
        scales.append(_CHANNELS_OF_SCALE.get(weights[key].shape[1]))
        index += 1
    return scales if scales and None not in scales else None


def pose_options(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    """Type and input of the pose networks, if there are any, and their frames."""
    if "pose.pose_conv.weight" in weights:
        kind, images = "posecnn", weights["pose.pose_conv.weight"].shape[0] // 6 + 1  # 6 for each source
    elif "pose_encoder.encoder.conv1.weight" in weights:
        kind, images = "separate_resnet", weights["pose_encoder.encoder.conv1.weight"].shape[1] // 3
    elif "pose.net.1.weight" in weights:
        kind, images = "shared", weights["pose.net.1.weight"].shape[1] // 256  # 256 channels for each image
    else:  # trained only on stereo pairs, or left out of the folder
        return {}, [0, -1, 1]
    if images == 2:
        return {"pose_model_type": kind, "pose_model_input": "pairs"}, [0, -1, 1]
    frame_ids = [0, *range(-(images // 2), 0), *range(1, (images + 1) // 2)]
    return {"pose_model_type": kind, "pose_model_input": "all"}, frame_ids


def read_opt_json(path: Path, known: Mapping[type, Collection[str]] = OPT_JSON) -> tuple[dict[str, Any], str]:
    """Options from the opt.json in a published folder or above it (models/opt.json), and that file's path.

    Args:
        path: the folder.
        known: type → the options of that type to read.
    """
    for file in (path / "opt.json", path.parent / "opt.json"):
        if not file.is_file():
            continue
        try:
            content = json.loads(read_text(file))
        except json.JSONDecodeError:
            raise InputError(f"{file} is not valid JSON; mend it or move it away") from None
        if not isinstance(content, dict):
            raise InputError(f"{file} holds a {type(content).__name__}, not options; mend it or move it away")
        options = {}
        for kind, names in known.items():
            # null is what a run without that option wrote.
            for key in sorted(key for key in content.keys() & names if content[key] is not None):
                if not isinstance(content[key], (int, float) if kind is float else kind):
                    raise InputError(
                        f"{file}: {key} cannot be {content[key]!r}; mend it or move the file away"
                    )
                options[key] = content[key]
        return options, str(file)
    return {}, ""


def optimizer_by_name(adam: Any, entries: list[tuple[str, Tensor]]) -> dict[str, dict[str, Tensor]] | None:
    """Adam's state by parameter name, None if it is not the state of these networks.

    The optimiser numbers its parameters. Published files list them by network in registration order, which
    is the order of the entries without buffers (ResNet18: 62 + 28 + 62 + 8 = 160 with both fc).
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [(key, value) for key, value in entries if not key.endswith(buffers)]
    try:
        # In old files the numbers are memory addresses; the group lists them in order in both cases.
        numbers_in_order = [number for group in adam["param_groups"] for number in group["params"]]
        states = {}
        for number, (key, value) in zip(numbers_in_order, parameters):
            state = adam["state"].get(number)  # fc never had a gradient, hence no state
            if state is None:
                continue
            states[key] = {name: torch.as_tensor(entry, dtype=torch.float32) for name, entry in state.items()}
            if any(entry.shape not in ((), value.shape) for entry in states[key].values()):
                return None
    except (TypeError, KeyError, AttributeError, ValueError, RuntimeError):
        return None
    return states if len(numbers_in_order) == len(parameters) else None
