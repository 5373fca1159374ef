"""The mirror of a run: its folder on another storage, complete up to a known state.

    <run>/mirror.json   the journal: size and time of each file when it was last sent, and to which address
    <run>/mirror.txt    the identity of the run, in its mirror too: nobody overwrites another run's mirror

There is no queue. What must be sent is the difference between the run folder and the journal, so it is known
after any crash, and a file that changed ten times without a network is sent once. Files are sent whole and in
an order in which the mirror can be resumed at any time: first the epochs' files, then best.pt and last.pt,
which are the same content and are copied inside the storage. Files of epochs that the run has pruned are
removed from the mirror; everything else stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from checkpoints import epoch_files
from files import explained, inside, writing
from storage import Storage
from utils import InputError

JOURNAL, IDENTITY = "mirror.json", "mirror.txt"
LINKS = ("checkpoints/best.pt", "checkpoints/last.pt")
_EPOCH = re.compile(r"checkpoints/epoch_(\d+)\.pt")


class Mirror:
    """A run folder and its copy on a storage.

    Args:
        folder: the run folder, which exists.
        storage: the place of its copy.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder, self.storage = folder, storage
        self._sent: dict[str, list[int]] = self._read_journal()

    def meet(self) -> None:
        """First contact: refuse the mirror of another run, then compare the journal with the files there.

        Raises:
            InputError: another run's mirror, no rights, no bucket.
            Unreachable: no network.
        """
        identity = self.folder / IDENTITY
        theirs = (self.storage.read(IDENTITY) or b"").decode(errors="replace").partition("\n")[0]
        if theirs and not (identity.is_file() and identity.read_text().startswith(theirs)):
            url = self.storage.url
            raise InputError(
                f"{url} is the mirror of another run; give another --model_name, or continue that run: "
                f"python tools/mirror.py fetch {url} {self.folder}"
            )
        if not identity.is_file():
            with writing(identity) as path:
                path.write_text(
                    f"{uuid.uuid4().hex}\nMirror of a run of Parallax. To continue it elsewhere: "
                    f"python tools/mirror.py fetch {self.storage.url} runs/{self.folder.resolve().name}\n"
                )
        self._send(IDENTITY)  # the rights are known now and not after the first epoch
        there = self.storage.sizes()
        self._sent = {name: facts for name, facts in self._sent.items() if there.get(name) == facts[0]}

    def missing(self) -> list[str]:
        """Names of the files that the mirror does not have in their present state, in sending order."""
        changed = []
        for name, path in self._files():
            with contextlib.suppress(FileNotFoundError):
                if self._sent.get(name) != _facts(path):
                    changed.append(name)
        return sorted(changed, key=_order)

    def send_missing(self, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Send what is missing, and remove the files of pruned epochs.

        Args:
            wanted: selects by name.

        Raises:
            InputError, Unreachable: the storage fails; what was sent until then is in the journal.
        """
        for name in filter(wanted, self.missing()):
            with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                self._send(name)
        for name in self._pruned():
            self.storage.remove(name)
            del self._sent[name]
            self._write_journal()

    def _send(self, name: str) -> None:
        path = self.folder / name
        facts = _facts(path)  # before it is read: a file that grows meanwhile is sent again
        twin = self._twin(name) if name in LINKS else None
        if twin is None or not self.storage.copy(twin, name):
            self.storage.send(path, name)
        self._sent[name] = facts
        self._write_journal()

    def _twin(self, name: str) -> str | None:
        """A file of the mirror that has the content of `name`, by the hard link between them here."""
        path = self.folder / name
        for other in (*(f"checkpoints/{file.name}" for file in epoch_files(path.parent)), *LINKS):
            file = self.folder / other
            with contextlib.suppress(FileNotFoundError):
                if other != name and file.samefile(path) and self._sent.get(other) == _facts(file):
                    return other
        return None

    def _pruned(self) -> list[str]:
        """Epochs in the mirror that the run folder no longer has although it has a later one."""
        here = [number for name, _ in self._files() if (number := _epoch(name)) is not None]
        latest = max(here, default=-1)
        epochs = {name: number for name in self._sent if (number := _epoch(name)) is not None}
        return [name for name, number in epochs.items() if number not in here and number < latest]

    def _files(self) -> Iterator[tuple[str, Path]]:
        """The files of the run that are mirrored: all except locks, the journal and half-written files."""
        for root, folders, names in os.walk(self.folder):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in names:
                path = Path(root) / file
                name = path.relative_to(self.folder).as_posix()
                hidden = file.startswith(".") or name.startswith("lock.json") or name == JOURNAL
                if not hidden and not path.is_symlink():
                    yield name, path

    def _read_journal(self) -> dict[str, list[int]]:
        """The files that were sent to this address; empty for another one, or if the journal is damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads((self.folder / JOURNAL).read_text())
            if content["url"] == self.storage.url:
                return {str(name): [int(fact) for fact in facts] for name, facts in content["sent"].items()}
        return {}

    def _write_journal(self) -> None:
        with writing(self.folder / JOURNAL) as path:
            path.write_text(json.dumps({"url": self.storage.url, "sent": self._sent}))


def fetch(storage: Storage, folder: Path) -> list[str]:
    """Copy a mirror into a new run folder, from which `--resume auto` continues.

    The folder appears when it is complete.

    Args:
        storage: the mirror.
        folder: the run folder; it must not exist, or be empty.

    Returns:
        The names of the files.

    Raises:
        InputError: there is no mirror, or the folder is in use.
        Unreachable: no network.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty; give another folder")
    names = list(storage.sizes())
    if IDENTITY not in names:
        raise InputError(f"{storage.url} is not the mirror of a run: it has no {IDENTITY}")
    # The links first: of two files the one written later is the newer one for `checkpoints`, unless its step
    # is smaller, and a mirror may have been cut off between an epoch's file and last.pt.
    names.sort(key=lambda name: (name not in LINKS, name))
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            whole = Path(temporary) / "run"
            for name in names:
                path = inside(whole, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                storage.fetch(name, path)
            os.replace(whole, folder)
    return names


def _facts(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _epoch(name: str) -> int | None:
    found = _EPOCH.fullmatch(name)
    return int(found[1]) if found else None


def _order(name: str) -> tuple:
    """Small files first, then epochs, the newest first, then the links to them."""
    epoch = _epoch(name)
    return (name.startswith("checkpoints/"), name in LINKS, -(epoch or 0), name)
