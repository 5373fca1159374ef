"""Networks, one file each. `NETWORKS.get(name)` finds one by its file's name, `build_encoder` any encoder.

An encoder takes `num_images` and `pretrained`, has `num_channels` and `strides` of its five features, and
turns (B, 3 num_images, H, W) in [0, 1] into them. With a context there are six, the first of the image's
own size.
"""

from __future__ import annotations

import difflib
import inspect
import re

import torch

from utils import InputError, Registry

NETWORKS = Registry("networks")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def build_encoder(
    name: str, num_images: int = 1, pretrained: bool = False, context: bool = False
) -> torch.nn.Module:
    """The encoder called `name`.

    Args:
        name: `resnet18` to `resnet152`; `hrnet18` and wider ones; an encoder of this folder; otherwise a
            timm model. `timm/<model>` is timm's even where this folder has one of that name.
        num_images: RGB images stacked on the channel axis.
        pretrained: begin with ImageNet weights.
        context: add a sixth feature, of the image's own size, before the others.

    Raises:
        InputError: there is none of that name, with the nearest; or the encoder refuses the settings.
    """
    settings = {"num_images": num_images, "pretrained": pretrained}
    own, timm = _own_encoders(), NETWORKS.get("timm")
    if number := re.fullmatch(r"hrnet(\d+)", name):
        return NETWORKS.get("hrnet")(int(number[1]), **settings, context=context)
    number = re.fullmatch(r"resnet(\d+)", name)
    if number and (name in RESNETS or name not in timm.models()):
        return NETWORKS.get("resnet_context" if context else "resnet")(int(number[1]), **settings)
    if context:
        return NETWORKS.get("context")(name, **settings)
    if name.startswith("timm/"):
        return timm(name.removeprefix("timm/"), **settings)
    if name in own:
        return NETWORKS.get(name)(**settings)
    if name in timm.models():
        return timm(name, **settings)
    near = difflib.get_close_matches(name, [*RESNETS, "hrnet18", *own, *timm.models()], n=1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    available = ", ".join([*RESNETS, "hrnet18", *own, "any timm model"])
    raise InputError(f"there is no encoder '{name}'; {guess}(available: {available})")


def _own_encoders() -> list[str]:
    """Networks of this folder that can be built from `num_images` and `pretrained` alone."""
    found = []
    for name in NETWORKS.names():
        parameters = inspect.signature(NETWORKS.get(name)).parameters
        required = [p for p in parameters.values() if p.default is p.empty]
        if {"num_images", "pretrained"} <= set(parameters) and not required:
            found.append(name)
    return found
