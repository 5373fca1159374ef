"""Checkpoints: our own, and readers of published ones. Files come from strangers; none of their code runs.

A checkpoint is the weights, keyed as a Method's `state_dict` (sub-network, then the published file's own
key: `encoder.encoder.conv1.weight`, `depth.decoder.0.conv.conv.weight`), the options that rebuild the
model, and the state of the training where there is one to go on with.

    run folder           checkpoints/best.pt, last.pt, epoch_0007.pt, ... each of them complete
    <name>.pt            ours: weights, options, training
    <name>.safetensors   ours, for release: weights, options
    Monodepth2 folder    encoder.pth, depth.pth [, pose_encoder.pth, pose.pth, predictive_mask.pth, adam.pth]

Another layout is one `recognise` and one `read`, added to LAYOUTS; the first that recognises wins. Both get a
file's content as plain values; a folder of .pth files reads like one dict, file name to content.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import json
import os
import pickle
import re
import shutil
import tempfile
import types
import zipfile
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from utils import InputError, atomic_path, nearest_name

FORMAT = 1  # of our files; raised when an older Parallax could not read them
PUBLISHED_NETWORKS = ("encoder", "depth", "pose_encoder", "pose", "predictive_mask")  # Monodepth2's order


@dataclass
class Checkpoint:
    """What every layout is read into, and what a run saves.

    Attributes:
        weights: keyed as `Method.state_dict()`.
        options: what rebuilds the model: method, num_layers, height, width, scales, frame_ids ("s" among them
            where use_stereo is set), use_stereo, ... From our files all of the run's; from a published one
            what its keys, shapes and opt.json tell.
        layout: the entry of LAYOUTS it was read by.
        training: optimiser, scheduler, scaler, RNG, sampler position, epoch, step, metrics, best: plain
            values and tensors that only the trainer understands. A published folder offers
            `optimizer_by_name`: parameter name to Adam's state of it, see `load_optimizer`.
        ignored: what the file holds and this record does not, by name.
    """

    weights: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    layout: str = "parallax"
    training: dict[str, Any] | None = None
    ignored: list[str] = field(default_factory=list)


# ----------------------------------------------------------------------------------------------- saving


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write our file. It takes its place only once complete, so an earlier `path` survives a full disk.

    Raises:
        InputError: it could not be written, and why.
        TypeError: `options` or `training` hold something that could not be read back safely; it is named.
    """
    content = {
        "parallax": FORMAT,
        "weights": checkpoint.weights,
        "options": checkpoint.options,
        "training": checkpoint.training,
    }
    _write(path, {name: _storable(value, name) for name, value in content.items()})


def export_weights(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a release: `.safetensors`, with the options as JSON in its metadata and without the training.

    Options that name a place on this machine (absolute paths) stay out of it.
    """
    metadata = {"parallax": str(FORMAT), "options": json.dumps(_without_paths(checkpoint.options))}
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in checkpoint.weights.items()}
    with _writing(path) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata)


def write_monodepth2_folder(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the weights as a folder that the published Monodepth2 code loads.

    The published networks keep torchvision's unused classifier and load strictly, so `encoder.fc.*` is
    added as zeros. An opt.json beside the files keeps the options that keys and shapes do not tell.

    Raises:
        InputError: the networks are not Monodepth2's, or an option that the files hold is missing.
    """
    folder, networks = Path(folder), _by_network(checkpoint.weights)
    if resnet_layers(networks.get("encoder", {})) is None:
        raise InputError("a Monodepth2 folder holds torchvision ResNets (18 to 152); this encoder is another")
    for key in networks.get("depth", ["no depth network"]):
        if not re.match(r"depth\.decoder\.\d+\.conv\.", key):
            raise InputError(f"a Monodepth2 folder holds Monodepth2's depth decoder; this model has {key}")
    for name in ("height", "width", "use_stereo"):
        if name not in checkpoint.options:
            raise InputError(f"encoder.pth holds {name}, which the checkpoint's options do not tell")
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
        _write(folder / f"{name}.pth", _storable(content, name))
    options = {
        key: value
        for names in _OPT_JSON.values()
        for key, value in checkpoint.options.items()
        if key in names
    }
    with _writing(folder / "opt.json") as temporary:
        temporary.write_text(json.dumps(options, indent=2))


def update_link(link: str | Path, target: str | Path) -> None:
    """Let `link` (last.pt, best.pt) be the file `target` from one moment to the next.

    A hard link, so that it costs nothing and outlives `target`; a copy where the file system has no links.
    """
    link, target = Path(link), Path(target)
    with tempfile.TemporaryDirectory(dir=link.parent, prefix=f".{link.name}.") as folder:
        try:
            os.link(target, Path(folder) / link.name)
            os.replace(Path(folder) / link.name, link)
        except OSError:
            with _writing(link) as temporary:
                shutil.copyfile(target, temporary)


def epoch_path(folder: str | Path, epoch: int) -> Path:
    """The file of one epoch in a run's `checkpoints` folder."""
    return Path(folder) / f"epoch_{epoch:04d}.pt"


def prune_checkpoints(folder: str | Path, keep: int) -> None:
    """Remove all but the `keep` newest epoch files; last.pt and best.pt stay whatever they link to."""
    files = _epoch_files(Path(folder))
    for path in files[: max(0, len(files) - keep)]:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- loading


def load_checkpoint(path: str | Path, which: str = "best") -> Checkpoint:
    """Read a checkpoint of any known layout.

    Args:
        path: a run folder, one of its files, a release, a published folder or file.
        which: of a run folder, `"best"` (the last where there is no best) or `"last"`.

    Raises:
        InputError: there is nothing of a known layout, a part of it is missing or broken, or it wants to
            run code; in one sentence each.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    if path.is_dir():
        path = _file_of_run(path, which) or path
    content = _Folder(path) if path.is_dir() else _read_file(path)
    if isinstance(content, Mapping):
        for layout in LAYOUTS:
            if layout.recognise(content):
                checkpoint = layout.read(content, path)
                checkpoint.layout = layout.name
                return checkpoint
    raise InputError(_unrecognised(path, content))


def load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    models: Collection[str] | None = None,
    allow_missing: Collection[str] = (),
    source: str | Path = "the checkpoint",
) -> str:
    """Load weights into a Method, all or nothing: a key too many, too few or of another shape is an error.

    Args:
        module: its children are the sub-networks.
        weights: `Checkpoint.weights`.
        models: the sub-networks to load (`--models_to_load`); the others keep their values. Without it the
            weights and the model must have the same ones.
        allow_missing: sub-networks that keep their values where the weights lack them, such as the pose
            networks of a model that only predicts depth.
        source: what the weights are called in an error.

    Returns:
        One line: what was loaded and what was left aside.

    Raises:
        InputError: lists by sub-network what does not fit, with the likely reason. Nothing was loaded.
    """
    theirs, ours = _by_network(weights), _by_network(module.state_dict())
    trained = {key.split(".")[0] for key, _ in module.named_parameters()}
    # A child that learns nothing (a loss with constant buffers) is not a network that a file must hold.
    ours = {name: entries for name, entries in ours.items() if name in trained or name in theirs}
    for name in models or ():
        if name not in {*ours, *theirs, *allow_missing}:
            raise InputError(f"there is no sub-network '{name}' to load{nearest_name(name, ours)}")
    asked = list(ours) if models is None else list(models)
    kept = [name for name in asked if name not in theirs and name in allow_missing]
    asked = [name for name in asked if name not in kept]
    aside = [name for name in theirs if name not in asked]

    problems = [f"it has no {name}" for name in asked if name not in theirs]
    problems += [f"the model has no {name}" for name in asked if name not in ours]
    if models is None and aside:
        common = " ".join(name for name in ours if name in theirs)
        advice = f" (--models_to_load {common} leaves it aside)" if common else ""
        problems.append(f"the model has no {', '.join(aside)}{advice}")
    for name in asked:
        if name in theirs and name in ours:
            problems += _differences(name, theirs[name], ours[name])
    if problems:
        raise InputError(f"{source} does not fit the model: {'; '.join(problems)}")

    module.load_state_dict({k: v for name in asked for k, v in theirs[name].items()}, strict=False)
    report = "loaded " + (", ".join(f"{name} ({len(theirs[name])} tensors)" for name in asked) or "nothing")
    report += f"; left aside {', '.join(aside)} (not asked for)" if aside else ""
    return report + (f"; {', '.join(kept)} not in the file and left unchanged" if kept else "")


def load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, states: Mapping[str, dict]) -> str:
    """Take over a published optimiser's state: `training["optimizer_by_name"]`.

    Learning rates stay the ones of `optimizer`: the published adam.pth would bring its own along and make
    a fine-tuning run ignore `--learning_rate`.

    Returns:
        One line: how many parameters found theirs.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = 0
    for parameter in parameters:
        state = states.get(names.get(parameter, ""))
        if state is None or any(value.shape not in ((), parameter.shape) for value in state.values()):
            continue
        # Adam's step count lives on the CPU whatever the device of the weights.
        optimizer.state[parameter] = {
            key: value.clone() if key == "step" else value.to(parameter, copy=True)
            for key, value in state.items()
        }
        found += 1
    return f"loaded the optimiser state of {found} of {len(parameters)} parameters"


def _by_network(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        networks.setdefault(key.split(".")[0], {})[key] = value
    return networks


def _differences(name: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    """What keeps one sub-network from loading: a list with one sentence, or with none."""
    # Older files lack this counter, and nothing reads it.
    missing = [key for key in ours if key not in theirs and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in theirs if key not in ours]
    reshaped = [
        f"{key} {list(theirs[key].shape)}, in the model {list(ours[key].shape)}"
        for key in theirs
        if key in ours and theirs[key].shape != ours[key].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    parts = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in found.items() if keys]
    if not parts:
        return []
    file, model = resnet_layers(theirs), resnet_layers(ours)
    if file != model:
        file, model = (f"resnet{layers}" if layers else "another encoder" for layers in (file, model))
        parts.append(f"the file looks like {file}, the model is {model}")
    return [f"{name}: {', '.join(parts)}"]


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _epoch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch_*.pt"), key=lambda path: (len(path.name), path.name))


def _file_of_run(path: Path, which: str) -> Path | None:
    """The file to read of a run folder or its `checkpoints`; None where `path` is neither."""
    if which not in ("best", "last"):
        raise InputError(f"which checkpoint of a run is 'best' or 'last', got '{which}'")
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    names = ["best.pt", "last.pt"] if which == "best" else ["last.pt"]
    # A run killed before its first link was made has an epoch file alone.
    candidates = [folder / name for name in names] + _epoch_files(folder)[-1:]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if not found and folder != path:
        raise InputError(
            f"the run {path} has not saved a checkpoint yet: no {' or '.join(names)} in {folder}"
        )
    return found[0] if found else None


# ---------------------------------------------------------------------------------------------- layouts


@dataclass(frozen=True)
class Layout:
    """One way of keeping a checkpoint.

    Attributes:
        name: becomes `Checkpoint.layout`.
        looks_like: for the sentence that lists what is known.
        recognise: content to whether it is of this layout; looks at names before it looks at values.
        read: content and path to Checkpoint.
    """

    name: str
    looks_like: str
    recognise: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Path], Checkpoint]


class _Folder(Mapping):
    """A folder of .pth files as a dict: file name without suffix to content, read when asked for."""

    def __init__(self, path: Path) -> None:
        self.files = {file.stem: file for file in sorted(path.glob("*.pth"))}
        self.contents: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.contents:
            self.contents[name] = _read_file(self.files[name])
        return self.contents[name]

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def _unrecognised(path: Path, content: Any) -> str:
    known = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in LAYOUTS)
    if path.is_dir():
        names = [item.name for item in sorted(path.iterdir())]
        held = f"the folder {path} holds {_first(names, 8) or 'nothing'}"
    elif isinstance(content, Mapping):
        held = f"{path} holds the entries {_first(map(str, content), 8) or '(none)'}"
        if path.stem in PUBLISHED_NETWORKS and path.suffix == ".pth":
            held += f" (one file of a Monodepth2 folder? then name the folder, {path.parent})"
    else:
        held = f"{path} holds a {type(content).__name__}"
    return f"{held}, which is no known layout ({known})"


def _is_ours(content: Mapping[str, Any]) -> bool:
    return "parallax" in content


def _read_ours(content: Mapping[str, Any], path: Path) -> Checkpoint:
    if content["parallax"] != FORMAT:
        raise InputError(
            f"{path} is of checkpoint format {content['parallax']}, this Parallax reads format {FORMAT}; "
            "load it with the version that wrote it"
        )
    weights, _ = _split_state_dict(content.get("weights"), path)
    return Checkpoint(weights, content.get("options") or {}, training=content.get("training"))


def _is_monodepth2(content: Mapping[str, Any]) -> bool:
    return isinstance(content, _Folder) and ("encoder" in content or "depth" in content)


def _read_monodepth2(content: Mapping[str, Any], path: Path) -> Checkpoint:
    for name in ("encoder", "depth", *(("pose",) if "pose_encoder" in content else ())):
        if name not in content:
            raise InputError(f"{path} has {', '.join(f'{n}.pth' for n in content)} but no {name}.pth")
    weights, extras, ignored, order = {}, {}, [], []
    for name in PUBLISHED_NETWORKS:
        if name not in content:
            continue
        tensors, others = _split_state_dict(content[name], path / f"{name}.pth")
        ignored += [f"{name}.{key}" for key in others]
        extras |= others if name == "encoder" else {}
        order += [(f"{name}.{key}", value) for key, value in tensors.items()]
        for key, value in tensors.items():
            if key.startswith("encoder.fc."):  # torchvision's classifier, carried along and never used
                ignored.append(f"{name}.{key}")
            else:
                weights[f"{name}.{key}"] = value
    options, skipped = _monodepth2_options(weights, extras, path)
    ignored += skipped
    training = None
    if "adam" in content:
        states = _optimizer_by_name(content["adam"], order)
        if states is None:
            ignored.append("adam.pth (its parameters are not the ones of these networks)")
        else:
            training = {"optimizer_by_name": {key: states[key] for key in states if key in weights}}
    return Checkpoint(weights, options, training=training, ignored=ignored)


LAYOUTS = [
    Layout("parallax", "a run folder, or our .pt or .safetensors file", _is_ours, _read_ours),
    Layout(
        "monodepth2",
        "a folder with encoder.pth, depth.pth and, for training, pose_encoder.pth, pose.pth",
        _is_monodepth2,
        _read_monodepth2,
    ),
]


# ----------------------------------------------------------------- what keys and shapes tell of a network

_RESNETS = {  # blocks of layer1 to layer4, bottlenecks → layers
    (2, 2, 2, 2, False): 18,
    (3, 4, 6, 3, False): 34,
    (3, 4, 6, 3, True): 50,
    (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}
_CHANNELS_OF_SCALE = {16: 0, 32: 1, 64: 2, 128: 3}  # input channels of a disparity convolution → its scale
_OPT_JSON = {  # what is taken over from a published opt.json, by the type it has there
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
    """18 to 152 from the keys of a torchvision ResNet (whatever stands before `layer1`), else None."""
    found = (re.search(r"\blayer([1-4])\.(\d+)\.conv([123])\.", key) for key in weights)
    convs = {match.groups() for match in found if match}
    counts = [len({block for layer, block, _ in convs if layer == n}) for n in "1234"]
    return _RESNETS.get((*counts, any(conv == "3" for _, _, conv in convs)))


def decoder_scales(weights: Mapping[str, Tensor], prefix: str) -> list[int] | None:
    """The scales of a Monodepth2 depth decoder by its disparity convolutions; None of another."""
    scales, index = [], 10  # after two convolutions for each of five levels
    while (key := f"{prefix}decoder.{index}.conv.weight") in weights:
        scales.append(_CHANNELS_OF_SCALE.get(weights[key].shape[1]))
        index += 1
    return None if None in scales else scales


def _monodepth2_options(
    weights: Mapping[str, Tensor], extras: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], list[str]]:
    """Options from shapes, then encoder.pth's entries, then opt.json; and what was left aside of the last."""
    pose, frame_ids = _pose_options(weights)
    use_stereo = bool(extras.get("use_stereo"))
    # Without a pose network the stereo partner is all there was to learn from.
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
        "disable_automasking": has_mask,  # one asks for the other
    }
    certain = {
        "num_layers": resnet_layers(key for key in weights if key.startswith("encoder.")),
        "scales": decoder_scales(weights, "depth."),
        "predictive_mask": has_mask,
        **{key: extras[key] for key in ("height", "width", "use_stereo") if key in extras},
        **pose,
    }
    certain = {key: value for key, value in certain.items() if value is not None}
    recorded, file = _read_opt_json(path)
    for key in certain.keys() & recorded.keys() & {"num_layers", "height", "width"}:
        if recorded[key] != certain[key]:  # lies in the folder above and speaks of another model there
            skipped = f"{file} (another model's: {key} {recorded[key]}, here {certain[key]})"
            return guessed | certain, [skipped]
    return guessed | recorded | certain, []


def _pose_options(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    """Pose type and input from the pose networks that are there, and the frames they speak for."""
    if "pose.pose_conv.weight" in weights:
        kind, images = "posecnn", weights["pose.pose_conv.weight"].shape[0] // 6 + 1  # 6 for each source
    elif "pose_encoder.encoder.conv1.weight" in weights:
        kind, images = "separate_resnet", weights["pose_encoder.encoder.conv1.weight"].shape[1] // 3
    elif "pose.net.1.weight" in weights:
        kind, images = "shared", weights["pose.net.1.weight"].shape[1] // 256  # 256 channels for each image
    else:  # trained on stereo pairs alone, or left out of the folder
        return {}, [0, -1, 1]
    if images == 2:
        return {"pose_model_type": kind, "pose_model_input": "pairs"}, [0, -1, 1]
    frame_ids = [0, *range(-(images // 2), 0), *range(1, (images + 1) // 2)]
    return {"pose_model_type": kind, "pose_model_input": "all"}, frame_ids


def _read_opt_json(path: Path) -> tuple[dict[str, Any], str]:
    """The options recorded beside a published folder, in it or above it (models/opt.json); and where."""
    for file in (path / "opt.json", path.parent / "opt.json"):
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text())
        except ValueError:
            raise InputError(f"{file} is not valid JSON; mend it or move it away") from None
        if not isinstance(content, dict):
            raise InputError(f"{file} holds a {type(content).__name__}, not options; mend it or move it away")
        options = {}
        for kind, names in _OPT_JSON.items():
            for key in content.keys() & names:
                if not isinstance(content[key], (int, float) if kind is float else kind):
                    raise InputError(
                        f"{file}: {key} cannot be {content[key]!r}; mend it or move the file away"
                    )
                options[key] = content[key]
        return options, str(file)
    return {}, ""


def _split_state_dict(content: Any, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published state dict's tensors, and the other things that stand between them."""
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{file} holds no weights by name but a {type(content).__name__}")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in content.items() if key not in tensors}


def _optimizer_by_name(adam: Any, entries: list[tuple[str, Tensor]]) -> dict[str, dict[str, Tensor]] | None:
    """Adam's state by parameter name, None where it is not the state of these networks.

    The optimiser numbers its parameters; published files list them by network in registration order, which
    is the order of the entries once buffers are taken out (ResNet18: 62 + 28 + 62 + 8 = 160 with both fc).
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [(key, value) for key, value in entries if not key.endswith(buffers)]
    try:
        # In old files the numbers are memory addresses; the group lists them in order either way.
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


# --------------------------------------------------------------------------- reading without running code


class _Dtype:
    """Stands in for numpy.dtype: numbers, booleans and the `object` of an array of arrays."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|O8?", name):
            raise pickle.UnpicklingError(f"numpy type {name!r} is not one of plain numbers")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = "=" if state[1] == "|" else state[1]

    def read(self, data: bytes) -> np.ndarray:
        if self.name.startswith("O") or not isinstance(data, bytes) or self.order not in ("<", ">", "="):
            raise pickle.UnpicklingError("a numpy array that is not made of bytes")
        values = np.frombuffer(data, self.order + self.name)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


class _Array:
    """Stands in for numpy.ndarray; `value` is the array, or the list of what an object array holds."""

    value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.name.startswith("O"):
            self.value = [item.value if isinstance(item, _Array) else item for item in data]
        else:
            self.value = dtype.read(data).reshape(shape, order="F" if fortran else "C")


def _numpy_array(*_: Any) -> _Array:
    return _Array()


def _numpy_scalar(dtype: _Dtype, data: bytes) -> float | int | bool:
    return dtype.read(data)[0].item()


def _latin1(text: str, _: str = "latin1") -> bytes:
    """Stands in for _codecs.encode: how pickle before protocol 3 writes bytes."""
    return text.encode("latin1")


_NUMPY = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},  # numpy 1 and 2
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_array for core in ("core", "_core")},
}
_TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
_STAND_INS = {
    **_NUMPY,
    "argparse.Namespace": Namespace,
    "builtins.set": set,  # later torch versions know these two by themselves
    "_codecs.encode": _latin1,
    "yacs.config.CfgNode": collections.OrderedDict,
}


@contextlib.contextmanager
def _stand_ins_allowed() -> Iterator[None]:
    """Let `torch.load` build the stand-ins where a file names what they stand for."""
    if _TORCH >= (2, 6):
        with torch.serialization.safe_globals([(value, name) for name, value in _STAND_INS.items()]):
            yield
        return
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([_renamed(value, name) for name, value in _STAND_INS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@functools.cache
def _renamed(value: Any, name: str) -> Any:
    """A stand-in under the name it stands for: before torch 2.6 that is how an allowed thing is found."""
    module, _, short = name.rpartition(".")
    if f"{value.__module__}.{value.__name__}" == name:
        return value
    if isinstance(value, type) and value.__module__ == __name__:
        renamed = value  # itself, since what it builds must be of this very type
    elif isinstance(value, type):
        renamed = type(short, (value,), {})
    else:
        renamed = types.FunctionType(value.__code__, value.__globals__, short, value.__defaults__)
    renamed.__module__, renamed.__name__ = module, short
    return renamed


def _read_file(path: Path) -> Any:
    """The content of a .safetensors or torch file as plain values, read without running any of its code.

    Raises:
        InputError: it is truncated, something else, or wants to build what is not on the short list above.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        with _stand_ins_allowed():
            return _plain(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a broken file makes torch.load raise nearly anything
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path} wants to use '{refused[1]}' while it loads, which weights do not need; it was "
                "refused and nothing of it ran. If the file is your own, save its state_dict alone"
            ) from None
        size = path.stat().st_size
        raise InputError(
            f"{path} is truncated or not a checkpoint ({size:,} bytes); copy or download it again"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata() or {}
    if "parallax" not in metadata:
        return weights
    return {
        "parallax": int(metadata["parallax"]),
        "options": json.loads(metadata["options"]),
        "weights": weights,
    }


def _plain(value: Any) -> Any:
    """Stand-ins replaced by what they stand for: dicts, lists, tensors."""
    if isinstance(value, Namespace):
        return _plain(vars(value))
    if isinstance(value, _Array):
        value = value.value
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else _plain(value)
    if isinstance(value, Mapping) and not isinstance(value, collections.Counter):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays of numbers and arrays of such arrays, and refuses to know anything else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {**_NUMPY, "_codecs.encode": _latin1}
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return known[f"{module}.{name}"]


def load_ground_truth_npz(path: str | Path) -> list[np.ndarray]:
    """The depth maps of a published `gt_depths.npz`: key `data`, pictures of differing sizes.

    numpy reads arrays of arrays only by unpickling, which runs whatever the file asks for; this reader
    knows arrays and nothing else.

    Returns:
        (H, W) float32 metres each, 0 where unknown.

    Raises:
        InputError: no such file, no such key, truncated, or more in it than arrays.
    """
    path = Path(path).expanduser()
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
            maps = _read_npy(file)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except KeyError:
        raise InputError(f"{path} has no array 'data'; is it a ground truth file (gt_depths.npz)?") from None
    except Exception as error:  # a broken pickle raises nearly anything
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path} wants to use '{refused[1]}' while it loads, which depth maps do not need; "
                "it was refused and nothing of it ran"
            ) from None
        raise InputError(f"{path} is truncated or not a ground truth file ({error})") from None
    for index, depth in enumerate(maps):
        if not isinstance(depth, np.ndarray) or depth.ndim != 2:
            raise InputError(f"{path}: entry {index} is not a depth map but {_describe(depth)}")
        # One by one, so that the bytes they were read from are freed on the way; and writeable.
        maps[index] = depth.astype(np.float32)
    return maps


def _read_npy(file: BinaryIO) -> list[Any]:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if not dtype.hasobject:
        data = np.frombuffer(file.read(), dtype)
        return list(data.reshape(shape, order="F" if fortran else "C"))
    values = _ArrayUnpickler(file).load().value
    # Pictures that all have one size end up as one array of numbers, each an object of its own.
    return values if len(shape) == 1 else list(np.asarray(values, np.float32).reshape(shape))


def _describe(value: Any) -> str:
    return (
        f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    )


# ------------------------------------------------------------------------------------------------ writing


@contextlib.contextmanager
def _writing(path: str | Path) -> Iterator[Path]:
    """`atomic_path`, with a sentence where the disk is full or the folder closed."""
    path = Path(path)
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        cause: BaseException | None = error
        # torch answers a failed write with a RuntimeError about positions; the reason is in its context.
        while isinstance(cause, RuntimeError):
            cause = cause.__cause__ or cause.__context__
        if not isinstance(cause, (OSError, safetensors.SafetensorError)):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; free some space and resume" if full or "No space" in reason else ""
        kept = f", the earlier {path.name} is untouched" if path.exists() else ""
        raise InputError(f"could not write {path}: {reason}{kept}{advice}") from error


def _write(path: str | Path, content: Any) -> None:
    with _writing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def _storable(value: Any, where: str) -> Any:
    """`value` if it is made of what `_read_file` reads back, numpy numbers as Python's.

    Raises:
        TypeError: something else, with its place.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor) or type(value) in (type(None), bool, int, float, str, bytes):
        return value
    if type(value) in (dict, collections.OrderedDict, collections.Counter):
        return type(value)({key: _storable(item, f"{where}.{key}") for key, item in value.items()})
    if type(value) in (list, tuple, set):
        return type(value)(_storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(
        f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, strings and containers"
    )


def _without_paths(value: Any) -> Any:
    """The same options without those that are absolute paths."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if not _is_path(item)}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item) for item in value if not _is_path(item)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (os.path.isabs(value) or value.startswith("~"))
