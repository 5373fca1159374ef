"""What a run says while it trains: a progress bar, log.jsonl, TensorBoard, options.yaml, revision.txt."""

from __future__ import annotations

import contextlib
import json
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

from images import as_image, image_grid
from utils import PROJECT, atomic_path, to_yaml

_SHOWN_SAMPLES = 4  # rows of a TensorBoard image grid
_POINT_WIDTH = 1 / 200  # of a cloud, parts of the largest coordinate
_SMOOTHING = 0.95  # of the numbers beside the progress bar
_LINE_SECONDS = 30.0  # between lines where the output is no terminal


class RunLog:
    """Opens a run folder for writing, on the main process; on the others it does nothing.

    Args:
        folder: of the run.
        settings: the effective options, written to options.yaml.
        total_steps: of the whole run, for the time left.
        step: where the run starts.
        active: whether this process is the one that writes.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], total_steps: int, step: int, active: bool
    ) -> None:
        self.folder, self.active = folder, active
        self._smooth: dict[str, float] = {}
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only one process needs it

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "options.yaml") as path:
            path.write_text(to_yaml(settings))
        with atomic_path(folder / "revision.txt") as path:
            path.write_text(revision() + "\n")
        _drop_later_steps(folder / "log.jsonl", step)
        self._jsonl = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115 closed in __exit__
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        self._total, self._first = total_steps, step
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
            self._board.close()
            self._jsonl.close()

    def step(
        self,
        step: int,
        epoch: int,
        numbers: Mapping[str, float],
        samples: int,
        waited: float,
        worked: float,
    ) -> None:
        """One training step: its terms, samples over all processes, seconds waited for data and worked."""
        if not self.active:
            return
        seconds = waited + worked
        speed = {"samples_per_second": samples / seconds, "data_wait": waited / seconds}
        self._write({"step": step, "epoch": epoch, **numbers, **speed})
        for name, value in {**numbers, **speed}.items():
            self._board.add_scalar(f"train/{name}", value, step)
            if math.isfinite(value):
                old = self._smooth.get(name, value)
                self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * value
        self._show(step, epoch)

    def _show(self, step: int, epoch: int) -> None:
        """The progress bar or, where the output is a file, a line now and then."""
        smooth = {n: value for n, value in self._smooth.items() if n not in ("grad_norm", "learning_rate")}
        rate, wait = smooth.pop("samples_per_second"), smooth.pop("data_wait")
        loss, *terms = (f"{name} {value:.3g}" for name, value in smooth.items())
        # The terms last: a narrow window cuts them first.
        state = ", ".join([loss, f"{rate:.3g} samples/s", f"{wait:.0%} waiting for data", *terms])
        self._bar.set_description_str(f"epoch {epoch + 1}", refresh=False)
        self._bar.set_postfix_str(state, refresh=False)
        self._bar.update(1)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            left = (now - self._started) / (step - self._first) * (self._total - step)
            time_left = tqdm.format_interval(left)
            self.say(f"epoch {epoch + 1}, step {step} of {self._total}, {time_left} left: {state}")

    def validation(
        self, step: int, epochs: float, metrics: Mapping[str, float], best: str | None = None
    ) -> None:
        """The numbers after so many epochs; `best` names the one that was never better before."""
        if not self.active:
            return
        self._write(
            {"step": step, "epoch": epochs, **{f"val/{name}": value for name, value in metrics.items()}}
        )
        for name, value in metrics.items():
            self._board.add_scalar(f"val/{name}", value, step)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(
            f"after epoch {epochs:.3g}, step {step}:  {shown}" + (f"  (best {best} so far)" if best else "")
        )

    def images(self, step: int, shown: Mapping[str, Tensor]) -> None:
        """One image grid: a row a sample, a column for each of the method's images."""
        if not self.active or not shown:
            return
        names = list(shown)
        rows = [[as_image(shown[name][n]) for name in names] for n in range(len(shown[names[0]]))]
        board = image_grid(rows[:_SHOWN_SAMPLES])
        self._board.add_image(" | ".join(names), board, step, dataformats="HWC")

    def clouds(self, step: int, shown: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """The method's coloured points, seen from behind the vehicle at first.

        TensorBoard looks along -z with y up, hence forward, left, up become -z, -x, y. Its points are half a
        centimetre wide, too small for a street: here they are a part of the cloud's reach.
        """
        if not self.active:
            return
        for name, (points, colours) in shown.items():
            forward, left, up = points.T
            turned = torch.from_numpy(np.stack([-left, up, -forward], -1))
            width = _POINT_WIDTH * turned.abs().max().item()
            look = {"material": {"cls": "PointsMaterial", "size": width}}
            self._board.add_mesh(name, turned[None], torch.from_numpy(colours)[None], None, look, step)

    def say(self, sentence: str) -> None:
        """A line above the progress bar."""
        if self.active:
            self._bar.write(sentence, file=sys.stderr)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._jsonl.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")


def _drop_later_steps(path: Path, step: int) -> None:
    """Forget what a run logged beyond the step that it now goes on from."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        with contextlib.suppress(ValueError):  # a process that was killed leaves half a line
            if json.loads(line)["step"] <= step:
                kept.append(line)
    with atomic_path(path) as temporary:
        temporary.write_text("".join(kept))


def revision() -> str:
    """The checkout's commit, whether it was changed since, and the versions of Python and torch."""
    try:
        command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "not a git checkout"
    return f"{commit}, python {sys.version.split()[0]}, torch {torch.__version__}"
