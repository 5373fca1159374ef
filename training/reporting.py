"""Sentences that a run prints at its start and at its end."""

from __future__ import annotations

from pathlib import Path

from processes import Processes
from schedule import Progress, Schedule
from validation import Best


def greeting(folder: Path, progress: Progress, schedule: Schedule, samples: int, processes: Processes) -> str:
    """Where the run begins, and how much it has to do."""
    several = f", {processes.world} processes" if processes.world > 1 else ""
    begin = f"continues after step {progress.step} of" if progress.step else "has"
    return (
        f"{folder} {begin} {schedule.last_step(progress)} steps: {samples} samples, "
        f"{schedule.steps_per_epoch} steps an epoch, on {processes.device}{several}"
    )


def farewell(folder: Path, progress: Progress, schedule: Schedule, best: Best | None, first: int) -> str:
    """How far the run has come.

    Args:
        folder, progress, schedule: those of the run.
        best: its best validation.
        first: step that this process began at.
    """
    step = progress.step
    if not schedule.finished(progress):
        return f"stopped after step {step}, everything saved; --resume auto continues from there"
    if step == first:
        more = "num_epochs" if progress.epoch >= schedule.num_epochs else "max_steps"
        return f"{folder} has had all its {step} steps; a larger --{more} adds more"
    reached = "" if best is None else f", best {best.metric} {best.value:.4f}"
    return f"trained {step} steps{reached}; the run is in {folder}"


def saved(progress: Progress) -> str:
    """The end of a sentence about what stopped the run, after the state was saved."""
    if not progress.step:
        return ""
    return f"; the state after step {progress.step} is saved, --resume auto continues from there"
