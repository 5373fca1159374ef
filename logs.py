"""Reports of a run during training: a progress bar, the sinks, options.yaml and revision.txt."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from files import writing
from images import as_image, image_grid
from sinks import REPORT, Sink, open_sinks
from utils import PACKAGE, PROJECT, to_yaml

_SHOWN_SAMPLES = 4  # rows of an image grid
_SMOOTHING = 0.95  # of the numbers at the progress bar
_LINE_SECONDS = 30.0  # seconds between progress lines if the output is not a terminal


@dataclass
class _Window:
    """Sums over the steps since the sinks got the last means."""

    steps: int = 0
    step: int = 0
    epoch: int = 0
    samples: int = 0
    waited: float = 0.0
    worked: float = 0.0
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: int, epoch: int, numbers: Mapping[str, float]) -> None:
        self.steps, self.step, self.epoch = self.steps + 1, step, epoch
        for name, value in numbers.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """The mean of each number over its finite values, NaN if it has none, and the speed."""
        finite = {name: list(filter(math.isfinite, values)) for name, values in self.values.items()}
        means = {name: sum(v) / len(v) if v else math.nan for name, v in finite.items()}
        return {**means, **self.speed()}

    def speed(self) -> dict[str, float]:
        """Samples per second and the share of waiting; empty before any time is counted."""
        seconds = self.waited + self.worked
        if not seconds:
            return {}
        return {"samples_per_second": self.samples / seconds, "data_wait": self.waited / seconds}


class RunLog:
    """Opens a run folder for writing in the main process; in the other processes it does nothing.

    Args:
        folder: the run folder.
        settings: the effective options, written to options.yaml; `wandb` and `trackio` add sinks, and
            `log_frequency` is the number of steps between scalars.
        total_steps: steps of the whole run, for the remaining time.
        step: the step that the run starts from.
        active: whether this process writes.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], total_steps: int, step: int, active: bool
    ) -> None:
        self.folder, self.active = folder, active
        self._smooth: dict[str, float] = {}
        self._window, self._frequency = _Window(), settings.get("log_frequency", 1)
        self._sinks: list[Sink] = []
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / "options.yaml") as path:
            path.write_text(to_yaml(settings))
        with writing(folder / "revision.txt") as path:
            path.write_text(revision() + "\n")
        self._sinks = open_sinks(folder, settings, step)
        self._total, self._first, self._shown = total_steps, step, step
        self._started = self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            mininterval=0.5,
            bar_format="{desc} {percentage:3.0f}% {bar:12} {n_fmt}/{total_fmt}, {remaining} left{postfix}",
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.active:
            self._bar.close()
            for sink in self._sinks:
                if (page := self.folder / REPORT).is_file():
                    sink.report(page)
                sink.close()

    def time(self, samples: int, waited: float, worked: float) -> None:
        """Count the time of a step.

        Args:
            samples: samples over all processes.
            waited: seconds spent waiting for data.
            worked: seconds spent computing.
        """
        self._window.samples += samples
        self._window.waited += waited
        self._window.worked += worked

    def step(self, step: int, epoch: int, numbers: Mapping[str, float]) -> None:
        """Log a step. Every `log_frequency` steps, the sinks get the means over these steps.

        Args:
            step: the training step, counted from 1.
            epoch: its epoch, counted from 0.
            numbers: loss, terms, gradient norm, learning rate.
        """
        if not self.active:
            return
        self._window.add(step, epoch, numbers)
        for name, value in {**numbers, **self._window.speed()}.items():
            if math.isfinite(value):
                old = self._smooth.get(name, value)
                self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * value
        self._show(step, epoch)
        if step % self._frequency == 0:
            self.flush()

    def flush(self) -> None:
        """Give the sinks the means over the steps since they got the last ones, if there are any."""
        if self.active and self._window.steps:
            for sink in self._sinks:
                sink.scalars(self._window.step, {"epoch": self._window.epoch, **self._window.means()})
        self._window = _Window()

    def _show(self, step: int, epoch: int) -> None:
        """Update the progress bar; if the output is a file, print a line every _LINE_SECONDS."""
        smooth = {n: value for n, value in self._smooth.items() if n not in ("grad_norm", "learning_rate")}
        rate, wait = smooth.pop("samples_per_second", math.nan), smooth.pop("data_wait", math.nan)
        loss, *terms = (f"{name} {value:.3g}" for name, value in smooth.items())
        # The terms come last: a narrow window cuts them first.
        state = ", ".join([loss, f"{rate:.3g} samples/s", f"{wait:.0%} waiting for data", *terms])
        self._bar.set_description_str(f"epoch {epoch + 1}", refresh=False)
        self._bar.set_postfix_str(state, refresh=False)
        self._bar.update(step - self._shown)
        self._shown = step
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            left = (now - self._started) / (step - self._first) * (self._total - step)
            time_left = tqdm.format_interval(left)
            self.say(f"epoch {epoch + 1}, step {step} of {self._total}, {time_left} left: {state}")

    def validation(
        self, step: int, epochs: float, metrics: Mapping[str, float], best: str | None = None
    ) -> None:
        """Log metrics on the validation part.

        Args:
            step: training steps so far.
            epochs: epochs so far, with the fraction of the one under way.
            metrics: name to value.
            best: name of the metric that selects the best checkpoint, if this is its best value so far.
        """
        if not self.active:
            return
        for sink in self._sinks:
            sink.scalars(step, {"epoch": epochs, **{f"val/{name}": v for name, v in metrics.items()}})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(
            f"after epoch {epochs:.3g}, step {step}:  {shown}" + (f"  (best {best} so far)" if best else "")
        )

    def images(self, step: int, shown: Mapping[str, Tensor], prefix: str = "") -> None:
        """Log one image grid: a row per sample, a column per image of the method.

        Args:
            step: training steps so far.
            shown: name to (B, 3, H, W) in [0, 1], or (B, 1, H, W) for a map in colours.
            prefix: part in front of the grid's name, such as `val/`.
        """
        if not self.active or not shown:
            return
        names = list(shown)
        rows = [[as_image(shown[name][n]) for name in names] for n in range(len(shown[names[0]]))]
        board = {prefix + " | ".join(names): image_grid(rows[:_SHOWN_SAMPLES])}
        for sink in self._sinks:
            sink.images(step, board)

    def clouds(self, step: int, shown: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Log the method's coloured points: (P, 3) metres, x forward, y left, z up, and (P, 3) uint8 RGB."""
        if self.active and shown:
            for sink in self._sinks:
                sink.clouds(step, shown)

    def say(self, sentence: str) -> None:
        """Print a line above the progress bar."""
        if self.active:
            self._bar.write(sentence, file=sys.stderr)


def revision() -> str:
    """The checkout's commit and whether it has changes, or the installed version; and of Python and torch."""
    code = f"parallax {metadata.version('parallax-depth')}" if PACKAGE else _commit()
    return f"{code}, python {sys.version.split()[0]}, torch {torch.__version__}"


def _commit() -> str:
    try:
        command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
