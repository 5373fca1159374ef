"""PackNet-SfM's file (All4Depth's as well): `.ckpt`, or `.pth.tar` of its first release.

    model.depth_net.<key>, legacy disp_network.<key>    →   depth.<key>
    model.pose_net.<key>, legacy pose_network.<key>     →   pose.<key>

    in a PackNet       pre_calc, pack*, conv*    →  encoder.*          unpack*, iconv*, disp*  →  decoder.*
    with dropout       conv<n>.<j>.conv3.0.*     →  conv<n>.<j>.conv3.*
    in a DepthResNet   encoder.encoder.*         →  encoder.encoder.*  decoder.decoder.*  →  depth.decoder.*

Keys and shapes determine the networks. The names in the saved config are ignored: published files name a
class that does not exist (`PackNetSlimEnc01`, which is a PackNet-SAN). The config adds the dataset, the image
size, the dropout, and the kind of supervision, which decides whether depth is metric.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints._networks import optimizer_by_name, resnet_layers
from checkpoints._reading import Folder
from checkpoints._record import Checkpoint, Layout, split_state_dict
from checkpoints._writing import storable, write
from utils import InputError

# Published class → name in networks/. A DepthResNet is `resnet<n>` with the `depth_decoder`.
DEPTH_NETWORKS = {
    "PackNet01": "packnet",
    "PackNetSlim01": "packnet_slim",
    "PackNetSAN01": "packnet_san",
    "PackNetSlimEnc01": "packnet_san",  # named in published SAN files; no such class was ever published
    "RaySurfaceResNet": "ray_surface",
}
PUBLISHED = ("PackNet01", "PackNetSlim01", "PackNetSAN01", "DepthResNet", "RaySurfaceResNet")
POSE_NETWORKS = {"PoseNet": "packnet_pose", "PoseResNet": "packnet_pose_resnet"}
DATASETS = {"KITTI": "kitti", "DGP": "ddad", "Image": "folder"}
# Published model → its loss terms that fix metric scale.
SUPERVISION = {
    "VelSupModel": {"velocity": {"weight": 0.1}},
    "SemiSupModel": {"supervised_depth": {"weight": 0.9}},
    "SemiSupCompletionModel": {"supervised_depth": {"weight": 0.9}},
}

_PREFIX = re.compile(r"^(?:.*\.)?(?:(depth_net|disp_network)|pose_net|pose_network)\.(?P<key>.+)$")
_OF_MODEL = re.compile(
    r"^(model\.)+(depth_net|disp_network)\.|^disp_network\.|^depth_net\.(encoder\.)?pre_calc\."
)
_SHORTCUT = re.compile(r"(conv[2-5]\.\d+\.conv3)\.0\.(weight|bias)$")
_PACKING = re.compile(r"(pre_calc|pack\d|conv\d)\.")
_UNPACKING = re.compile(r"(unpack\d|iconv\d|disp\d_layer)\.")
_FIRST, _JOIN = "encoder.pre_calc.conv_base.weight", "decoder.iconv5.conv_base.weight"
_WIDTHS = {64: "packnet", 32: "packnet_slim"}  # channels of the first convolution
_VERSIONS = {512 + 256: "1A", 256: "1B"}  # input channels of the coarsest join: concatenated or added


def _is_packnet(content: Mapping[str, Any]) -> bool:
    state = None if isinstance(content, Folder) else content.get("state_dict")
    return isinstance(state, Mapping) and any(_OF_MODEL.match(str(key)) for key in state)


def _read_packnet(content: Mapping[str, Any], path: Path) -> Checkpoint:
    tensors, others = split_state_dict(content["state_dict"], path)
    ignored = [f"state_dict.{key}" for key in others]
    depth, pose = {}, {}
    for name, value in tensors.items():
        match = _PREFIX.match(name)
        if match is None:
            ignored.append(f"state_dict.{name}")
        else:
            (depth if match[1] else pose)[match["key"]] = value
    config = content.get("config") if isinstance(content.get("config"), Mapping) else {}
    options, ours = _depth_options(depth, config, path)
    options = {
        "method": "packnet",
        "scales": [0, 1, 2, 3],
        "frame_ids": [0, -1, 1],
        "use_stereo": False,
        "resize": "lanczos",
        **options,
        **_pose_options(pose, path),
        **_config_options(config),
    }
    # The published optimiser has a group for the depth network, then one for the pose network.
    order = [(ours(key), value) for key, value in depth.items()]
    order += [(f"pose.{key}", value) for key, value in pose.items()]
    unused = [key for key, _ in order if ".fc." in key]  # torchvision's classifier, never used
    weights = {key: value for key, value in order if key not in unused}
    training = None
    if isinstance(content.get("optimizer"), Mapping):
        states = optimizer_by_name(content["optimizer"], order)
        if states is None:
            ignored.append("optimizer (its parameters are not the ones of these networks)")
        else:
            training = {"optimizer_by_name": {key: states[key] for key in states if key in weights}}
    ignored += [str(key) for key in content if key not in ("state_dict", "config", "optimizer")]
    return Checkpoint(weights, options, training=training, ignored=ignored + unused)


def packnet_key(key: str) -> str:
    """Our name of an entry of a published PackNet01, PackNetSlim01 or PackNetSAN01."""
    key = _SHORTCUT.sub(r"\1.\2", key)
    if _PACKING.match(key):
        return f"encoder.{key}"
    return f"decoder.{key}" if _UNPACKING.match(key) else key


def _depth_options(
    state: Mapping[str, Tensor], config: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], Callable[[str], str]]:
    """The depth network's options, and the function from its published keys to ours."""
    packed = {packnet_key(key): value for key, value in state.items()}
    if _FIRST in packed and _JOIN in packed:
        dropped = any(_SHORTCUT.search(key) for key in state)
        dropout = _entry(config, "model", "depth_net", "dropout")
        if not isinstance(dropout, (int, float)):
            dropout = 0.5 if dropped else 0.0  # 0.5 in published configs with dropout
        network = {"name": _packnet_name(packed, path), "version": _packnet_version(packed, path)}
        network["dropout"] = float(dropout)
        options = {"depth_network": network, "min_depth": 0.5, "max_depth": math.inf}
        return options, lambda key: f"depth.{packnet_key(key)}"
    layers = resnet_layers(key for key in state if key.startswith("encoder."))
    if layers is None or not any(key.startswith("decoder.decoder.") for key in state):
        raise InputError(
            f"{path}: its depth network is not one of {', '.join(PUBLISHED)}; its first entries are "
            f"{', '.join(list(state)[:3])}; give a file of one of these networks"
        )
    options = {"num_layers": layers, "min_depth": 0.1, "max_depth": 100.0}
    if any(key.startswith("ray_surf.") for key in state):
        options["depth_network"] = {"name": "ray_surface", "num_layers": layers}
        return options, lambda key: f"depth.{key}"
    return options, lambda key: re.sub(r"^decoder\.", "depth.", key)


def _packnet_name(packed: Mapping[str, Tensor], path: Path) -> str:
    channels = packed[_FIRST].shape[0]
    if channels not in _WIDTHS:
        raise InputError(
            f"{path}: a PackNet begins with 64 channels (PackNet01) or 32 (PackNetSlim01, PackNetSAN01), "
            "this one "
            f"with {channels}; other widths are not read"
        )
    san = any(key.startswith("mconvs.") for key in packed)
    return "packnet_san" if san else _WIDTHS[channels]


def _packnet_version(packed: Mapping[str, Tensor], path: Path) -> str:
    channels = packed[_JOIN].shape[1]
    if channels not in _VERSIONS:
        raise InputError(f"{path}: iconv5 joins 768 channels (1A) or 256 (1B) in a PackNet, here {channels}")
    return _VERSIONS[channels]


def _pose_options(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    if not state:
        return {}  # trained with ground truth only
    if "pose_pred.weight" in state:
        sources = state["pose_pred.weight"].shape[0] // 6
        before = range(-(sources // 2), 0)
        frames = [0, *before, *range(1, sources - len(before) + 1)]
        return {"pose_model_type": "packnet_pose", "frame_ids": frames}
    layers = resnet_layers(key for key in state if key.startswith("encoder."))
    if layers is None:
        raise InputError(
            f"{path}: its pose network is neither a PoseNet nor a PoseResNet; "
            f"its first entries are {', '.join(list(state)[:3])}"
        )
    return {"pose_model_type": "packnet_pose_resnet", "pose_encoder": f"resnet{layers}"}


def _config_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Image size, dataset and metric supervision, if the saved config has them."""
    options: dict[str, Any] = {}
    size = _integers(_entry(config, "datasets", "augmentation", "image_shape"), 2)
    crop = _integers(_entry(config, "datasets", "augmentation", "crop_train_borders"), 4, some=True)
    if size:
        options |= {"height": size[0], "width": size[1]}
    elif crop and crop[0] < 0 == crop[1] and crop[3] > 0:  # the lowest rows of the image, as for PackNet-SAN
        options |= {"height": -crop[0], "width": crop[3]}
    for split in ("train", "test"):
        names = _entry(config, "datasets", split, "dataset")
        if isinstance(names, (list, tuple)) and names and names[0] in DATASETS:
            options.setdefault("dataset", {"name": DATASETS[names[0]]})
    model = _entry(config, "model", "name")
    if isinstance(model, str) and model in SUPERVISION:
        options["losses"] = {name: dict(settings) for name, settings in SUPERVISION[model].items()}
    return options


def _entry(config: Any, *names: str) -> Any:
    """The entry at a path of a nested config; None if a part of the path is missing."""
    for name in names:
        if not isinstance(config, Mapping):
            return None
        config = config.get(name)
    return config


def _integers(values: Any, count: int, some: bool = False) -> list[Any] | None:
    """`values` if they are `count` whole numbers (with `some`, numbers of any kind), else None."""
    kinds = (int, float) if some else int
    if isinstance(values, (list, tuple)) and len(values) == count:
        return list(values) if all(isinstance(value, kinds) for value in values) else None
    return None


PACKNET = Layout(
    "packnet",
    "PackNet-SfM's file .ckpt or .pth.tar, whose state_dict has model.depth_net",
    _is_packnet,
    _read_packnet,
)


def write_packnet(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write the weights as a file that the published PackNet-SfM code loads.

    The published networks load strictly: dropout renames the shortcuts, and ResNets keep torchvision's unused
    classifier, which is written as zeros. The config holds the options that rebuild the networks, as plain
    values.

    Raises:
        InputError: the networks are not PackNet-SfM's.
    """
    options = checkpoint.options
    network = options.get("depth_network", {})
    dropout = float(network.get("dropout", 0.0))
    state: dict[str, Tensor] = {}
    for key, value in checkpoint.weights.items():
        state[_published_key(key, network.get("name"), dropout)] = value
        if key.endswith("encoder.layer4.0.downsample.0.weight"):
            prefix = _published_key(key, network.get("name"), dropout).split("layer4.")[0]
            state |= {
                f"{prefix}fc.weight": torch.zeros(1000, len(value)),
                f"{prefix}fc.bias": torch.zeros(1000),
            }
    classes = {ours: theirs for theirs, ours in reversed(DEPTH_NETWORKS.items())}
    poses = {ours: theirs for theirs, ours in POSE_NETWORKS.items()}
    layers = f"{options.get('num_layers', 18)}pt"
    depth_net = {
        "name": classes.get(network.get("name"), "DepthResNet"),
        "version": network.get("version", layers),
        "dropout": dropout,
    }
    pose = options.get("pose_model_type")
    pose_layers = str(options.get("pose_encoder", "resnet18")).removeprefix("resnet")
    version = "" if pose == "packnet_pose" else f"{pose_layers}pt"
    pose_net = {"name": poses.get(pose, ""), "version": version, "dropout": 0.0}
    size = [options[name] for name in ("height", "width") if name in options]
    config = {
        "model": {"name": "SelfSupModel", "depth_net": depth_net, "pose_net": pose_net},
        "datasets": {"augmentation": {"image_shape": size}},
        "prepared": True,
    }
    content = {"config": config, "epoch": 0, "state_dict": state}
    write(path, {name: storable(value, name) for name, value in content.items()})


def _published_key(key: str, network: str | None, dropout: float) -> str:
    part, _, rest = key.partition(".")
    if part == "pose" and not rest.startswith("net."):
        return f"model.pose_net.{rest}"
    if network is None and (part, rest.partition(".")[0]) in (("encoder", "encoder"), ("depth", "decoder")):
        return f"model.depth_net.{'encoder' if part == 'encoder' else 'decoder'}.{rest}"
    if network in DEPTH_NETWORKS.values() and part == "depth":
        if network in _WIDTHS.values():
            rest = rest.removeprefix("encoder.").removeprefix("decoder.")
        if dropout and network != "ray_surface":
            rest = re.sub(r"(conv[2-5]\.\d+\.conv3)\.(weight|bias)$", r"\1.0.\2", rest)
        return f"model.depth_net.{rest}"
    raise InputError(
        f"a PackNet-SfM file holds its own depth and pose networks; this model has {key}; "
        "export it as a release instead"
    )
