"""Small runs that end in seconds: their command line, and ways to start them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from checkpoints import Checkpoint, load_checkpoint
from options import effective, parse
from trainer import Trainer
from utils import PROJECT

HANG = 900.0  # seconds that only a hang takes: on two free cores the slowest process ends within 30


def arguments(data: Path, log_dir: Path, **settings: Any) -> list[str]:
    """The command line of a run called `run` on a tiny dataset; True stands for a bare flag."""
    settings = {
        "data_path": data,
        "log_dir": log_dir,
        "model_name": "run",
        "dataset": "kitti" if (data / "splits").exists() else "folder",
        "height": 64,
        "width": 96,
        "encoder": "timm/test_efficientnet",
        "weights_init": "scratch",
        "pose_model_type": "posecnn",
        "scales": 0,
        "batch_size": 4,
        "num_epochs": 2,
        "num_workers": 0,
        "device": "cpu",
        "log_frequency": 1,
        "precision": "float32",
        **settings,
    }
    if settings["dataset"] == "kitti":
        settings["split"] = data / "splits"
    words = []
    for name, value in settings.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def build(words: list[str]) -> Trainer:
    """The Trainer of a command line."""
    options = parse(words)
    return Trainer(options, effective(options))


def train(words: list[str]) -> Trainer:
    """The Trainer of a command line, after training."""
    trainer = build(words)
    trainer.train()
    return trainer


def last(log_dir: Path) -> Checkpoint:
    """The run's last checkpoint."""
    return load_checkpoint(log_dir / "run", which="last")


def same_gradients(one: Checkpoint, two: Checkpoint) -> None:
    """Two runs with `--optimizer sgd` saw the same gradients within a hundredth, parameter by parameter.

    The first steps of Adam have the size of the learning rate however small the gradient, so the rounding
    of another processor turns some of them round; the momentum of SGD is the sum of the gradients.
    """
    states = [run.training["optimizer"]["state"] for run in (one, two)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[0].items():
        gradient, other = state["momentum_buffer"], states[1][number]["momentum_buffer"]
        assert (other - gradient).abs().max() <= 0.01 * gradient.abs().max(), number
    told = sum(bool(state["momentum_buffer"].any()) for state in states[0].values())
    assert told > len(states[0]) / 2, told  # the rest waits behind weights that begin at zero


def records(log_dir: Path) -> list[dict[str, Any]]:
    """The lines of the run's log.jsonl."""
    return [json.loads(line) for line in (log_dir / "run/log.jsonl").read_text().splitlines()]


def start(*words: str | Path, **popen: Any) -> subprocess.Popen:
    """Start Python on `words` in the project, one thread, its outputs together as text."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **popen,
    )


def finish(process: subprocess.Popen, expected: int = 0, timeout: float = HANG) -> str:
    """Its printed text; fails unless it exits with `expected`."""
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == expected, output
    return output


def save_image(path: Path, image: Tensor) -> None:
    """(3, h, w) uint8 RGB as a file."""
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen | None = None) -> None:
    """Wait until a condition holds; fails at once if the process that is to bring it about has ended."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
