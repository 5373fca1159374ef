"""Checks of options before any data is read.

`check_options` and `read_sections` look at names and numbers only. `check_constructors` imports the
components and builds those that need neither data nor time: their own checks refuse impossible values.
"""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

from components import Component, Setting, components, find_class, find_component
from options.configs import VIEWS
from options.table import OPTIONS, SECTIONS
from options.values import plain, read_settings
from utils import InputError

AUGMENT = ("datasets", "Augment")  # package and class of the section `augment`
# Section → class that wraps the dataset.
WRAPPERS = {"label_files": "WithLabelFiles", "pseudo_depth_files": "WithPseudoDepth", "joined": "Joined"}


def check_options(options: argparse.Namespace) -> None:
    """Each option's own check, and those of options that depend on each other.

    Raises:
        InputError: the option, what it must be, its value.
    """
    for name, option in OPTIONS.items():
        if name not in SECTIONS:
            option.verify(getattr(options, name))
    if options.decay_epochs and sorted(set(options.decay_epochs)) != options.decay_epochs:
        raise InputError(f"--decay_epochs must go up, such as 26 36, got {options.decay_epochs}")
    if options.optimizer == "adam" and options.weight_decay:
        raise InputError(
            f"adam has no weight decay, got {options.weight_decay}; --weight_decay 0, or --optimizer adamw"
        )
    find_component("networks", options.decoder)


def read_sections(options: argparse.Namespace, method: Component, dataset: Component) -> None:
    """Settings of the sections, read by the types of the constructors' parameters.

    Raises:
        InputError: a setting that its component does not have, with the nearest one; a value of another type.
    """
    for section, component in (("method", method), ("dataset", dataset)):
        settings = dict(getattr(options, section))
        name = settings.pop("name")
        own = {key: value for key, value in component.settings.items() if key not in (*OPTIONS, "part")}
        settings = read_settings(f"{section} {name}", own, settings)
        setattr(options, section, {"name": name, **settings})
    options.losses = {name: _read_loss(name, settings) for name, settings in options.losses.items()}
    options.depth_network = _read_depth_network(options.depth_network, method)
    for section, wrapper in WRAPPERS.items():
        known = {
            key: value for key, value in find_class("datasets", wrapper).settings.items() if key != "dataset"
        }
        setattr(options, section, read_settings(section, known, getattr(options, section)))
    options.augment = read_settings("augment", find_class(*AUGMENT).settings, options.augment)
    options.views = read_settings("views", find_class(*VIEWS).settings, options.views)
    options.companion = _read_companion(options.companion)


def _read_depth_network(section: dict[str, Any], method: Component) -> dict[str, Any]:
    """A whole depth network and its settings; empty for an encoder with a decoder."""
    if not section:
        return {}
    if "depth_network" not in method.settings:
        raise InputError(f"{method.name} has a depth network of its own; leave out --depth_network")
    name = section.get("name")
    if not name:
        raise InputError("the section depth_network has no name; use --depth_network NAME, such as packnet")
    settings = {key: value for key, value in section.items() if key != "name"}
    known = find_component("networks", name).settings
    return {"name": name, **read_settings(f"depth_network {name}", known, settings)}


def _read_loss(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a loss term; `weight` and `from_epoch` belong to every term."""
    known = find_component("losses", name).settings
    own = {"weight": Setting("float", 1.0), "from_epoch": Setting("int", 0)}
    found = read_settings(f"loss {name}", {**known, **own}, settings)
    weight = found.get("weight", 1.0)
    if weight is None or not 0 <= weight < math.inf:
        raise InputError(f"loss {name}: weight must be at least 0, got {weight}")
    return found


def _read_companion(section: dict[str, Any]) -> dict[str, Any]:
    """The section, with settings of the companion's dataset read by type and the others as YAML."""
    name = section.get("name")
    known = find_component("datasets", name).settings if name else {}
    own = {key: value for key, value in section.items() if key in known}
    return {**plain(section), **read_settings(f"companion {name}", known, own)}


def check_constructors(options: argparse.Namespace) -> None:
    """Build views, augmentation and loss terms and look up the encoders, which check their own settings.

    Raises:
        InputError: a setting that the component refuses.
    """
    import layers

    layers.disparity_to_inverse_depth(0.0, options.min_depth, options.max_depth)
    find_class(*VIEWS).load()(**options.views)
    find_class(*AUGMENT).load()(**options.augment)
    for name, settings in options.losses.items():
        own = {key: value for key, value in settings.items() if key not in ("weight", "from_epoch")}
        find_component("losses", name).load()(**own)
    if options.num_layers and not options.encoder:
        _check_encoder(f"resnet{options.num_layers}")
    for name in (options.encoder, options.pose_encoder):
        if name:
            _check_encoder(name)


def _check_encoder(name: str) -> None:
    """Refuse an encoder that does not exist, in the words of `networks.build_encoder`."""
    from networks import NETWORKS, RESNETS, build_encoder

    if name in RESNETS or name in components("networks") or re.fullmatch(r"hrnet\d+", name):
        return
    if name.removeprefix("timm/") not in NETWORKS.get("timm").models():
        build_encoder(name)
