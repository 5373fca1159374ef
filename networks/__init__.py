"""Networks, one file each. `NETWORKS.get(name)` finds one by file name; `build_encoder` builds an encoder.

An encoder takes `num_images` and `pretrained`. It turns (B, 3 num_images, H, W) in [0, 1] into five features
and has their `num_channels` and `strides`. With a context there are six features, the first at the image's
own size. A decoder turns features into {scale: disparity}. A whole depth network (`is_depth_network = True`)
takes `scales` and `pretrained` and turns (B, 3, H, W) into {scale: disparity (B, 1, h, w) in [0, 1]}.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from utils import InputError, Registry, check_settings, nearest_name

NETWORKS = Registry("networks")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def build_encoder(
    name: str,
    num_images: int = 1,
    pretrained: bool = False,
    context: bool = False,
    weights: str | None = None,
) -> torch.nn.Module:
    """The encoder called `name`.

    Args:
        name: `resnet18` to `resnet152`; `hrnet18` and wider ones; an encoder of this folder; otherwise a
            timm model, a ConvNet or a ViT. `timm/<model>` is always timm's, even if this folder has a network
            of that name.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from ImageNet weights.
        context: add a sixth feature, at the image's own size, before the others.
        weights: a file or `hf://OWNER/NAME` with weights in timm's format, which `pretrained` loads instead
            of those of ImageNet; only for timm models.

    Raises:
        InputError: an unknown name, with the nearest one; or the encoder refuses the settings.
    """
    settings = {"num_images": num_images, "pretrained": pretrained}
    own, timm = _own_encoders(), NETWORKS.get("timm")
    if weights:
        ours = name in (*RESNETS, *own) or re.fullmatch(r"hrnet\d+", name)
        if context or ours or name.removeprefix("timm/") not in timm.models():
            raise InputError(f"weights of a file are for timm models, got {name}; try timm/resnet18")
        return _of_timm(name.removeprefix("timm/"), weights=weights, **settings)
    if number := re.fullmatch(r"hrnet(\d+)", name):
        return NETWORKS.get("hrnet")(int(number[1]), **settings, context=context)
    number = re.fullmatch(r"resnet(\d+)", name)
    if number and (name in RESNETS or name not in timm.models()):
        return NETWORKS.get("resnet_context" if context else "resnet")(int(number[1]), **settings)
    if context:
        return NETWORKS.get("context")(name, **settings)
    if name.startswith("timm/"):
        return _of_timm(name.removeprefix("timm/"), **settings)
    if name in own:
        return NETWORKS.get(name)(**settings)
    if getattr(NETWORKS.find(name), "is_depth_network", False):
        raise InputError(f"{name} is a whole depth network; choose it with --depth_network {name}")
    if name in timm.models():
        return _of_timm(name, **settings)
    near = difflib.get_close_matches(name, [*RESNETS, "hrnet18", *own, *timm.models()], n=1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    available = ", ".join([*RESNETS, "hrnet18", *own, "any timm model"])
    raise InputError(f"there is no encoder '{name}'; {guess}(available: {available})")


def _of_timm(model: str, **settings: Any) -> nn.Module:
    """A timm model as an encoder: a plain transformer's tokens are reassembled to a pyramid."""
    from networks._timm import is_plain

    return NETWORKS.get("vit" if is_plain(model) else "timm")(model, **settings)


def build_depth(
    encoder: str,
    decoder: str = "depth_decoder",
    scales: Sequence[int] = (0, 1, 2, 3),
    pretrained: bool = False,
    network: str | Mapping[str, Any] | None = None,
) -> dict[str, nn.Module]:
    """The networks that predict disparity, keyed by their names in checkpoints.

    Args:
        encoder: a name for `build_encoder`.
        decoder: a decoder of networks/.
        scales: scales of the disparities, 0 the input size.
        pretrained: start from ImageNet weights.
        network: a whole depth network instead of encoder and decoder: a name, or a section
            {name: ..., setting: value}. Its class has `is_depth_network = True`.

    Returns:
        {"encoder": ..., "depth": ...}, or {"depth": ...} for a whole network.

    Raises:
        InputError: an unknown name or setting, or a network that does not predict disparity.
    """
    if network:
        return {"depth": _build_whole(network, scales, pretrained)}
    decoder_class = NETWORKS.get(decoder)
    if getattr(decoder_class, "is_depth_network", False):
        raise InputError(f"{decoder} is a whole depth network; choose it with --depth_network {decoder}")
    if not {"num_channels", "scales"} <= set(inspect.signature(decoder_class).parameters):
        raise InputError(
            f"networks/{decoder}.py does not turn features into disparities; --decoder depth_decoder does"
        )
    context = getattr(decoder_class, "joins_context", False)
    if context and 0 not in scales:
        raise InputError(
            f"the {decoder} predicts at the image's own size, scale 0, which is not among {list(scales)}; "
            "add 0 to --scales, or use --decoder depth_decoder"
        )
    features = build_encoder(encoder, pretrained=pretrained, context=context)
    depth = decoder_class(features.num_channels, scales)
    _freeze_unread(features, getattr(depth, "finest_feature", 0))
    return {"encoder": features, "depth": depth}


@contextlib.contextmanager
def planar(network: nn.Module) -> Iterator[None]:
    """A block in which a network computes with tensors of at most four axes, for export; same results.

    Parts with a `planar_form` have two forms: the faster one, for training, and this one.
    """
    parts = [part for part in network.modules() if hasattr(part, "planar_form")]
    for part in parts:
        part.planar = part.planar_form()
    try:
        yield
    finally:
        for part in parts:
            part.planar = None


def build_depth_head(
    decoder: nn.Module, encoder: nn.Module, scales: Sequence[int], num_outputs: int
) -> nn.Module:
    """A further decoder of the same kind on the same features, with `num_outputs` channels per scale."""
    return type(decoder)(encoder.num_channels, scales, num_outputs=num_outputs)


def _build_whole(network: str | Mapping[str, Any], scales: Sequence[int], pretrained: bool) -> nn.Module:
    settings = {"name": network} if isinstance(network, str) else dict(network)
    name = settings.pop("name", None)
    if not name:
        raise InputError("the section 'depth_network' has no name; try depth_network: {name: packnet}")
    cls = NETWORKS.get(name)
    if not getattr(cls, "is_depth_network", False):
        whole = [n for n in NETWORKS.names() if getattr(NETWORKS.get(n), "is_depth_network", False)]
        raise InputError(
            f"networks/{name}.py is not a whole depth network{nearest_name(name, whole)}; an encoder is "
            "chosen with --encoder"
        )
    check_settings(f"depth_network {name}", cls, settings)
    return cls(scales=tuple(scales), pretrained=pretrained, **settings)


def _freeze_unread(encoder: nn.Module, first: int) -> None:
    """Freeze encoder parameters that feed only features before number `first`.

    No decoder reads those features, so distributed training would wait for their gradient. The last
    exchanges of an HRNet are an example.
    """
    if not first:
        return
    encoder.eval()  # the empty image must not change the statistics of the norms
    side = max(64, getattr(encoder, "smallest", 0))
    with torch.enable_grad():
        total = sum(feature.sum() for feature in encoder(torch.zeros(1, 3, side, side))[first:])
    parameters = list(encoder.parameters())
    for parameter, slope in zip(parameters, torch.autograd.grad(total, parameters, allow_unused=True)):
        parameter.requires_grad_(slope is not None)
    encoder.train()


def _own_encoders() -> list[str]:
    """Networks of this folder with the settings `num_images` and `pretrained` and no required argument."""
    found = []
    for name in NETWORKS.names():
        cls = NETWORKS.get(name)
        if getattr(cls, "is_depth_network", False):
            continue
        parameters = inspect.signature(cls).parameters
        required = [p for p in parameters.values() if p.default is p.empty]
        if {"num_images", "pretrained"} <= set(parameters) and not required:
            found.append(name)
    return found
