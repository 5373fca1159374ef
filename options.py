"""Every option of a run: its default, its help, its check.

    defaults  <  the method's  <  the run folder's (resume)  <  --config a.yaml b.yaml  <  command line

The method's are `Method.defaults`, options that are others for it: bdedepth's encoder, decoder and views.
Of several configs, later ones win. A config is YAML with the names of the flags, SurroundDepth's
`key = value` text, or PackNet-SfM's YAML. Components have sections, named after what they build, that take
any setting of the component's constructor:

    method: {name: monodepth2, align_corners: false}
    dataset: {name: kitti, baseline: 0.54}
    augment: {hue: 0.05}
    views: {local_crop: true}
    losses: {smoothness: {weight: 1.0e-2}}

and on the command line `--dataset.baseline 0.54 --losses.smoothness.weight 1e-2`. Unknown names are errors,
found before anything is read.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import DATASETS
from datasets._augment import Augment
from datasets._label_files import WithLabelFiles
from datasets._sequence import RESIZES
from losses import LOSSES
from methods import METHODS
from published_configs import (
    is_packnet,
    is_sc_depth,
    is_sgdepth,
    is_surround_depth,
    packnet,
    sc_depth,
    sgdepth,
    surround_depth,
)
from utils import (
    PROJECT,
    WORKERS,
    InputError,
    check_settings,
    data_root,
    nearest_name,
    read_setting,
    read_text,
    read_yaml,
)
from views import Views

SECTIONS = ("method", "dataset", "companion", "label_files", "augment", "views", "losses")
_NAMED = ("method", "dataset")  # sections that choose a component; the others only hold settings


_SAID: set[str] = set()  # sentences about published configs, each said once


def frame_id(text: str) -> int | str:
    """An offset in frames, or "s" for the stereo partner."""
    return "s" if text == "s" else int(text)


def boolean(text: str) -> bool:
    """A flag's value in a config."""
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


_KINDS = {
    int: "a whole number",
    float: "a number",
    boolean: "true or false",
    frame_id: "frames like 0 -1 1 or s",
}


def schedule(text: str) -> str:
    """A schedule's name; `cos` is BDEdepth's for cosine."""
    return {"cos": "cosine"}.get(text, text)


class _NumScales(argparse.Action):
    """BDEdepth's `--num_scales 4` for `--scales 0 1 2 3`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.scales = list(range(values))


class _PublishedView(argparse.Action):
    """BDEdepth's `--use_local_crop`, `--use_patch_reshuffle`: what is not asked for is off."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        chosen = getattr(namespace, "views", {"local_crop": False, "patch_reshuffle": False})
        namespace.views = {**chosen, str(option_string).removeprefix("--use_"): True}


class _Parser(argparse.ArgumentParser):
    """argparse whose refusals are our sentences."""

    def error(self, message: str) -> None:
        raise InputError(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `run.py`; `--help` prints every option with its default."""
    parser = _Parser(
        "run.py",
        description="Train, resume or evaluate a self-supervised depth method.",
        epilog=f"The sections {', '.join(SECTIONS)} take any setting of what they name, such as "
        "--views.local_crop true or --losses.smoothness.weight 1e-2; docs/methods.md lists them. A method "
        "may have defaults of its own; --dry_run prints those that count.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    switch = {"action": "store_true"}
    # Another way to write an option: neither listed nor an option of its own.
    alias = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}

    group = parser.add_argument_group("what to do")
    group.add_argument(
        "--config", action="extend", nargs="+", default=[], metavar="FILE", help="configs; later ones win"
    )
    group.add_argument(
        "--eval_only", **switch, help="evaluate the run or --load_weights_folder; evaluate_depth.py can more"
    )
    group.add_argument("--list", **switch, help="print methods, networks, datasets, losses, configs, splits")
    group.add_argument("--dry_run", **switch, help="check everything, build everything, train nothing")
    group.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        default="never",
        metavar="auto|never|FILE",
        help="go on from a checkpoint; auto where nothing follows",
    )

    group = parser.add_argument_group("folders")
    group.add_argument("--data_path", help="dataset root; else $PARALLAX_DATA/<dataset> or data/<dataset>")
    group.add_argument("--log_dir", default="runs", help="where run folders go")
    group.add_argument(
        "--model_name", "--exp_name", help="name of the run folder; else the first config's or the method's"
    )
    group.add_argument(
        "--load_weights_folder", "--pretrained_path", help="run folder or published checkpoint to start from"
    )
    group.add_argument(
        "--models_to_load", nargs="+", metavar="NAME", help="sub-networks to load; else all of the model's"
    )

    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default="kitti", help="a file of datasets/")
    group.add_argument("--split", help="a split's name, or a folder of lists; else the dataset's own default")
    group.add_argument("--height", type=int, default=192, help="network input, pixels, a multiple of 32")
    group.add_argument("--width", type=int, default=640, help="network input, pixels, a multiple of 32")
    group.add_argument("--frame_ids", type=frame_id, nargs="+", default=[0, -1, 1], help="0 and the sources")
    group.add_argument("--use_stereo", **switch, help="add the stereo partner to the sources")
    group.add_argument(
        "--resize", default="bicubic", choices=RESIZES, help="lanczos as published; SGDepth: bilinear"
    )
    group.add_argument("--skip_missing", **switch, help="train without samples that lack an image")
    group.add_argument("--num_workers", type=int, default=WORKERS, help="loader processes of each process")
    group.add_argument(
        "--png", "--jpg", **switch, help="accepted and not needed: jpg or png is found by looking"
    )

    group = parser.add_argument_group("model")
    group.add_argument("--method", default="monodepth2", help="a file of methods/")
    group.add_argument(
        "--num_layers",
        type=int,
        help="of ResNet encoders: 18, 34, 50, 101, 152; else the method's own, 18 or 34",
    )
    group.add_argument(
        "--encoder", "--backbone", help="another depth encoder: hrnet18, a network, or any timm model"
    )
    group.add_argument("--pose_encoder", help="another pose encoder")
    group.add_argument("--decoder", default="depth_decoder", help="of depth: depth_decoder, grid_decoder")
    group.add_argument(
        "--weights_init", default="pretrained", choices=("pretrained", "scratch"), help="of the encoders"
    )
    group.add_argument("--scales", type=int, nargs="+", default=[0, 1, 2, 3], help="of the loss")
    group.add_argument("--num_scales", type=int, action=_NumScales, **alias)
    for name in ("--use_local_crop", "--use_patch_reshuffle"):
        group.add_argument(name, nargs=0, dest="views", action=_PublishedView, **alias)
    group.add_argument("--min_depth", type=float, default=0.1, help="metres, at disparity 1")
    group.add_argument("--max_depth", type=float, default=100.0, help="metres, at disparity 0")
    group.add_argument(
        "--pose_model_type",
        default="separate_resnet",
        choices=("separate_resnet", "shared", "posecnn"),
        help="pose network",
    )
    group.add_argument("--pose_model_input", default="pairs", choices=("pairs", "all"), help="what it sees")

    group = parser.add_argument_group("loss")
    group.add_argument("--disparity_smoothness", type=float, default=1e-3, help="weight of smoothness")
    group.add_argument("--v1_multiscale", **switch, help="warp at each scale's own size")
    group.add_argument("--avg_reprojection", **switch, help="mean over sources, not the minimum")
    group.add_argument("--disable_automasking", **switch, help="keep pixels that stand still")
    group.add_argument("--predictive_mask", **switch, help="predict the sources' weights")
    group.add_argument("--no_ssim", **switch, help="absolute difference alone")

    group = parser.add_argument_group("optimisation")
    group.add_argument("--batch_size", type=int, default=12, help="samples per process and step")
    group.add_argument(
        "--optimizer", choices=("adam", "adamw", "sgd"), help="else adamw with weight_decay, adam without"
    )
    group.add_argument("--learning_rate", type=float, default=1e-4, help="of every parameter")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of adamw and sgd")
    group.add_argument("--beta1", type=float, default=0.9, help="of adam and adamw")
    group.add_argument("--beta2", type=float, default=0.999, help="of adam and adamw")
    group.add_argument("--momentum", type=float, default=0.9, help="of sgd")
    group.add_argument("--num_epochs", type=int, default=20, help="passes over the training part")
    group.add_argument("--max_steps", type=int, help="stop after these; schedules follow num_epochs")
    group.add_argument(
        "--scheduler",
        "--lr_sche_type",
        type=schedule,
        default="step",
        choices=("step", "cosine", "constant"),
        help="schedule",
    )
    group.add_argument("--scheduler_step_size", type=int, default=15, help="epochs before each drop")
    group.add_argument(
        "--decay_epochs", "--decay_step", type=int, nargs="+", help="drop after these instead: 26 36"
    )
    group.add_argument(
        "--scheduler_gamma", "--decay_rate", type=float, default=0.1, help="what the rate is multiplied by"
    )
    group.add_argument("--warmup_steps", type=int, default=0, help="steps of linear increase at the start")
    group.add_argument("--min_learning_rate", "--eta_min", type=float, default=0.0, help="where cosine ends")
    group.add_argument(
        "--clip_grad_norm", "--clip_grad", type=float, help="largest norm of the gradient; -1: any"
    )

    group = parser.add_argument_group("machine")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", **switch, help="the published way to write --device cpu")
    group.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="of the networks"
    )
    group.add_argument("--compile", **switch, help="torch.compile the networks")
    group.add_argument("--channels_last", **switch, help="memory layout of the networks")
    group.add_argument("--sync_batchnorm", **switch, help="batch statistics over all GPUs")
    group.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    group.add_argument(
        "--deterministic",
        **switch,
        help="refuse operations whose sums vary between runs; on a GPU torch's documentation counts the "
        "gradient of grid_sample, hence of every warp, among them: training should stop there (not tried)",
    )
    group.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)

    group = parser.add_argument_group("logs and checkpoints")
    group.add_argument("--log_frequency", type=int, default=250, help="steps between lines and images")
    group.add_argument(
        "--save_frequency", type=int, default=1, help="epochs between validations and checkpoints"
    )
    group.add_argument("--keep_checkpoints", type=int, default=5, help="kept beside last and best; 0: all")
    group.add_argument("--num_val", type=int, default=500, help="validation samples, evenly spaced; 0: all")
    return parser


def parse(
    arguments: Sequence[str] | None = None, saved: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    """The effective options of a run.

    Args:
        arguments: the command line; `sys.argv` where not given.
        saved: a run folder's options, under the configs.

    Returns:
        A namespace; sections are dicts, `method` and `dataset` have a `name` in theirs.

    Raises:
        InputError: an unknown or impossible option; the sentence gives the nearest valid one.
    """
    parser = build_parser()
    arguments = _apart(sys.argv[1:] if arguments is None else arguments)
    given, rest = parser.parse_known_args(arguments)
    listed = [action for action in parser._actions if action.default is not argparse.SUPPRESS]
    actions = {action.dest: action for action in listed}
    named = {flag.removeprefix("--"): action.dest for action in listed for flag in action.option_strings}
    values: dict[str, Any] = {}
    for source, settings in [
        ("the run's options", dict(saved or {})),
        *((str(path), read_config(path)) for path in given.config),
    ]:
        settings = {named.get(key, key): value for key, value in settings.items()}
        _merge(values, {key: _checked(source, key, value, actions) for key, value in settings.items()})
    _merge(values, _command_line(parser, arguments, actions))
    _merge(values, _dotted(rest, actions))
    defaults = {key: action.default for key, action in actions.items()}
    name = _section("method", values.get("method", {}))["name"]
    method = METHODS.get(name)
    _merge(defaults, method.defaults)
    _merge(defaults, values)
    _check_num_layers(name, method.defaults.get("encoder"), values)
    options = argparse.Namespace(**defaults)
    for section in SECTIONS:
        setattr(options, section, _section(section, getattr(options, section, None) or {}))
    _finish(options)
    _check_sections(options)
    return options


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of a config file, YAML or `key = value` text.

    Raises:
        InputError: no such file, or it does not parse.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        known = [os.path.relpath(p) for p in sorted((PROJECT / "configs").glob("*.yaml"))]
        raise InputError(f"there is no config {path}{nearest_name(str(path), known)}")
    text = read_text(path)
    try:
        if path.suffix == ".txt":
            lines = (line.split("#")[0].strip() for line in text.splitlines())
            # A word alone is a flag, as ConfigArgParse reads it.
            lines = (line if "=" in line else f"{line} = true" for line in lines if line)
            pairs = (re.split(r"\s*=\s*", line, maxsplit=1) for line in lines)
            settings = {key: read_yaml(value) for key, value in pairs}
            settings = _published(path, settings, "SurroundDepth", is_surround_depth, surround_depth)
            return _published(path, settings, "SC-Depth", is_sc_depth, sc_depth)
        settings = read_yaml(text)
    except ValueError as error:
        raise InputError(f"{path} does not parse: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold 'name: value' lines")
    if is_sgdepth(settings):
        return _published(path, settings, "SGDepth", is_sgdepth, sgdepth)
    return _published(path, settings, "PackNet-SfM", is_packnet, packnet)


def _published(
    path: Path, settings: dict[str, Any], system: str, recognise: Callable, translate: Callable
) -> dict[str, Any]:
    """A config as it is, or translated if it is one of a published system's; prints once what changed."""
    if not recognise(settings):
        return settings
    settings, notes = translate(settings)
    sentence = f"{path} is a config of the published {system}: {'; '.join(notes)}"
    if sentence not in _SAID and os.environ.get("RANK", "0") == "0":
        print(sentence, file=sys.stderr)
    _SAID.add(sentence)
    return settings


def effective(options: argparse.Namespace) -> dict[str, Any]:
    """What a run folder keeps: everything that shapes the result, nothing of this one call."""
    call = {"config", "eval_only", "list", "dry_run", "resume", "local_rank", "png", "no_cuda"}
    return {key: value for key, value in vars(options).items() if key not in call}


# ------------------------------------------------------------------------------------------------ composition


def _checked(source: str, key: str, value: Any, actions: Mapping[str, argparse.Action]) -> Any:
    """A config's value as the command line would have given it."""
    if key not in actions and key not in SECTIONS:
        raise InputError(f"{source} has an unknown option '{key}'{nearest_name(key, [*actions, *SECTIONS])}")
    if key in SECTIONS:
        return _checked_section(source, key, value)
    action = actions[key]
    if key == "config":
        raise InputError(f"{source} names a config, which only the command line does: --config A B")
    if value is None and action.default is None:
        return None
    kind = boolean if isinstance(action, argparse._StoreTrueAction) else (action.type or str)
    several = action.nargs == "+"
    if value is None and kind is str:
        raise InputError(f"{source}: {key} needs a value")
    if several and not isinstance(value, list):
        value = str(value).split()
    try:
        result = [kind(str(item)) for item in value] if several else kind(str(value))
    except (ValueError, TypeError):
        wanted = _KINDS.get(kind, kind.__name__)
        raise InputError(f"{source}: {key} must be {wanted}, got {value!r}") from None
    if action.choices and result not in action.choices:
        raise InputError(f"{source}: there is no {key} '{result}'{nearest_name(str(result), action.choices)}")
    return result


def _checked_section(source: str, key: str, value: Any) -> str | dict[str, Any]:
    """A section as it is; only what chooses a component may be a bare name."""
    if value is None:
        return {}
    if isinstance(value, str) and key in _NAMED:
        return value
    if not isinstance(value, dict):
        form = "a name or {name: ..., setting: value}" if key in _NAMED else "{setting: value}"
        raise InputError(f"{source}: {key} must be {form}, got {value!r}")
    if key in _NAMED and not isinstance(value.get("name", ""), str):
        raise InputError(f"{source}: {key}'s name must be a word, got {value['name']!r}")
    for term, settings in value.items():
        if key == "losses" and not isinstance(settings, dict):
            raise InputError(
                f"{source}: losses.{term} must be settings like {{weight: 1.0}}, got {settings!r}"
            )
    return value


def _command_line(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, actions: Mapping[str, argparse.Action]
) -> dict[str, Any]:
    """Only what was typed: parsed once more without defaults."""
    for action in actions.values():
        action.saved_default, action.default = action.default, argparse.SUPPRESS
    try:
        return vars(parser.parse_known_args(arguments)[0])
    finally:
        for action in actions.values():
            action.default = action.saved_default


def _apart(words: Sequence[str]) -> list[str]:
    """`--dataset.intrinsics="1 2 3 4"` as two words, since argparse takes one with a space for a value."""
    dotted = rf"--({'|'.join(SECTIONS)})\.\S+?=.*\s"
    parts = (word.split("=", 1) if re.match(dotted, word) else [word] for word in map(str, words))
    return [part for pair in parts for part in pair]


def _dotted(rest: Sequence[str], actions: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """`--dataset.baseline 0.54` and `--dataset.baseline=0.54` as nested sections."""
    nested: dict[str, Any] = {}
    words = list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise InputError(f"unexpected argument '{word}'")
        flag, _, value = word[2:].partition("=")
        section, *path = flag.split(".")
        if section not in SECTIONS or not path:
            raise InputError(f"there is no option '--{flag}'{nearest_name(flag, actions)}")
        if not value:
            if not words:
                raise InputError(f"--{flag} needs a value")
            value = words.pop(0)
        place = nested.setdefault(section, {})
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = read_setting(value)
    return {
        section: _checked_section("the command line", section, value) for section, value in nested.items()
    }


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Later wins; sections of settings are merged key by key, and a bare name takes the name's place."""
    for key, value in new.items():
        old = into.get(key)
        if key in _NAMED and isinstance(value, str) and isinstance(old, dict):
            value = {**old, "name": value} if old.get("name") == value else {"name": value}
        elif key in SECTIONS and isinstance(value, dict) and old is not None:
            merged = {"name": old} if isinstance(old, str) else dict(old)
            another = "name" in value and value["name"] != merged.get("name")
            if not another:
                _merge_nested(merged, value)
                value = merged
        into[key] = value


def _merge_nested(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])
            _merge_nested(into[key], value)
        else:
            into[key] = value


def _section(section: str, value: str | dict) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": value}
    if section in _NAMED and "name" not in value:
        return {"name": build_parser().get_default(section), **value}
    return dict(value)


# ----------------------------------------------------------------------------------------------------- checks


def _check_num_layers(method: str, encoder: str | None, values: Mapping[str, Any]) -> None:
    """Refuse a depth of ResNets for a method that has another encoder, where nobody says which."""
    given = {**values, **_section("method", values.get("method", {}))}
    layers = given.get("num_layers")
    if layers and encoder and "encoder" not in given and encoder not in (f"hrnet{layers}", f"resnet{layers}"):
        raise InputError(
            f"num_layers {layers} is of a ResNet, and {method} has {encoder} unless told otherwise; "
            f"add --encoder resnet{layers}"
        )


def _finish(options: argparse.Namespace) -> None:
    """Values that follow from others, and the checks that need no data."""
    for settings in (vars(options), options.dataset, options.companion):  # configs may have a ~ as well
        for name in ("data_path", "split"):
            if isinstance(settings.get(name), str):
                settings[name] = os.path.expanduser(settings[name])
    frames = [frame for frame in options.frame_ids if frame != "s"]
    options.use_stereo = options.use_stereo or "s" in options.frame_ids
    options.frame_ids = [*frames, "s"] if options.use_stereo else frames
    if options.encoder in ("resnet", "hrnet"):  # BDEdepth's names of its two backbones
        options.encoder += str(options.num_layers or 18)
    if options.clip_grad_norm == -1:
        options.clip_grad_norm = None
    if options.no_cuda:
        options.device = "cpu"
    if options.model_name is None:
        options.model_name = Path(options.config[0]).stem if options.config else options.method["name"]
    if options.data_path is None:
        options.data_path = str(data_root() / options.dataset["name"])
    if options.companion.get("name"):
        options.companion.setdefault("data_path", str(data_root() / options.companion["name"]))
    for name in ("batch_size", "num_epochs", "scheduler_step_size", "log_frequency", "save_frequency"):
        _at_least(options, name, 1)
    for name in ("num_workers", "keep_checkpoints", "num_val", "seed"):
        _at_least(options, name, 0)
    for name in ("warmup_steps", "weight_decay", "min_learning_rate", "disparity_smoothness"):
        _at_least(options, name, 0)
    if options.decay_epochs and sorted(set(options.decay_epochs)) != options.decay_epochs:
        raise InputError(f"decay_epochs go up, such as 26 36, got {options.decay_epochs}")
    if options.optimizer == "adam" and options.weight_decay:
        raise InputError(
            f"adam has no weight decay, got {options.weight_decay}; --weight_decay 0, or --optimizer adamw"
        )
    for name in ("beta1", "beta2", "momentum"):
        if not 0 <= getattr(options, name) < 1:
            raise InputError(f"{name} must be at least 0 and below 1, got {getattr(options, name)}")
    if options.max_steps is not None:
        _at_least(options, "max_steps", 1)
    for name in ("height", "width"):
        value = getattr(options, name)
        if value < 64 or value % 32:  # decoders reflect borders, which takes two rows at a 32nd of the size
            nearest = max(64, round(value / 32) * 32)
            raise InputError(f"{name} must be a multiple of 32 from 64 on, got {value}; try {nearest}")
    for name in ("learning_rate", "scheduler_gamma", "clip_grad_norm"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} must be above 0, got {value}")
    if not 0 < options.min_depth < options.max_depth:
        raise InputError(f"need 0 < min_depth < max_depth, got {options.min_depth} and {options.max_depth}")
    if not options.scales or any(not 0 <= scale <= 4 for scale in options.scales):
        raise InputError(f"scales are among 0 1 2 3 4, got {options.scales}")


def _check_sections(options: argparse.Namespace) -> None:
    """Refuse settings that nothing takes, and views that cannot be."""
    for section, registry in (("method", METHODS), ("dataset", DATASETS)):
        settings = dict(getattr(options, section))
        name = settings.pop("name")
        check_settings(f"{section} {name}", registry.get(name), settings)
    for name, settings in options.losses.items():
        term, settings = LOSSES.get(name), dict(settings or {})
        weight = settings.pop("weight", 0)
        if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise InputError(f"loss {name}: weight is a number from 0 on, got {weight!r}")
        check_settings(f"loss {name}", term, settings)
    check_settings("label_files", WithLabelFiles, options.label_files)
    check_settings("augment", Augment, options.augment)
    check_settings("views", Views, options.views)
    Views(**options.views)


def _at_least(options: argparse.Namespace, name: str, least: int) -> None:
    if not getattr(options, name) >= least:  # so that nan is refused as well
        raise InputError(f"{name} must be at least {least}, got {getattr(options, name)}")
