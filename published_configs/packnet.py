"""Configs of the published PackNet-SfM and All4Depth, nested YAML, as options of ours.

Every published default is written out, since ours differ. `_packnet_keys.MAP` names each published key and
what becomes of it; a key that it does not have is refused with the nearest one.

An epoch there is `repeat` passes over the data. Here it is one pass, so epochs, the step of the schedule and
the time between validations are multiplied by it: the same steps at the same learning rates.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

from checkpoints.packnet import DEPTH_NETWORKS, POSE_NETWORKS
from datasets._crop_borders import check_borders, size_of
from published_configs._packnet_data import common_repeat, data_options
from published_configs._packnet_keys import LEFT_OUT, MAP, TRANSLATED, as_list
from utils import InputError, nearest_name

MODELS = ("SelfSupModel", "VelSupModel", "SemiSupModel", "SemiSupCompletionModel", "GenericSelfSupModel")
_OPTIMIZERS = {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}
_SCHEDULES = {"StepLR": "step", "CosineAnnealingLR": "cosine"}


def is_packnet(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a YAML config are those of PackNet-SfM's code.

    One of its nested sections is enough, since ours have other names: then a misspelt section is named.
    """
    return any(isinstance(settings.get(name), Mapping) for name in ("arch", "model", "datasets"))


def packnet(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our options for the settings of a published config, and what there is to know about them, in sentences.

    Raises:
        InputError: an unknown key, with the nearest; a value without a counterpart here.
    """
    flat = _flatten(settings)
    for key in flat:
        if key not in MAP:
            raise InputError(f"PackNet-SfM has no option '{key}'{nearest_name(key, MAP)}")
    given = {key: default for key, (default, _) in TRANSLATED.items()} | flat
    notes: list[str] = []
    options: dict[str, Any] = {
        "method": _method(given, notes),
        "seed": given["arch.seed"],
        "resize": "lanczos",
        "precision": "float32",
        **({"model_name": given["name"]} if given["name"] else {}),
        **_training(given, notes),
        **_networks(given),
        **data_options(given, notes),
        **_augmentation(given, notes),
        **_losses(given, notes),
        **_weights(given),
    }
    reasons: dict[str, list[str]] = {}
    for key in flat:
        if LEFT_OUT.get(key):
            reasons.setdefault(LEFT_OUT[key], []).append(key)
    notes += [f"left out: {', '.join(keys)} ({reason})" for reason, keys in reasons.items()]
    return options, notes


def _method(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The section `method`: published view synthesis, unless warps repeat the border there."""
    if given["model.loss.padding_mode"] == "zeros":
        return {"name": "packnet", "published": True}
    notes.append("padding_mode border: coarse scales are enlarged bilinearly here, by nearest pixels there")
    return {"name": "packnet"}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with dotted keys. Python lists in strings are parsed, as in yacs."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
            continue
        if isinstance(value, str) and re.match(r"\s*[\[(]", value):
            try:
                value = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError):
                raise InputError(f"{prefix}{key} does not parse: {value}") from None
        flat[f"{prefix}{key}"] = value
    return flat


def _training(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    for setting in ("lr", "weight_decay"):
        depth, pose = (given[f"model.optimizer.{part}.{setting}"] for part in ("depth", "pose"))
        if depth != pose and given["model.pose_net.name"]:
            raise InputError(
                f"model.optimizer: depth and pose have one {setting} here, got {depth} and {pose}; "
                "give both the same value"
            )
    repeat = common_repeat(given)
    if repeat > 1:
        notes.append(
            f"an epoch there is {repeat} passes over the data, here one: epochs are multiplied by it"
        )
    best = given["checkpoint.save_top_k"]  # 0 and -1 keep all
    epochs, steps = given["arch.max_epochs"], given["model.scheduler.T_max"]
    scheduler = _choice("model.scheduler.name", given, _SCHEDULES)
    if scheduler == "cosine" and steps != epochs:
        notes.append(f"T_max {steps}: a cosine ends with the last of {epochs} epochs here")
    return {
        "optimizer": _choice("model.optimizer.name", given, _OPTIMIZERS),
        "learning_rate": given["model.optimizer.depth.lr"],
        "weight_decay": given["model.optimizer.depth.weight_decay"],
        "scheduler": scheduler,
        "scheduler_step_size": given["model.scheduler.step_size"] * repeat,
        "scheduler_gamma": given["model.scheduler.gamma"],
        "num_epochs": epochs * repeat,
        "save_frequency": repeat,
        "keep_checkpoints": 1 if best > 0 else 0,
        "keep_best": max(0, best),
        "batch_size": given["datasets.train.batch_size"],
        "num_workers": given["datasets.train.num_workers"],
    }


def _networks(given: Mapping[str, Any]) -> dict[str, Any]:
    name, version = given["model.depth_net.name"], str(given["model.depth_net.version"])
    pose_name, pose_version = given["model.pose_net.name"], str(given["model.pose_net.version"])
    options: dict[str, Any] = {"encoder": None, "decoder": "depth_decoder"}
    pretrained = set()
    if name in ("DepthResNet", "RaySurfaceResNet"):
        layers, suffix = _resnet("model.depth_net.version", version)
        pretrained.add(suffix)
        options |= {"num_layers": layers, "min_depth": 0.1, "max_depth": 100.0}
        if name == "RaySurfaceResNet":
            options["depth_network"] = {"name": "ray_surface", "num_layers": layers}
    else:
        network = _choice("model.depth_net.name", given, DEPTH_NETWORKS, "DepthResNet")
        if version[1:] not in ("A", "B"):
            raise InputError(f"model.depth_net.version is 1A or 1B for a PackNet, got '{version}'")
        settings = {"version": f"1{version[1:]}", "dropout": float(given["model.depth_net.dropout"])}
        trains = bool(as_list(given["datasets.train.dataset"]))
        if network == "packnet_san" and trains and not _completes(given):
            settings["completion"] = False  # the sparse encoder gets no gradient
        options |= {"depth_network": {"name": network, **settings}}
        options |= {"min_depth": 0.5, "max_depth": math.inf}
    if pose_name:
        options["pose_model_type"] = _choice("model.pose_net.name", given, POSE_NETWORKS)
        if pose_name == "PoseResNet":
            layers, suffix = _resnet("model.pose_net.version", pose_version)
            pretrained.add(suffix)
            options["pose_encoder"] = f"resnet{layers}"
    if len(pretrained) > 1:
        raise InputError(
            "either both depth and pose ResNets start from ImageNet here, or neither; got versions "
            f"'{version}' and '{pose_version}'; end both with pt, or neither"
        )
    options["weights_init"] = "pretrained" if True in pretrained else "scratch"
    return options


def _completes(given: Mapping[str, Any]) -> bool:
    """True if the network is given an input depth in training."""
    completion = given["model.name"] == "SemiSupCompletionModel"
    return completion and any(as_list(given["datasets.train.input_depth_type"]))


def _resnet(key: str, version: str) -> tuple[int, bool]:
    match = re.match(r"(18|34|50)", version)
    if not match:
        raise InputError(
            f"{key} must begin with a number of ResNet layers, 18, 34 or 50, got '{version}'; try 18pt"
        )
    return int(match[1]), version[2:] == "pt"


def _augmentation(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    shape = as_list(given["datasets.augmentation.image_shape"])
    crop = check_borders(as_list(given["datasets.augmentation.crop_train_borders"]))
    if crop:
        notes.append("crop_train_borders: training cuts windows, evaluation shows the whole image")
    if size := shape or (crop and size_of(crop)):
        options |= {"height": size[0], "width": size[1]}
    generic = given["model.name"] == "GenericSelfSupModel"  # which never mirrors, whatever the config says
    augment: dict[str, Any] = {"flip": 0.0 if generic else given["model.loss.flip_lr_prob"], "jitter": 0.0}
    jittering = as_list(given["datasets.augmentation.jittering"])
    if jittering:
        if len(jittering) == 5 and jittering[4]:
            notes.append(f"jittering: there is no gain of single channels here, {jittering[4]} is left out")
        augment |= {"jitter": 1.0, **dict(zip(("brightness", "contrast", "saturation", "hue"), jittering))}
    return options | {"augment": augment}


def _losses(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    model = given["model.name"]
    if model and model not in MODELS:
        raise InputError(f"model.name: there is no '{model}'{nearest_name(model, MODELS)}")
    for key, only in (("model.loss.rotation_mode", "euler"), ("model.loss.clip_loss", 0)):
        if given[key] != only:
            raise InputError(f"{key} {given[key]} has no counterpart here; leave it at {only}")
    supervised = model.startswith("SemiSup")
    share = given["model.loss.supervised_loss_weight"] if supervised else 0.0
    losses: dict[str, Any] = {
        "photometric": {"weight": 1.0 - share, "ssim_weight": given["model.loss.ssim_loss_weight"]},
        "smoothness": {"weight": given["model.loss.smooth_loss_weight"] * (1.0 - share)},
    }
    if supervised:
        losses["supervised_depth"] = _supervised(given, share)
        if _completes(given):
            losses["feature_gap"] = {"weight": 1.0}
    if model == "VelSupModel":
        losses["velocity"] = {"weight": given["model.loss.velocity_loss_weight"]}
    if model == "GenericSelfSupModel":
        notes.append("a ray surface needs a template of rays: tools/ray_template.py writes one")
    context = [-n for n in range(given["datasets.train.back_context"], 0, -1)]
    context += [*range(1, given["datasets.train.forward_context"] + 1)]
    return {
        "scales": list(range(given["model.loss.num_scales"])),
        "frame_ids": [0] if share == 1 else [0, *context],
        "v1_multiscale": not given["model.loss.upsample_depth_maps"],
        "avg_reprojection": given["model.loss.photometric_reduce_op"] == "mean",
        "disable_automasking": not given["model.loss.automask_loss"],
        "losses": losses,
    }


def _supervised(given: Mapping[str, Any], weight: float) -> dict[str, Any]:
    method = str(given["model.loss.supervised_method"])
    return {
        "weight": weight,
        "error": method.removeprefix("sparse-"),
        "only_known": method.startswith("sparse"),
        "num_scales": given["model.loss.supervised_num_scales"],
        "published": True,
    }


def _weights(given: Mapping[str, Any]) -> dict[str, Any]:
    """Checkpoints to start from: one file, whole or one of its networks."""
    paths = {part: given[f"model.{part}checkpoint_path"] for part in ("", "depth_net.", "pose_net.")}
    named = {part: path for part, path in paths.items() if path}
    if len(set(named.values())) > 1:
        raise InputError(f"weights come from one file here, got {', '.join(map(str, named.values()))}")
    if not named:
        return {}
    options: dict[str, Any] = {"load_weights_folder": next(iter(named.values()))}
    if len(named) == 1 and "" not in named:
        pair = given["model.depth_net.name"] == "DepthResNet"
        options["models_to_load"] = (
            ["pose"] if "pose_net." in named else ["encoder", "depth"] if pair else ["depth"]
        )
    return options


def _choice(key: str, given: Mapping[str, Any], choices: Mapping[str, str], *others: str) -> str:
    value = given[key]
    if value not in choices:
        raise InputError(f"{key}: there is no '{value}'{nearest_name(value, [*choices, *others])}")
    return choices[value]
