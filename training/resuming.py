"""Where a run starts: from its newest checkpoint, from a named one, or from the weights of another model."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from checkpoints import Checkpoint, RunFolder, load_checkpoint, load_optimizer, load_weights, to_resume
from processes import Processes
from schedule import Progress
from utils import InputError


def checkpoint_to_resume(wanted: str, folder: RunFolder, speaks: bool) -> Checkpoint | None:
    """The checkpoint that `--resume` names; None for a new run.

    Args:
        wanted: `never`, `auto` for the newest checkpoint of the run if there is one, or a path.
        folder: folder of the run.
        speaks: whether this process says that it does not continue from last.pt.

    Raises:
        InputError: it cannot be resumed.
    """
    if wanted == "never":
        return None
    path = folder.to_resume() if wanted == "auto" else Path(wanted)
    if path is None:
        return None
    if wanted == "auto" and path != folder.last and speaks:
        print(f"{folder.last} is missing or older; the run continues from {path}", file=sys.stderr)
    return to_resume(path)


def progress_of(checkpoint: Checkpoint, samples_per_step: int) -> Progress:
    """The progress that a checkpoint records, in steps of another number of samples.

    Args:
        checkpoint: one of ours.
        samples_per_step: samples of a step over all processes of this run.
    """
    state, options = checkpoint.training, checkpoint.options
    batches = state["position"] * options.get("accumulate", 1)
    samples = batches * options["batch_size"] * state["world"]
    return Progress(state["epoch"], state["step"], samples // samples_per_step)


def start_from(
    path: str, models: Collection[str] | None, method: nn.Module, optimizer: torch.optim.Optimizer
) -> str:
    """Fine-tune: weights, and the optimiser's moments if a published folder has them.

    Intrinsics that the other model learned are those of its recordings and stay there.

    Args:
        path: a checkpoint of any known layout.
        models: the sub-networks to load; None for all.
        method: takes the weights.
        optimizer: takes the moments.

    Returns:
        One line that names the loaded parts.
    """
    checkpoint = load_checkpoint(path)
    own = {key: value for key, value in checkpoint.weights.items() if not key.startswith("camera.")}
    report = load_weights(method, own, models=models, source=path, allow_missing=("camera",))
    method.training_data = (checkpoint.training or {}).get("training_data")  # lists, for `training_list`
    states = (checkpoint.training or {}).get("optimizer_by_name") or {}
    states = {key: state for key, state in states.items() if not models or key.split(".")[0] in models}
    if states:
        report += "; " + load_optimizer(optimizer, method, states)
    return f"{path} ({checkpoint.layout}): {report}"


def check_agreement(processes: Processes, progress: Progress, folder: Path, samples: int) -> None:
    """Refuse processes that would continue from different states, or train on different data.

    Args:
        processes: all of them.
        progress: where this process continues.
        folder: folder of the run.
        samples: number of samples that this process sees.

    Raises:
        InputError: names the number of each process, and the folder.
    """
    seen = processes.gather(samples)
    if len(set(seen)) > 1:
        counts = ", ".join(f"process {rank}: {count}" for rank, count in enumerate(seen))
        raise InputError(
            f"the processes do not see the same number of training samples ({counts}); every machine needs "
            "all files of --data_path and --split"
        )
    found = processes.gather((progress.step, progress.epoch))
    if len(set(found)) > 1:
        steps = ", ".join(f"process {rank}: step {step}" for rank, (step, _) in enumerate(found))
        raise InputError(
            f"the processes do not continue from the same step ({steps}); every machine must see the same "
            f"{folder.absolute()}, so put --log_dir on a shared file system"
        )
