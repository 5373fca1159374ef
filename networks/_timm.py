"""timm's models for the encoders of this folder: which exist, what is known of them, with which weights."""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints import located, plain_weights
from utils import InputError


def models() -> list[str]:
    """Names of all timm models, with and without the tag of their weights."""
    import timm

    return [*timm.list_models(), *timm.list_pretrained()]


def check_model(model: str) -> None:
    """Refuse an unknown model, with the nearest names; a list of all would be too long.

    Raises:
        InputError: timm has no such model.
    """
    if model in models():
        return
    near = difflib.get_close_matches(model, models(), n=3)
    guess = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ";"
    raise InputError(f"there is no timm model '{model}'{guess} (all: timm.list_models())")


@functools.lru_cache(maxsize=256)
def is_plain(model: str) -> bool:
    """True for a transformer whose blocks all have the same resolution, such as ViT and DINOv2."""
    import timm

    try:
        with torch.device("meta"):  # without memory and random numbers
            found = timm.create_model(model, features_only=True)
    except (RuntimeError, NotImplementedError, AttributeError, AssertionError, TypeError, ValueError):
        return False
    strides = found.feature_info.reduction()
    return len(strides) > 1 and len(set(strides)) == 1


def facts(model: str) -> Any:
    """timm's record of a model: mean, std, location of its weights."""
    import timm

    return timm.get_pretrained_cfg(model)


def add_normalisation(encoder: nn.Module, model: str, num_images: int) -> None:
    """Give an encoder the buffers `mean` and `std` of a model, (1, 3 num_images, 1, 1), not saved."""
    known = facts(model)
    for name, values in (("mean", known.mean), ("std", known.std)):
        values = torch.tensor(values).repeat(num_images).view(1, -1, 1, 1)
        encoder.register_buffer(name, values, persistent=False)


def create(
    model: str, num_images: int, pretrained: bool, weights: str | None = None, **settings: Any
) -> nn.Module:
    """A timm model.

    Args:
        model: a name of `models`.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from weights; for n images the first layer is repeated and divided by n.
        weights: a file or `hf://OWNER/NAME` with weights in timm's format, instead of timm's own.
        settings: further ones of `timm.create_model`.

    Raises:
        InputError: fewer than one image; weights that do not exist or do not fit; the model refuses the
            settings.
    """
    import timm

    if num_images < 1:
        raise InputError(f"num_images must be at least 1, got {num_images}")
    build = functools.partial(timm.create_model, model, in_chans=3 * num_images, **settings)
    if pretrained and weights:
        return _with_weights(build, model, weights)
    known = facts(model)
    if pretrained and not known.has_weights:
        raise InputError(f"timm has no weights for '{model}'; start with --weights_init scratch")
    try:
        return build(pretrained=pretrained)
    except OSError as error:
        raise InputError(
            f"no weights for timm model '{model}': {_cached(known)} is missing and could not be fetched "
            f"({error}); copy it from a machine that has it, or start with --weights_init scratch"
        ) from error


def _with_weights(build: Any, model: str, weights: str) -> nn.Module:
    """A model with the weights of a file, which timm's own filters bring to its keys and sizes.

    timm leaves out entries that are missing. A twin from the same random numbers shows which ones these are.
    """
    path = located(weights)
    state = plain_weights(path)
    if any(key.startswith(("neck.", "depth.")) for key in state):
        raise InputError(
            f"{weights} holds a whole depth network; start from it with --load_weights_folder {weights} "
            "--models_to_load depth"
        )
    with torch.random.fork_rng(devices=[]):
        twin = build(pretrained=False)
    try:
        found = build(pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{weights} does not fit the timm model '{model}' ({reason})") from None
    drawn = dict(twin.named_parameters())
    # Only matrices: a bias of 0 may well be a trained one.
    missing = [k for k, p in found.named_parameters() if p.ndim > 1 and _same(p, drawn[k])]
    if missing:
        raise InputError(
            f"{weights} does not fit the timm model '{model}': it lacks {len(missing)} of its weights, such "
            f"as {missing[0]}"
        )
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(one, other)) and bool(one.any())


def _cached(known: Any) -> Path:
    """The path in timm's cache, where it looks for the weights before it downloads them."""
    from huggingface_hub import constants

    if known.hf_hub_id:
        return Path(constants.HF_HUB_CACHE) / f"models--{known.hf_hub_id.replace('/', '--')}"
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name
