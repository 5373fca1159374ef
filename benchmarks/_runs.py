"""The runs of a table: worlds rendered once, runs trained once, by the project's own commands."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.tables._spec import Table, Trained, Value, with_folders
from benchmarks.tables._worlds import WORLDS
from checkpoints import load_checkpoint
from utils import PROJECT, InputError, atomic_path

FINISHED = "finished.json"  # in a run folder that is complete


def call(*words: object) -> float:
    """Run one of the project's commands.

    Returns:
        its largest resident memory, MiB.

    Raises:
        InputError: it failed.
    """
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=PROJECT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is collected already
    if process.returncode:
        raise InputError(f"the table stopped, since {words[0]} ended with an error")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def flags(options: Mapping[str, Value | Path]) -> list[str]:
    """Options as words of a command line; several values are separated by blanks."""
    words = []
    for name, value in options.items():
        several = name in ("scales", "frame_ids", "models_to_load")
        values = [] if value is None else str(value).split() if several else [str(value)]
        words += [f"--{name}", *values]
    return words


def render(name: str, out: Path, recordings: Path) -> Path:
    """The folder of a world, rendered unless it is complete, or of a recording.

    Raises:
        InputError: a recording is not in `recordings`.
    """
    if recording := WORLDS[name].flags.get("recording"):
        if not (recordings / recording).is_dir():
            raise InputError(f"this table needs the recording {recordings / recording}; see --recordings")
        return recordings / recording
    world, folder = WORLDS[name], out / "worlds" / name
    done = folder.with_suffix(".json")  # next to the folder, where no dataset reads it
    wanted = json.dumps(dict(world.flags))
    if not done.is_file() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        call("tools/make_synthetic.py", *flags({**world.flags, "out": folder, "workers": 1}))
        if world.prepare:
            world.prepare(folder)
        with atomic_path(done) as path:
            path.write_text(wanted)
    return folder


def train(table: Table, row: str, seed: int, worlds: Mapping[str, Path], out: Path) -> Trained:
    """A row's run for one seed. A finished run is not trained again, an interrupted one continues.

    Raises:
        InputError: it failed or was stopped.
    """
    options = with_folders(table.options(row), worlds)
    if start := table.start:
        folder = out / "runs" / start.run_name
        train_run("the common start", folder, with_folders(start.options, worlds), start.seed)
        options["load_weights_folder"] = folder
    folder = out / "runs" / table.run_name(row, seed)
    train_run(row, folder, options, seed)
    return Trained(row, folder, worlds)


def train_run(words: str, folder: Path, options: Mapping[str, Value | Path], seed: int) -> None:
    """Train a run unless it is finished.

    Args:
        words: its name in what is printed.
        folder: run folder.
        options: all options except folders and seed.
        seed: seed of the run.

    Raises:
        InputError: it failed or was stopped.
    """
    done = folder / FINISHED
    if done.is_file():
        return
    print(f"\n{words}, seed {seed}: {folder}", flush=True)
    started = time.monotonic()
    own = {"log_dir": folder.parent, "model_name": folder.name, "seed": seed, "resume": "auto"}
    memory = call("run.py", *flags({**options, **own}))
    check_finished(folder, options["max_steps"])
    record = {"minutes": (time.monotonic() - started) / 60, "memory": memory}
    with atomic_path(done) as path:
        path.write_text(json.dumps(record))


def check_finished(folder: Path, steps: int) -> None:
    """Refuse a run that was stopped, which ends without an error.

    Raises:
        InputError: it has fewer steps.
    """
    step = load_checkpoint(folder, which="last").training["step"]
    if step < steps:
        raise InputError(f"{folder.name} stopped after {step} of {steps} steps; run it again to continue")


def minutes(folder: Path) -> float:
    """Minutes that a run's training took, or its last part if it was interrupted."""
    return json.loads((folder / FINISHED).read_text())["minutes"]


def peak_memory(folder: Path) -> float:
    """Largest resident memory of a run's training, MiB."""
    return json.loads((folder / FINISHED).read_text())["memory"]


def step_seconds(folder: Path, batch_size: int) -> float:
    """Median seconds per step in a run's log."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return statistics.median(batch_size / r["samples_per_second"] for r in records if "loss" in r)
