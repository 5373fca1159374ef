"""Flags that several entry scripts and tools share, declared once: which model, device, loading, dataset.

    parser = new_parser("evaluate_depth.py", "Evaluate depth by a benchmark's protocol.")
    add_model_flags(parser)
    add_loading_flags(parser.add_argument_group("machine"))
    args = parse(parser)
    method, options = open_model(args, device)

Names are those that users of Monodepth2, SurroundDepth and BDEdepth know. Nothing here imports torch before
a model is opened, so that `--help` and a mistyped flag answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import COMPUTED, Setting, components
from options.values import Typed, read_settings
from utils import PROJECT, WORKERS, InputError, nearest_name, program, quotes_needed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from predictor import Predictor

UNKNOWN = Setting("", COMPUTED)  # a setting that no dataset takes, which opening the dataset refuses
FEW = 12  # flags that an error lists
MODELS = "models"  # folder of published checkpoints, for --model_name
PUBLISHED = (  # where the authors of published checkpoints keep them
    "Monodepth2: the table of github.com/nianticlabs/monodepth2; the others: docs/coming-from.md"
)
SWITCH: dict[str, Any] = {"action": "store_true"}
FOLDER: dict[str, Any] = {"type": os.path.expanduser, "metavar": "FOLDER"}  # a ~ that the shell leaves
FILE: dict[str, Any] = {"type": os.path.expanduser, "metavar": "FILE"}

# Settings that a dataset is opened with and that have a flag wherever they can be given.
OWN_FLAGS = (
    "data_path",
    "split",
    "part",
    "height",
    "width",
    "frame_ids",
    "skip_missing",
    "ground_truth",
    "gt_path",
)

Flags = argparse.ArgumentParser | argparse._ArgumentGroup


class Parser(argparse.ArgumentParser):
    """argparse that takes no abbreviated flags and whose errors are one sentence, an InputError."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> None:
        """Raise argparse's message as an `InputError`; `argument --x: must be 1` becomes `--x must be 1`."""
        raise InputError(re.sub(r"^argument (\S+): (?=must )", r"\1 ", message))


def new_parser(name: str, description: str, **settings: Any) -> Parser:
    """A parser of an entry script; `settings` are those of `argparse.ArgumentParser`."""
    return Parser(program(name), description=description, **settings)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of a command line; of a parser with `add_dataset_flags` also `--dataset.KEY VALUE`.

    Args:
        arguments: the command line; None for that of this process.

    Returns:
        A namespace; with dataset flags, `dataset_settings` holds the further settings of the dataset.

    Raises:
        InputError: an unknown flag, with the nearest that exists; a value that a flag does not take; a
            setting of the dataset that has a flag of its own, or that no dataset is opened for.
    """
    words = sys.argv[1:] if arguments is None else list(map(str, arguments))
    args, rest = parser.parse_known_args(words)
    if hasattr(args, "set"):
        dotted, rest = _split_settings(rest)
        typed = {**dict(args.set), **dotted}
        for key in typed:
            if flag := _flag_of(key, args):
                raise InputError(f"--dataset.{key} would shadow {flag}; give {flag}")
        args.dataset_settings = _read_dataset_settings(getattr(args, "dataset", None), typed)
    if rest:
        flag = rest[0].partition("=")[0]
        if not flag.startswith("--"):
            raise InputError(f"unexpected argument '{rest[0]}'{quotes_needed(words, rest[0])}")
        if flag.startswith("--dataset."):
            raise InputError(f"{flag} is a setting of a dataset, and {parser.prog} opens none; leave it out")
        raise InputError(f"there is no flag {flag}{_instead(flag, parser, hasattr(args, 'set'))}")
    return args


def _instead(flag: str, parser: argparse.ArgumentParser, of_dataset: bool) -> str:
    """The flag that was probably meant, in words: a setting of a dataset, or one with a similar name."""
    name = flag.removeprefix("--")
    if of_dataset and any(name in dataset.settings for dataset in components("datasets").values()):
        return f"; did you mean '--dataset.{name}'?"
    known = [flag for action in parser._actions for flag in action.option_strings]
    near = nearest_name(flag, known)
    return near if "did you mean" in near or len(known) <= FEW else f"; see {parser.prog} --help"


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag whose value is a whole number from `least` on."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {value}")
        return value

    return whole_number


def positive(text: str) -> float:
    """The type of a flag whose value is a number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


# ------------------------------------------------------------------------------------------------ the model


def add_model_flags(
    parser: argparse.ArgumentParser, saved: Mapping[str, str] | None = None, decode_range: bool = True
) -> None:
    """Flags for one model, its checkpoint and its network size; see `model_path` and `open_model`.

    Args:
        saved: flag → help of files that are evaluated instead of a model, such as `--ext_disp_to_eval`.
        decode_range: add `--min_depth` and `--max_depth`, which depth needs and poses do not.
    """
    group = parser.add_argument_group("the model, one of")
    group.add_argument("--run", **FOLDER, help="run folder of a training with run.py, or hf://OWNER/NAME")
    group.add_argument("--load_weights_folder", **FOLDER, help="published checkpoint folder, or a run folder")
    group.add_argument("--pretrained_path", **FILE, help="checkpoint in a single file")
    group.add_argument("--model_name", metavar="NAME", help=f"published checkpoint folder in {MODELS}/")
    for flag, meaning in (saved or {}).items():
        group.add_argument(flag, **FILE, help=meaning)
    names = ("run", "load_weights_folder", "pretrained_path", "model_name")
    parser.set_defaults(model_flags=(*names, *(flag.lstrip("-") for flag in saved or {})))

    group = parser.add_argument_group("how it predicts")
    group.add_argument(
        "--checkpoint", default="best", choices=("best", "last"), help="checkpoint of a run folder"
    )
    for name in ("height", "width"):
        group.add_argument(
            f"--{name}", type=int, metavar="PIXELS", help=f"network input {name}; else the checkpoint's"
        )
    for name in ("--backbone", "--num_layers"):
        group.add_argument(name, help="accepted without effect: the checkpoint tells the encoder")
    if decode_range:
        for name, disparity in (("min", 1), ("max", 0)):
            group.add_argument(
                f"--{name}_depth",
                type=float,
                metavar="M",
                help=f"decode range: depth at disparity {disparity}, if the checkpoint does not record it",
            )


def model_path(args: argparse.Namespace) -> Path | None:
    """The one model that the flags name; None if saved files take its place.

    Raises:
        InputError: no model, several, or an unknown `--model_name`.
    """
    given = [name for name in args.model_flags if getattr(args, name)]
    if not given:
        flags = ", ".join(f"--{name}" for name in args.model_flags)
        raise InputError(f"no model was given: add one of {flags}")
    if len(given) > 1:
        raise InputError(f"{' and '.join(f'--{name}' for name in given)} name two models; give one")
    if given[0] == "model_name":
        return _named_model(args.model_name)
    if given[0] in ("run", "load_weights_folder", "pretrained_path"):
        return Path(getattr(args, given[0]))
    return None


def open_model(args: argparse.Namespace, device: torch.device | str) -> tuple[nn.Module, dict[str, Any]]:
    """The method that the flags name, in eval mode on `device`, and the options of its training.

    `--height`, `--width`, `--min_depth` and `--max_depth` win over the checkpoint's.

    Raises:
        InputError: no model, nothing known at its path, or a decode range for a model that has none.
    """
    from methods import load_method  # imports torch

    method, options = load_method(model_path(args), device, args.checkpoint)
    limits = getattr(args, "min_depth", None), getattr(args, "max_depth", None)
    if any(limits):
        from predictor import set_decode_range

        set_decode_range(method, *limits)
    return method, {**options, **network_size(args)}


def open_predictor(args: argparse.Namespace) -> Predictor:
    """The model that the flags name as a `predictor.Predictor`, on the device of the device flags."""
    from devices import pick_device
    from predictor import Predictor

    return Predictor(*open_model(args, pick_device(device_name(args))))


def network_size(args: argparse.Namespace) -> dict[str, int]:
    """`--height` and `--width`, if they are given."""
    return {name: getattr(args, name) for name in ("height", "width") if getattr(args, name)}


def _named_model(name: str) -> Path:
    """models/<name> in the working directory, or in the project."""
    roots = [Path(MODELS), PROJECT / MODELS]
    for root in roots:
        if (root / name).exists():
            return root / name
    names: Iterable[str] = (item.name for root in roots if root.is_dir() for item in root.iterdir())
    raise InputError(
        f"there is no {MODELS}/{name}{nearest_name(name, set(names))}; unpack the published checkpoint "
        f"there ({PUBLISHED}), or name its folder with --load_weights_folder"
    )


# ------------------------------------------------------------------------------------- device and loading


def add_device_flags(group: Flags) -> None:
    """`--device` and `--no_cuda`; see `device_name`."""
    group.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", **SWITCH, help="the same as --device cpu")


def device_name(args: argparse.Namespace) -> str:
    """The device that the flags of `add_device_flags` name, for `devices.pick_device`."""
    return "cpu" if args.no_cuda else args.device


def add_loading_flags(group: Flags, batch_size: int = 16, workers: bool = True) -> None:
    """`--batch_size` and, with `workers`, `--num_workers`.

    Args:
        batch_size: the default.
    """
    group.add_argument(
        "--batch_size",
        type=at_least(1),
        default=batch_size,
        metavar="N",
        help=f"samples predicted at a time (default: {batch_size})",
    )
    if workers:
        group.add_argument(
            "--num_workers",
            type=at_least(0),
            default=WORKERS,
            metavar="N",
            help="loader processes (default: one for each core, at most 8)",
        )


# ---------------------------------------------------------------------------------------------- the dataset


def add_dataset_flags(
    group: Flags, default: str | None = None, which: str = "a file of datasets/", required: bool = False
) -> None:
    """`--data_path`, `--dataset`, `--skip_missing` and further settings of the dataset; see `parse`.

    Args:
        default: the dataset that is read if `--dataset` is not given; None for the model's own.
        which: the datasets there are to choose from.
        required: `--data_path` must be given.
    """
    otherwise = "" if required else "; else $PARALLAX_DATA/<dataset> or data/<dataset>"
    group.add_argument("--data_path", **FOLDER, required=required, help=f"root of the dataset{otherwise}")
    otherwise = f"(default: {default})" if default else "(default: the one the model was trained on)"
    group.add_argument("--dataset", default=default, metavar="NAME", help=f"{which} {otherwise}")
    group.add_argument("--skip_missing", **SWITCH, help="leave out samples that lack an image or a scan")
    add_settings(group)


def add_settings(group: Any) -> None:
    """`--set`, as (key, value) pairs, for entries and tools."""
    group.add_argument(
        "--set",
        action="extend",
        nargs="+",
        type=setting,
        default=[],
        metavar="KEY=VALUE",
        help="further settings of the dataset, such as masks=true (docs/datasets.md)",
    )


def setting(text: str) -> tuple[str, str]:
    """Key and text of a setting: `depth_scale=256` gives ("depth_scale", "256")."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got '{text}'")
    return key, value


def _flag_of(key: str, args: argparse.Namespace) -> str | None:
    """The flag of the command line that a setting of the dataset would shadow; None if there is none."""
    if key == "name":
        return "--dataset"
    return f"--{key}" if key in OWN_FLAGS and hasattr(args, key) else None


def _read_dataset_settings(name: str | None, typed: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a dataset from their text, each by the type it has there.

    If the dataset is that of a run, which is not known yet, the first type that any dataset gives to the
    setting and that can read the text is taken.

    Raises:
        InputError: no such type.
    """
    known = components("datasets")
    owners = [known[name]] if name in known else list(known.values())
    what = f"dataset {name}" if name in known else "dataset"
    found: dict[str, Any] = {}
    for key, value in typed.items():
        types = [owner.settings[key] for owner in owners if key in owner.settings] or [UNKNOWN]
        for number, own in enumerate(types, 1):
            with contextlib.suppress(*([InputError] if number < len(types) else [])):
                found |= read_settings(what, {key: own}, {key: Typed(value)})
                break
    return found


def _split_settings(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The text of `--dataset.KEY VALUE` and `--dataset.KEY=VALUE` by key, and the other words."""
    settings, others, left = {}, [], list(words)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if not flag.startswith("--dataset."):
            others.append(word)
            continue
        if not equals:
            if not left or left[0].startswith("--"):
                raise InputError(f"{flag} needs a value")
            value = left.pop(0)
        settings[flag.removeprefix("--dataset.")] = value
    return settings, others
