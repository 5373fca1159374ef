"""`--checkpoint_mirror`: a thread that keeps the mirror of a run, while the training takes no notice.

at the start   up to CONTACT seconds for the first contact: what a person must fix stops the run here
then           the thread looks for new checkpoints every LOOK seconds, and for other files every LOGS
no network     said once; the thread tries again, and what was missed is sent when the network is back
at the end     the rest is sent, within a stated time; the next `--resume auto` sends what is left
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from tqdm import tqdm

from storage import Storage, Unreachable
from training.mirror import Mirror
from utils import InputError

CONTACT, LOOK, LOGS = 10.0, 20.0, 300.0  # seconds
LAST_WAIT = 600.0  # seconds that the end of a run waits for the rest
STOP_WAIT = 15.0  # the same of a run that is stopped: a cluster kills it soon after SIGTERM


def say(sentence: str) -> None:
    """Print a line above a progress bar, from any thread."""
    tqdm.write(sentence, file=sys.stderr)


class Mirroring:
    """Keeps the mirror of a run folder until `close`.

    Args:
        folder: the run folder, which exists.
        url: address of the folder of mirrors; this run's has the run's name.
        name: name of the run.

    Raises:
        InputError: the mirror cannot work: no rights, no bucket, another run's mirror.
    """

    def __init__(self, folder: Path, url: str, name: str) -> None:
        storage = Storage(f"{url.rstrip('/')}/{name}")
        if storage.local and storage.local.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"--checkpoint_mirror {url} would be inside of {folder}; give another folder")
        self.url, self.mirror = storage.url, Mirror(folder, storage)
        self._refused: InputError | None = None
        self._trouble: str | None = None
        self._met, self._wake = threading.Event(), threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()
        if not self._met.wait(CONTACT):
            say(f"{self.url} has not answered within {CONTACT:.0f} s; the run goes on, its files follow")
        elif self._refused:
            raise self._refused

    def close(self, seconds: float = LAST_WAIT) -> None:
        """Send the rest for at most `seconds`, and say what was not sent."""
        self._closing = True
        self._wake.set()
        if left := self.mirror.missing():
            say(f"sending {_files(left)} to {self.url}, for at most {seconds:.0f} s")
        self._thread.join(seconds)
        if left := self.mirror.missing():
            reason = "not enough time" if self._thread.is_alive() else self._trouble
            say(
                f"{_files(left)} not yet at {self.url} ({reason}); --resume auto sends them, and so does "
                f"python tools/mirror.py send {self.mirror.folder} {self.url}"
            )

    def _work(self) -> None:
        met, logs_due, pause = False, 0.0, LOOK
        while True:
            closing, now = self._closing, time.monotonic()
            logs = closing or now >= logs_due
            try:
                if not met:
                    self.mirror.meet()
                    met = True
                    self._met.set()
                self.mirror.send_missing(lambda name, logs=logs: logs or name.startswith("checkpoints/"))
                pause = LOOK
                logs_due = now + LOGS if logs else logs_due
                if self._trouble:
                    say(f"{self.url} is complete again")
                self._trouble = None
            except (InputError, Unreachable, OSError) as error:
                if isinstance(error, InputError) and not self._met.is_set():
                    self._refused = error
                    self._met.set()
                    return
                self._complain(error)
                pause = min(2 * pause, LOGS)
                self._met.set()
            if closing:
                return
            self._wake.wait(pause)

    def _complain(self, error: Exception) -> None:
        """Say that the mirror does not work now, once for each outage."""
        if self._trouble is None and not self._closing:
            reason = str(error) if isinstance(error, InputError) else f"{self.url} does not answer ({error})"
            say(f"{reason}; the run goes on, and what is missing is sent later")
        self._trouble = str(error)


def _files(names: list[str]) -> str:
    return f"{len(names)} file{'s' if len(names) > 1 else ''}"
