"""The options of a run, composed from several sources.

    defaults  <  the method's  <  the run folder's (resume)  <  --config a.yaml b.yaml  <  command line

`options/table.py` holds the options, `options/aliases.py` the flags of other systems. The method's defaults
are `Method.defaults`: bdedepth overrides encoder, decoder and views. A config is YAML with the names of the
flags, or SurroundDepth's `key = value` text. Components have sections that take every setting of the
component's constructor:

    method: {name: monodepth2, align_corners: false}
    dataset: {name: kitti, baseline: 0.54}
    augment: {hue: 0.05}
    views: {local_crop: true}
    losses: {smoothness: {weight: 1.0e-2}}

and on the command line `--dataset.baseline 0.54 --losses.smoothness.weight 1e-2`. Unknown names are errors,
found before torch is imported. Constructors that need no data are then called once, for their own checks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components import Component, find_component
from datasets.sizes import network_size
from options import aliases
from options.checks import check_constructors, check_options, read_sections
from options.command_line import build_parser, read_command_line
from options.configs import SAVED, merge, named_section, read_config, read_values
from options.table import OPTIONS, SECTIONS, default_of
from options.values import frame_id
from utils import InputError, data_root

__all__ = ["OPTIONS", "SECTIONS", "build_parser", "effective", "frame_id", "parse", "read_config"]


def parse(
    arguments: Sequence[str] | None = None, saved: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    """The effective options of a run.

    Args:
        arguments: the command line; `sys.argv` if not given.
        saved: a run folder's options, under the configs.

    Returns:
        A namespace; sections are dicts, `method` and `dataset` have a `name` in theirs.

    Raises:
        InputError: an unknown or impossible option; the sentence gives the nearest valid one.
    """
    typed = read_command_line(sys.argv[1:] if arguments is None else arguments)
    values: dict[str, Any] = {}
    if saved:
        merge(values, read_values(SAVED, saved))
    for path in typed.get("config", []):
        merge(values, read_values(str(path), read_config(path)))
    merge(values, typed)
    method = find_component("methods", named_section("method", values.get("method", {}))["name"])
    dataset = find_component("datasets", named_section("dataset", values.get("dataset", {}))["name"])
    defaults = {name: default_of(option) for name, option in OPTIONS.items()}
    merge(defaults, method.defaults)
    _check_num_layers(method, values)
    # An option that is not set, as by `--encoder none`, has the method's default.
    merge(defaults, {key: value for key, value in values.items() if value is not None})
    options = argparse.Namespace(**defaults)
    for section in SECTIONS:
        setattr(options, section, named_section(section, getattr(options, section, None) or {}))
    _finish(options)
    check_options(options)
    read_sections(options, method, dataset)
    if not options.list:
        check_constructors(options)
    return options


def effective(options: argparse.Namespace) -> dict[str, Any]:
    """Options kept in the run folder: all that affect the result, none that concerns only this call."""
    call = {name for name, option in OPTIONS.items() if option.of_call}
    return {key: value for key, value in vars(options).items() if key not in call}


def _finish(options: argparse.Namespace) -> None:
    """Values that follow from other options."""
    aliases.finish(options)
    for settings in (vars(options), options.companion):  # configs may have a ~ as well
        for name in ("data_path", "split", "load_weights_folder", "packed"):
            if isinstance(settings.get(name), str):
                settings[name] = os.path.expanduser(settings[name])
    frames = [frame for frame in options.frame_ids if frame != "s"]
    options.use_stereo = options.use_stereo or "s" in options.frame_ids
    options.frame_ids = [*frames, "s"] if options.use_stereo else frames
    options.height, options.width = network_size(vars(options))
    if options.model_name is None:
        options.model_name = Path(options.config[0]).stem if options.config else options.method["name"]
    if options.data_path is None:
        options.data_path = str(data_root() / options.dataset["name"])
    if options.companion.get("name"):
        options.companion.setdefault("data_path", str(data_root() / options.companion["name"]))


def _check_num_layers(method: Component, values: Mapping[str, Any]) -> None:
    """Reject num_layers if the method's default encoder is not a ResNet and no encoder is given."""
    layers, encoder = values.get("num_layers"), method.defaults.get("encoder")
    if not layers or not encoder or values.get("encoder"):
        return
    if encoder not in (f"hrnet{layers}", f"resnet{layers}"):
        raise InputError(
            f"--num_layers {layers} is for ResNets, and the default encoder of {method.name} is {encoder}; "
            f"add --encoder resnet{layers}"
        )
