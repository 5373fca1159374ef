"""Load a checkpoint into a model: all or nothing, with every difference named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from checkpoints._networks import resnet_layers
from checkpoints._record import by_network, first
from utils import InputError, nearest_name


def load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    models: Collection[str] | None = None,
    allow_missing: Collection[str] = (),
    source: str | Path = "the checkpoint",
) -> str:
    """Load weights into a Method, all or nothing: an unexpected or missing key or another shape is an error.

    Args:
        module: its children are the sub-networks.
        weights: `Checkpoint.weights`.
        models: the sub-networks to load (`--models_to_load`); the others keep their values. If None, the
            weights and the model must have the same sub-networks.
        allow_missing: sub-networks that keep their values if the weights lack them, such as the pose
            networks of a model that only predicts depth.
        source: name of the weights in errors.

    Returns:
        One line: the loaded and the ignored sub-networks.

    Raises:
        InputError: the weights do not fit; the differences are listed by sub-network, with the likely
            reason. Nothing was loaded.
    """
    theirs, ours = by_network(weights), by_network(module.state_dict())
    trained = {key.split(".")[0] for key, _ in module.named_parameters()}
    # A child without parameters (a loss with constant buffers) is not a network, so a file need not hold it.
    ours = {name: entries for name, entries in ours.items() if name in trained or name in theirs}
    for name in models or ():
        if name not in {*ours, *theirs, *allow_missing}:
            raise InputError(f"there is no sub-network '{name}' to load{nearest_name(name, ours)}")
    asked = list(ours) if models is None else list(models)
    kept = [name for name in asked if name not in theirs and name in allow_missing]
    asked = [name for name in asked if name not in kept]
    unread = _leave_unread(module, theirs, asked)
    aside = [name for name in theirs if name not in asked]

    common = " ".join(name for name in ours if name in theirs)
    problems = [f"it has no {name}" for name in asked if name not in theirs]
    if models is None and problems and common:
        problems[-1] += f" (--models_to_load {common} goes without)"
    problems += [f"the model has no {name}" for name in asked if name not in ours]
    if models is None and aside:
        advice = f" (--models_to_load {common} leaves it aside)" if common else ""
        problems.append(f"the model has no {', '.join(aside)}{advice}")
    for name in asked:
        if name in theirs and name in ours:
            problems += _differences(name, theirs[name], ours[name])
    if problems:
        raise InputError(f"{source} does not fit the model: {'; '.join(problems)}")

    module.load_state_dict({k: v for name in asked for k, v in theirs[name].items()}, strict=False)
    report = "loaded " + (", ".join(f"{name} ({len(theirs[name])} tensors)" for name in asked) or "nothing")
    report += f"; left aside {', '.join(aside)} (not asked for)" if aside else ""
    report += f"; left aside {', '.join(unread)} (the model has none)" if unread else ""
    return report + (f"; {', '.join(kept)} not in the file and left unchanged" if kept else "")


def load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, states: Mapping[str, dict]) -> str:
    """Load a published optimiser's state, `training["optimizer_by_name"]`.

    `optimizer` keeps its learning rates: those of the published adam.pth would make a fine-tuning run ignore
    `--learning_rate`.

    Returns:
        One line: the number of parameters whose state was loaded.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    found = 0
    for parameter, group in groups.items():
        state = states.get(names.get(parameter, ""))
        if state is None or any(value.shape not in ((), parameter.shape) for value in state.values()):
            continue
        # Adam's step count is on the CPU for weights on any device, except with the fused kernel.
        apart = () if group.get("fused") else ("step",)
        optimizer.state[parameter] = {
            key: value.clone() if key in apart else value.to(parameter, copy=True)
            for key, value in state.items()
        }
        found += 1
    return f"loaded the optimiser state of {found} of {len(groups)} parameters"


def _leave_unread(module: nn.Module, theirs: dict[str, dict[str, Tensor]], asked: Sequence[str]) -> list[str]:
    """Take out of `theirs` what a sub-network can do without, such as heads of further scales; in words."""
    found = []
    for name in asked:
        fit = getattr(getattr(module, name, None), "weights_for", None)
        if fit and name in theirs:
            fitted, left = fit({key.removeprefix(f"{name}."): value for key, value in theirs[name].items()})
            theirs[name] = {f"{name}.{key}": value for key, value in fitted.items()}
            found += [f"{name}'s {left}"] if left else []
    return found


def _differences(name: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    """The differences that keep one sub-network from loading: a list of one sentence, or an empty list."""
    # Older files lack this counter, and nothing reads it.
    missing = [key for key in ours if key not in theirs and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in theirs if key not in ours]
    reshaped = [
        f"{key} {list(theirs[key].shape)}, in the model {list(ours[key].shape)}"
        for key in theirs
        if key in ours and theirs[key].shape != ours[key].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    parts = [f"{len(keys)} {what} ({first(keys)})" for what, keys in found.items() if keys]
    if not parts:
        return []
    file, model = resnet_layers(theirs), resnet_layers(ours)
    if file != model:
        file, model = (f"resnet{layers}" if layers else "another encoder" for layers in (file, model))
        parts.append(f"the file looks like {file}, the model is {model}")
    return [f"{name}: {', '.join(parts)}"]
