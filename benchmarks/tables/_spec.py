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
from dataclasses import dataclass, field
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
# With FAST's learning rate a network from random weights may end in a constant depth. The
# networks have one form on every machine.
STEADY: Mapping[str, Value] = {"learning_rate": "2e-4", "precision": "float32"}
# Faster with AVX512-BF16, and five times slower on a CPU without it.
BFLOAT16: Mapping[str, Value] = {"precision": "bfloat16", "channels_last": None}


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
class Start:
    """Weights that every row of a table starts from instead of weights of ImageNet.

    Attributes:
        own: options of the run that makes them.
        models: sub-networks that the rows load, separated by blanks.
        steps: training steps.
        seed: seed of the run. All rows and seeds of a table start from the same weights.
    """

    own: Mapping[str, Value]
    models: str
    steps: int
    seed: int = 0

    @property
    def options(self) -> dict[str, Value]:
        """All options of the run except folders and seed."""
        return {**FAST, **_length(self.steps, 1), **self.own}

    @property
    def run_name(self) -> str:
        """Name of its run folder."""
        return _run_name("start", [self.options], self.seed)


@dataclass(frozen=True)
class Table:
    """A table of docs/results.md.

    Attributes:
        title: its heading.
        text: sentences above it: data, what differs between the rows.
        common: options of all runs.
        base: options below `common`: FAST, or nothing if `common` names a config that is measured as it is.
        runs: row → its further options.
        evaluate: a finished run → the rows that it fills; one run may fill several.
        columns: key → column.
        claims: sentences that the numbers are expected to confirm.
        steps: training steps of each run.
        epochs: number of epochs that the steps are divided into.
        note: sentences below it about the measured numbers; they are reread when the numbers change.
        also_needs: names of worlds that only the evaluation reads.
        start: weights that all rows start from; None for random weights.
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
    start: Start | None = None
    base: Mapping[str, Value] = field(default_factory=lambda: FAST)

    def options(self, row: str) -> dict[str, Value]:
        """All options of a row's run except folders and seed."""
        loaded = {"models_to_load": self.start.models} if self.start else {}
        return {**self.base, **_length(self.steps, self.epochs), **loaded, **self.common, **self.runs[row]}

    def worlds(self) -> list[str]:
        """Names of the worlds that its runs and its evaluation read."""
        chosen = [self.options(row) for row in self.runs]
        if self.start:
            chosen.append(self.start.options)
        named = {name for options in chosen for name in worlds_in(options)}
        return sorted(named | set(self.also_needs))

    def run_name(self, row: str, seed: int) -> str:
        """Name of a run folder. Equal options give equal names, so that tables share runs."""
        options = [self.options(row)]
        if self.start:
            options.append(self.start.options)
        return _run_name(row, options, seed)

    @property
    def digest(self) -> str:
        """A word that changes with anything that decides the table's numbers, except code."""
        chosen = [self.options(row) for row in self.runs]
        if self.start:
            chosen.append(self.start.options)
        return _digest(chosen, self.worlds())


def _length(steps: int, epochs: int) -> dict[str, Value]:
    """Options for a number of steps, divided into epochs."""
    per_epoch = steps // epochs
    return {"num_epochs": epochs, "steps_per_epoch": per_epoch, "max_steps": per_epoch * epochs}


def _run_name(words: str, options: Sequence[Mapping[str, Value]], seed: int) -> str:
    words = re.sub("[^a-z0-9]+", "_", words.lower()).strip("_")
    worlds = sorted({name for chosen in options for name in worlds_in(chosen)})
    return f"{words}_{_digest(options[0] if len(options) == 1 else options, worlds)}_{seed}"


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
