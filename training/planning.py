"""The costs of a run, measured in a few steps: seconds, memory, hours, and the batch that fits.

    memory(n) = fixed + n per_sample,    from the peaks of two batch sizes

On Linux, the peak of a CPU step is the high-water mark of the process, which is reset before it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from structures import Batch

if TYPE_CHECKING:
    from trainer import Trainer

_MARGIN = 0.9  # share of the free memory that a batch may fill
_LOADED = 4  # samples that are loaded to time the loader


@dataclass(frozen=True)
class Plan:
    """Measured costs of a run.

    Attributes:
        batch_size: samples of the measured step; the run's, unless that may not fit.
        seconds: duration of this step.
        peak: bytes of this process in this step; None if the system does not tell.
        fits: the largest batch size expected to fit; None without `peak`.
        loading: seconds in which one process loads a sample.
    """

    batch_size: int
    seconds: float
    peak: int | None
    fits: int | None
    loading: float

    def sentences(self, steps: int, batch_size: int, accumulate: int, workers: int) -> list[str]:
        """The plan in words.

        Args:
            steps: steps of the run.
            batch_size, accumulate: samples of a batch, and batches of a step.
            workers: loader processes.
        """
        scale = batch_size / self.batch_size * accumulate
        computing = self.seconds * scale
        loading = self.loading * batch_size * accumulate / max(1, workers)
        step = max(computing, loading) if workers else computing + loading
        limit = "the loader sets" if workers and loading > computing else "networks and losses set"
        memory = "" if self.peak is None else f", peak memory {self.peak / 2**30:.2f} GiB"
        lines = [
            f"a step of {self.batch_size} samples takes {self.seconds:.3g} s{memory}",
            f"loading takes {self.loading:.3g} s a sample in one process; with --num_workers {workers}, "
            f"{limit} the pace",
            f"{steps} steps take {steps * step / 3600:.2g} hours, without validation",
        ]
        if self.fits is not None:
            verdict = "" if self.fits >= batch_size else f"; --batch_size {batch_size} may not fit"
            lines.append(f"a batch size of up to {self.fits} fits into the memory{verdict}")
        return lines


def measure(trainer: Trainer) -> Plan:
    """Measured costs of a trainer's run. The steps change its networks, so the run must not follow."""
    sample, started = trainer.train_set[0], time.perf_counter()
    for number in range(_LOADED):
        trainer.train_set[number % len(trainer.train_set)]
    loading = (time.perf_counter() - started) / _LOADED
    trainer.model.train()
    wanted = trainer.options.batch_size
    small = max(1, wanted // 4)
    _, low = _step(trainer, sample, small)
    free = _memory(trainer.device)
    large = max(wanted, small + 1)
    if low is not None and free is not None and low * large / small > free:
        large = small + 1
    _step(trainer, sample, large)  # warms up
    seconds, high = _step(trainer, sample, large)
    fits = None
    if low is not None and high is not None and free is not None:
        per_sample = max(1, high - low) / (large - small)
        fits = max(0, int((_MARGIN * free - (high - large * per_sample)) / per_sample))
    return Plan(large, seconds, high, fits, loading)


def _step(trainer: Trainer, sample: Batch, count: int) -> tuple[float, int | None]:
    """Seconds and peak bytes of a step on `count` copies of a sample."""
    batch, cuda = Batch.cat([sample] * count), trainer.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        _reset_high_water()
    started = time.perf_counter()
    trainer.step([batch])
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return seconds, torch.cuda.max_memory_reserved() if cuda else _high_water()


def _reset_high_water() -> None:
    with contextlib.suppress(OSError):  # then the peak is that of the whole process so far
        Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int | None:
    """Largest resident memory of this process since the last reset, bytes; None if not on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return sizes[0] if sizes else None


def _memory(device: torch.device) -> int | None:
    """Memory that this process may have, bytes: free and its own; None if the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved()
    table, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if not table.exists():
        return None
    lines = table.read_text().splitlines()
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = [value + pages * 4096 for value in free]
    if limit.exists() and limit.read_text().strip().isdigit():  # of a container
        found.append(int(limit.read_text()))
    return min(found, default=None)
