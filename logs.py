"""What a run says while it trains: a progress bar, log.jsonl, TensorBoard, options.yaml, revision.txt."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pictures import as_picture, sheet
from utils import PROJECT, atomic_path, to_yaml

_SHOWN_SAMPLES = 4  # rows of a TensorBoard sheet
_SMOOTHING = 0.95  # of the numbers beside the progress bar


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
        self._jsonl = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115 closed in __exit__
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step)
        interval = 0.5 if sys.stderr.isatty() else 30
        self._bar = tqdm(
            total=total_steps, initial=step, unit="step", dynamic_ncols=True, mininterval=interval
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
            old = self._smooth.get(name, value)
            self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * value
        hidden = ("grad_norm", "learning_rate", *speed)
        shown = {name: f"{value:.4f}" for name, value in self._smooth.items() if name not in hidden}
        rate, wait = self._smooth["samples_per_second"], self._smooth["data_wait"]
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)
        self._bar.set_postfix({**shown, "samples/s": f"{rate:.1f}", "data": f"{wait:.0%}"}, refresh=False)
        self._bar.update(1)

    def validation(
        self, step: int, epoch: int, metrics: Mapping[str, float], goal: str, better: bool
    ) -> None:
        """The numbers after an epoch; `goal` is the one that `best` follows."""
        if not self.active:
            return
        self._write(
            {"step": step, "epoch": epoch, **{f"val/{name}": value for name, value in metrics.items()}}
        )
        for name, value in metrics.items():
            self._board.add_scalar(f"val/{name}", value, step)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.say(f"epoch {epoch}, step {step}: {shown}" + (f"  (best {goal})" if better else ""))

    def pictures(self, step: int, shown: Mapping[str, Tensor]) -> None:
        """One sheet: a row a sample, a column for each of the method's pictures."""
        if not self.active or not shown:
            return
        names = list(shown)
        rows = [[as_picture(shown[name][n]) for name in names] for n in range(len(shown[names[0]]))]
        board = sheet(rows[:_SHOWN_SAMPLES])
        self._board.add_image(" | ".join(names), board, step, dataformats="HWC")

    def say(self, sentence: str) -> None:
        """A line above the progress bar."""
        if self.active:
            self._bar.write(sentence, file=sys.stderr)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._jsonl.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")


def revision() -> str:
    """The checkout's commit, whether it was changed since, and the versions of Python and torch."""
    try:
        command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "not a git checkout"
    return f"{commit}, python {sys.version.split()[0]}, torch {torch.__version__}"
