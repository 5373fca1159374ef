"""A run folder: who may write it, which of its checkpoints is the last and the best, what a kill left behind.

    lock.json                  its writer, while there is one
    options.yaml, log.jsonl, tensorboard/, ...
    checkpoints/epoch_0007.pt  complete epochs
    checkpoints/last.pt        the newest of them, or the state within an epoch
    checkpoints/best.pt        the best so far

A process can be killed between any two writes, so the links do not decide: each checkpoint records its
own metrics and the best so far, and is the best if both agree.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checkpoints._lock import RunLock
from checkpoints._own import (
    best_file,
    epoch_files,
    epoch_path,
    last_file,
    peek,
    prune_checkpoints,
    records_best,
    save_checkpoint,
    update_link,
)
from checkpoints._record import Checkpoint
from files import read_records
from utils import InputError, can_write


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder, which may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoints = path, path / "checkpoints"
        self.last, self.best = self.checkpoints / "last.pt", self.checkpoints / "best.pt"
        self.lock = RunLock(path / "lock.json")
        self._seen = self._state()

    def check(self) -> None:
        """Refuse a folder that cannot be written or that another process writes.

        Raises:
            InputError: says which part of it.
        """
        for folder in (self.path, self.checkpoints, self.path / "tensorboard"):
            if not can_write(folder):
                raise InputError(f"the run folder {folder} cannot be written; give another with --log_dir")
        log = self.path / "log.jsonl"
        if log.exists() and not os.access(log, os.R_OK | os.W_OK):
            raise InputError(f"{log} cannot be written: no permission; give another with --log_dir")
        self.lock.check()

    def to_resume(self) -> Path | None:
        """The newest checkpoint; None if nothing was saved yet.

        Raises:
            InputError: only best.pt is left, which a new run would overwrite.
        """
        newest = last_file(self.checkpoints)
        if newest is None and self.best.exists():
            raise InputError(
                f"{self.checkpoints} has a best.pt, but neither last.pt nor a file of an epoch; --resume "
                f"{self.best} continues from it, --model_name starts another run"
            )
        return newest

    def has_best(self) -> bool:
        """True if the best checkpoint so far is still there."""
        return self.best.exists() or self._best_epoch() is not None

    def claim(self) -> None:
        """Become the one writer, then mend the links and remove what a killed process left.

        Raises:
            InputError: another process writes here, or did since this one read the folder.
        """
        self.lock.take()
        if self._state() != self._seen:
            self.lock.release()
            raise InputError(
                f"another process has written {self.path} meanwhile; start again with --resume auto"
            )
        self._remove_leftovers()
        if newest := last_file(self.checkpoints):
            if best := best_file(self.checkpoints) if self.best.exists() else self._best_epoch():
                _link(self.best, best)
            _link(self.last, newest)

    def release(self) -> None:
        """Let another process write the folder."""
        self.lock.release()

    def save(
        self,
        checkpoint: Checkpoint,
        better: bool,
        keep: int,
        keep_best: int = 0,
        cost: Callable[[Mapping[str, Any]], float | None] = lambda training: None,
    ) -> None:
        """Save the state of a run: at the end of an epoch as the epoch's file, within an epoch as last.pt.

        Args:
            checkpoint: its training says epoch and position.
            better: whether it is the best so far.
            keep: number of the newest epoch files that stay; 0 keeps all.
            keep_best, cost: those of `prune_checkpoints`.
        """
        state = checkpoint.training or {}
        path = self.last if state["position"] else epoch_path(self.checkpoints, state["epoch"])
        save_checkpoint(path, checkpoint)
        if better:
            update_link(self.best, path)
        if path != self.last:
            update_link(self.last, path)
        if keep:
            prune_checkpoints(self.checkpoints, keep, keep_best, cost)

    def has_validation(self, step: int) -> bool:
        """Whether log.jsonl holds a validation after this step."""
        records = (record for _, record in read_records(self.path / "log.jsonl"))
        of_step = (record for record in records if record.get("step") == step)
        return any(key.startswith("val/") for record in of_step for key in record)

    def _best_epoch(self) -> Path | None:
        """The file that the newest record calls the best, for a folder that was copied without best.pt."""
        newest = last_file(self.checkpoints)
        best = peek(newest).get("best") if newest else None
        files = [*epoch_files(self.checkpoints), *([self.last] if self.last.exists() else [])] if best else []
        return next((path for path in reversed(files) if records_best(peek(path), best)), None)

    def _remove_leftovers(self) -> None:
        """Remove half-written files and links of a process that was killed."""
        for folder in (self.path, self.checkpoints):
            for path in (*folder.glob(".*.part"), *folder.glob("lock.json.*")):
                path.unlink(missing_ok=True)
        for path in self.checkpoints.glob(".*.pt.*"):
            shutil.rmtree(path, ignore_errors=True)

    def _state(self) -> Any:
        """A value that changes when another process saves."""
        newest = last_file(self.checkpoints)
        return newest and (newest.name, newest.stat().st_mtime_ns, newest.stat().st_size)


def _link(link: Path, target: Path) -> None:
    if link != target and not (link.exists() and link.samefile(target)):
        update_link(link, target)
