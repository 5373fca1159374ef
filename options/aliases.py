"""Flags and config keys of Monodepth2, BDEdepth, SurroundDepth and SC-Depth that mean an option of ours.

`SAME` is another name of the same option. `translate` handles flags that say it in another form. `IGNORED`
flags are accepted and have no effect, because what they choose is found out or does not exist here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from options.table import Option, switch
from options.values import whole
from utils import InputError

SAME = {
    "exp_name": "model_name",
    "pretrained_path": "load_weights_folder",
    "backbone": "encoder",
    "lr_sche_type": "scheduler",
    "decay_step": "decay_epochs",
    "decay_rate": "scheduler_gamma",
    "eta_min": "min_learning_rate",
    "clip_grad": "clip_grad_norm",
    "dataset_dir": "data_path",
    "epoch_size": "steps_per_epoch",
}
IGNORED = ("png", "jpg")  # image formats are found by looking
TRANSLATED = {
    "num_scales": Option("num_scales", "", whole),
    "val_mode": Option("val_mode", "", choices=("depth", "photo")),
    "use_local_crop": switch("use_local_crop", ""),
    "use_patch_reshuffle": switch("use_patch_reshuffle", ""),
}
_WORDS = {("scheduler", "cos"): "cosine"}  # (option, BDEdepth's word) → ours


def word(option: str, value: Any) -> Any:
    """A published word of an option's value as ours."""
    return _WORDS.get((option, value), value) if isinstance(value, str) else value


def translate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options with flags of BDEdepth and SC-Depth in our form: `--num_scales 4` is `--scales 0 1 2 3`.

    Of `--use_local_crop` and `--use_patch_reshuffle`, the view that is not named is off.
    """
    found = dict(values)
    if (count := found.pop("num_scales", None)) is not None:
        if not 1 <= count <= 4:
            raise InputError(f"--num_scales must be 1 to 4, got {count}")
        found["scales"] = list(range(count))
    if (mode := found.pop("val_mode", None)) is not None:
        found["monitor"] = "loss" if mode == "photo" else None
    views = {name: found.pop(f"use_{name}", None) for name in ("local_crop", "patch_reshuffle")}
    if any(chosen is not None for chosen in views.values()):
        found["views"] = {name: bool(chosen) for name, chosen in views.items()}
    return {key: value for key, value in found.items() if key not in IGNORED}


def finish(options: Any) -> None:
    """Published values that depend on another option: `--encoder hrnet --num_layers 18`, `--clip_grad -1`."""
    if options.encoder in ("resnet", "hrnet"):  # BDEdepth's names of its two backbones
        options.encoder += str(options.num_layers or 18)
    if options.clip_grad_norm == -1:
        options.clip_grad_norm = None
    if options.no_cuda:
        options.device = "cpu"
