"""A run folder has one writer: a lock file names its host and process.

    same machine     the lock holds while that process lives, also if it is suspended; a process of the same
                     number that started at another time is another process
    another machine  the lock holds while its time is renewed, every BEAT seconds

A lock that does not hold is stale: a killed process left it, and the next writer takes it over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from utils import InputError

BEAT = 20  # seconds between renewals
STALE = 120  # seconds without renewal after which another machine's lock is stale


class RunLock:
    """The lock of a run folder.

    Args:
        path: the lock file; its folder is made when the lock is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._released = threading.Event()

    def check(self) -> None:
        """Refuse if another process holds the lock.

        Raises:
            InputError: it does; names the process, its host and the way out.
        """
        held = self._read()
        if held is None:
            return
        way_out = "wait until it ends, or give another --model_name"
        if _machine(held) != _machine(_identity()):
            if self._age() > STALE:
                return
            way_out += f"; if it has ended already, remove {self.path}"
        elif not _lives(held):
            return
        writer = f"process {held.get('pid', '?')} on {held.get('host', '?')}"
        raise InputError(f"{self.path.parent} is in use by {writer}: {way_out}")

    def take(self) -> None:
        """Take the lock, also a stale one, and renew it until `release`.

        Raises:
            InputError: another process holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            self.check()
            self._put_aside(self._read())
        self._released.clear()
        threading.Thread(target=self._renew, daemon=True).start()

    def release(self) -> None:
        """Give the lock back if this process still has it."""
        self._released.set()
        if self._read() == _identity():
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Make the lock file; False if there is one."""
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with open(handle, "w") as file:
            file.write(json.dumps(_identity()))
        return True

    def _put_aside(self, stale: dict[str, Any] | None) -> None:
        """Remove a stale lock. Only one of several processes that try at once succeeds."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, aside)
            found = RunLock(aside)._read()
            if found != stale and not self.path.exists():  # a new lock, taken since the stale one was read
                os.rename(aside, self.path)
            aside.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        """Content of the lock; empty if it is unreadable, None if there is none."""
        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _age(self) -> float:
        """Seconds since the lock was renewed, by the clock of the file system."""
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:
            now = os.fstat(probe.fileno()).st_mtime
        try:
            return now - self.path.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _renew(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _identity() -> dict[str, Any]:
    """Identity of this process, as a lock file stores it."""
    return {
        "host": socket.gethostname(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "space": _process_space(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _machine(identity: dict[str, Any]) -> tuple:
    """Identity of the machine; process numbers can be compared only if it is equal."""
    return tuple(identity.get(key) for key in ("host", "boot", "space"))


def _lives(identity: dict[str, Any]) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(int(identity["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    started = _started(int(identity["pid"]))
    return started != "ended" and started == identity.get("started")


def _started(pid: int) -> str:
    """Start of a process in ticks since boot; empty without /proc, `ended` for a zombie."""
    fields = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before may hold anything
    if not fields:
        return ""
    return "ended" if fields[0] == "Z" else fields[19]


def _process_space() -> str:
    """The space that process numbers belong to: containers on one machine have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
