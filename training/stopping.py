"""Early stops of a run: a signal, and errors that become sentences after the state is saved.

SIGTERM, Ctrl-C    the step under way is finished and the state is saved
Ctrl-C again       the process ends at once
a full disk, a missing permission, a broken image, a loader process that was killed
                   the state is saved if it can be, then the run stops with a sentence
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

from utils import InputError

REPEAT = 1.0  # seconds; torchrun forwards the signal that a terminal has sent to every process already


class StopRequest:
    """Inside the block, SIGTERM and the first Ctrl-C only set `requested`.

    Args:
        speaks: whether this process says so on standard error.
    """

    def __init__(self, speaks: bool) -> None:
        self.speaks, self.requested = speaks, False
        self._interrupted: float | None = None  # time of the first Ctrl-C
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        handlers = {signal.SIGTERM: self._on_sigterm, signal.SIGINT: self._on_interrupt}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_sigterm(self, *_: Any) -> None:
        self.requested = True

    def _on_interrupt(self, *_: Any) -> None:
        now = time.monotonic()
        if self._interrupted is not None:
            if now - self._interrupted > REPEAT:
                raise KeyboardInterrupt
            return
        self.requested, self._interrupted = True, now
        if self.speaks:  # not print: the signal may arrive in the middle of one
            os.write(2, b"\nstopping after this step, the state will be saved; Ctrl-C again ends at once\n")


def as_sentence(error: InputError | OSError, place: Path) -> InputError:
    """A failed write or read as a sentence that names the file, or `place` if the error names none."""
    if isinstance(error, InputError):
        return error
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "; free some space and resume" if full else ""
    return InputError(f"{error.filename or place} cannot be written: {error.strerror or error}{advice}")


def of_loader(error: RuntimeError) -> InputError | None:
    """The sentence for a loader process that was killed; None for another error."""
    if "DataLoader worker" not in str(error):
        return None
    return InputError(
        f"a loader process ended unexpectedly ({str(error).splitlines()[0]}); memory or /dev/shm may be "
        "full: lower --num_workers or --batch_size"
    )
