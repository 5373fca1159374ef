"""Methods, one file each. `METHODS.get(name)` finds a method by the name of its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from checkpoints import load_checkpoint, load_weights
from losses import LOSSES
from methods._base import Method
from methods._cameras import RECORD, learned_cameras
from methods._needs import check_needs
from utils import InputError, Registry

__all__ = ["METHODS", "RECORD", "Method", "build_method", "check_needs", "learned_cameras", "load_method"]

METHODS = Registry("methods")


def build_method(options: Mapping[str, Any]) -> Method:
    """The method `options["method"]`. See `Registry.build`.

    Loss terms that compare augmented views are left out; `views.with_views` builds them.
    """
    losses = {
        name: settings
        for name, settings in (options.get("losses") or {}).items()
        if not getattr(LOSSES.get(name), "compares_views", False)
    }
    return METHODS.build("method", {**options, "losses": losses})


def load_method(
    path: str | Path, device: torch.device | str = "cpu", which: str = "best"
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A method ready to predict, with the options of its training.

    Args:
        path: a run folder, a checkpoint file, released weights, or a published checkpoint.
        device: device of the method.
        which: checkpoint of a run folder: `best` or `last`.

    Returns:
        The method and its options. If the file lacks networks that only training uses, the method lacks them
        as well: without a pose network it refuses to predict poses instead of inventing them. The method's
        `validation_metrics` are those of the checkpoint; `metric_scale.scale_error` reads them. Its
        `training_data` are the records of `datasets.frame_lists.training_list`, None if the file has none.

    Raises:
        InputError: no known checkpoint at `path`, keys that do not fit, or missing options for prediction.
    """
    checkpoint = load_checkpoint(path, which=which)
    if checkpoint.missing:
        raise InputError(checkpoint.missing)
    options = {**checkpoint.options, "weights_init": "scratch"}  # the weights come from the file
    method = build_method(options)
    method.camera = learned_cameras(options.get(RECORD))
    only_for_training = set(method.only_for_training)
    load_weights(method, checkpoint.weights, source=str(path), allow_missing=only_for_training)
    held = {key.partition(".")[0] for key in checkpoint.weights}
    for name in only_for_training - held:
        if hasattr(method, name):
            delattr(method, name)
    training = checkpoint.training or {}
    method.validation_metrics = training.get("metrics") or {}
    method.training_data = training.get("training_data")
    return method.to(device).eval(), checkpoint.options
