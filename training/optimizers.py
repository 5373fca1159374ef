"""The optimiser of a run, and how a run that continues takes over its state."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from utils import InputError


def build_optimizer(
    groups: list[dict[str, Any]], options: argparse.Namespace, device: torch.device
) -> torch.optim.Optimizer:
    """The named optimiser, else AdamW with a weight decay and Adam without."""
    shared = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    shared["fused"] = device.type == "cuda" or None
    name = options.optimizer or ("adamw" if options.weight_decay else "adam")
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, **shared)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, betas=(options.beta1, options.beta2), **shared)


def resume_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's moments; its settings and its device stay those of this process.

    Raises:
        InputError: the moments belong to another kind of optimiser.
    """
    chosen = [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    groups = state["param_groups"]
    if ("momentum" in groups[0]) != ("momentum" in chosen[0]):
        was, wanted = ("sgd", "adam") if "momentum" in groups[0] else ("adam", "sgd")
        raise InputError(
            f"the run was trained with {was}, whose state is of no use to {wanted}: resume without "
            "--optimizer, or start another run with --load_weights_folder"
        )
    groups = [{**group, **own} for group, own in zip(groups, chosen)]
    optimizer.load_state_dict({**state, "param_groups": groups})
