"""Reports of a run during training: a progress bar, the sinks, options.yaml and revision.txt."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from files import writing
from images import as_image, image_grid
from sinks import Sink, open_sinks
from utils import PROJECT, to_yaml

_SHOWN_SAMPLES = 4  # rows of an image grid
_SMOOTHING = 0.95  # of the numbers at the progress bar
_LINE_SECONDS = 30.0  # seconds between progress lines if the output is not a terminal


class RunLog:
    """Opens a run folder for writing in the main process; in the other processes it does nothing.

    Args:
        folder: the run folder.
        settings: the effective options, written to options.yaml; `wandb` and `trackio` add sinks.
        total_steps: steps of the whole run, for the remaining time.
        step: the step that the run starts from.
        active: whether this process writes.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], total_steps: int, step: int, active: bool
    ) -> None:
        self.folder, self.active = folder, active
        self._smooth: dict[str, float] = {}
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
                sink.close()

    def step(
        self,
        step: int,
        epoch: int,
        numbers: Mapping[str, float],
        samples: int,
        waited: float,
        worked: float,
    ) -> None:
        """Log training up to `step`.

        Args:
            step: the last training step that the numbers cover.
            epoch: its epoch, counted from 0.
            numbers: loss, terms, gradient norm, learning rate: values of one step or means over several.
            samples: samples over all processes that the numbers cover.
            waited: seconds spent waiting for data.
            worked: seconds spent computing.
        """
        if not self.active:
            return
        seconds = waited + worked
        speed = {"samples_per_second": samples / seconds, "data_wait": waited / seconds}
        for sink in self._sinks:
            sink.scalars(step, {"epoch": epoch, **numbers, **speed})
        for name, value in {**numbers, **speed}.items():
            if math.isfinite(value):
                old = self._smooth.get(name, value)
                self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * value
        self._show(step, epoch)

    def _show(self, step: int, epoch: int) -> None:
        """Update the progress bar; if the output is a file, print a line every _LINE_SECONDS."""
        smooth = {n: value for n, value in self._smooth.items() if n not in ("grad_norm", "learning_rate")}
        rate, wait = smooth.pop("samples_per_second"), smooth.pop("data_wait")
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

    def images(self, step: int, shown: Mapping[str, Tensor]) -> None:
        """Log one image grid: a row per sample, a column per image of the method.

        Args:
            step: training steps so far.
            shown: name to (B, 3, H, W) in [0, 1], or (B, 1, H, W) for a map in colours.
        """
        if not self.active or not shown:
            return
        names = list(shown)
        rows = [[as_image(shown[name][n]) for name in names] for n in range(len(shown[names[0]]))]
        board = {" | ".join(names): image_grid(rows[:_SHOWN_SAMPLES])}
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
    """The checkout's commit, whether it has changes, and the versions of Python and torch."""
    try:
        command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "not a git checkout"
    return f"{commit}, python {sys.version.split()[0]}, torch {torch.__version__}"
