"""A table of results as a small declaration: runs, evaluation, columns, claims.

    run          the options of run.py that one row adds; `@NAME` in a value is the folder of a world
    evaluate     a finished run → row → key of a column → number
    claim        a sentence, and its test on the means over the seeds

`benchmarks/results.py` trains and evaluates what stands here; `_worlds.py` has the worlds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables._worlds import WORLDS

Value = str | int | float | None  # of an option; None for a flag without a value
Rows = Mapping[str, Mapping[str, float]]  # row → key of a column → number
# Settings that learn in minutes on one core; docs/performance.md says why.
FAST: Mapping[str, Value] = {
    "weights_init": "scratch",
    "encoder": "resnet10t",
    "pose_encoder": "resnet10t",
    "min_depth": 0.02,
    "max_depth": 20,
    "learning_rate": "5e-4",
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "scheduler": "cosine",
    "batch_size": 4,
    "save_frequency": 1000,
    "keep_checkpoints": 1,
    "num_val": 1,
    "num_workers": 0,
    "log_frequency": 50,
    "device": "cpu",
}


@dataclass(frozen=True)
class Column:
    """A number of each row.

    Attributes:
        title: head of the column.
        digits: digits after the point.
        banded: False for numbers that depend on the machine, such as seconds.
    """

    title: str
    digits: int = 3
    banded: bool = True


@dataclass(frozen=True)
class Claim:
    """A sentence about the means over the seeds, and its test."""

    text: str
    holds: Callable[[Rows], bool]


@dataclass(frozen=True)
class Trained:
    """A finished run: its row, its folder, and the folders of the worlds by name."""

    row: str
    folder: Path
    worlds: Mapping[str, Path]


@dataclass(frozen=True)
class Table:
    """A table of docs/results.md.

    Attributes:
        title: its heading.
        text: sentences above it: data, what differs between the rows.
        common: options of all runs.
        runs: row → its further options.
        evaluate: a finished run → the rows that it fills; one run may fill several.
        columns: key → column.
        claims: sentences that the numbers are expected to confirm.
        steps: training steps of each run.
        epochs: number of epochs that the steps are divided into.
        note: sentences below it about the measured numbers; they are reread when the numbers change.
        also_needs: names of worlds that only the evaluation reads.
    """

    title: str
    text: str
    common: Mapping[str, Value]
    runs: Mapping[str, Mapping[str, Value]]
    evaluate: Callable[[Trained], Rows]
    columns: Mapping[str, Column]
    claims: Sequence[Claim]
    steps: int
    epochs: int = 6
    note: str = ""
    also_needs: Sequence[str] = ()

    def options(self, row: str) -> dict[str, Value]:
        """All options of a row's run except folders and seed."""
        per_epoch = self.steps // self.epochs
        steps = {
            "num_epochs": self.epochs,
            "steps_per_epoch": per_epoch,
            "max_steps": per_epoch * self.epochs,
        }
        return {**FAST, **steps, **self.common, **self.runs[row]}

    def worlds(self) -> list[str]:
        """Names of the worlds that its runs and its evaluation read."""
        named = {name for row in self.runs for name in worlds_in(self.options(row))}
        return sorted(named | set(self.also_needs))

    def run_name(self, row: str, seed: int) -> str:
        """Name of a run folder. Equal options give equal names, so that tables share runs."""
        options = self.options(row)
        words = re.sub("[^a-z0-9]+", "_", row.lower()).strip("_")
        return f"{words}_{_digest(options, worlds_in(options))}_{seed}"

    @property
    def digest(self) -> str:
        """A word that changes with anything that decides the table's numbers, except code."""
        return _digest([self.options(row) for row in self.runs], self.worlds())


def _digest(options: object, worlds: Sequence[str]) -> str:
    flags = {name: dict(WORLDS[name].flags) for name in worlds}
    return hashlib.sha256(json.dumps([options, flags], sort_keys=True).encode()).hexdigest()[:8]


def worlds_in(options: Mapping[str, Value]) -> list[str]:
    """Names of the worlds in the values of options."""
    return sorted({name for value in options.values() for name in re.findall(r"@(\w+)", str(value))})


def with_folders(options: Mapping[str, Value], worlds: Mapping[str, Path]) -> dict[str, Value]:
    """The options with `@NAME` replaced by the folder of that world."""

    def replaced(value: Value) -> Value:
        return re.sub(r"@(\w+)", lambda m: str(worlds[m[1]]), value) if isinstance(value, str) else value

    return {name: replaced(value) for name, value in options.items()}
