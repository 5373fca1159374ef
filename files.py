"""Files: a failed write becomes one sentence, and a name from a table cannot lead out of its folder.

A file is written under a temporary name and renamed when it is complete, so that an interrupted program
leaves no half file behind and a full disk leaves the earlier file whole. A log grows line by line; what is
damaged in it is left out when it is read. The kind of a placeholder (a git-LFS pointer, a web page) is named.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from utils import InputError, atomic_path

FULL = (errno.ENOSPC, errno.EDQUOT)
# What numpy raises about a damaged .npy or .npz file, whose header, archive or data may be anything.
DAMAGED_ARRAY = (
    *(OSError, EOFError, KeyError, IndexError, TypeError, ValueError, MemoryError, RuntimeError),
    *(struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)
HEAD = 512  # bytes that tell the kind of a file
# Placeholders of a file that was not downloaded: beginning, kind, fix.
PLACEHOLDERS = (
    (rb"\Z", "an empty file", "copy or download it again"),
    (rb"version https://git-lfs", "a git-LFS pointer", "fetch the file itself: git lfs pull"),
    (rb"\s*(?i:<!doctype html|<html)", "a web page, such as the error of a download", "download it again"),
    (rb"\s*<", "a text in XML, such as the error of a download", "download it again"),
)
NO_SPACE = "the disk is full; free some space and start again"


def kind_of(head: bytes, kinds: Iterable[tuple[bytes, str, str]] = PLACEHOLDERS) -> str:
    """Kind and fix of a file by its first bytes, such as `a git-LFS pointer; fetch ...`; empty if unknown."""
    return next((f"{kind}; {fix}" for start, kind, fix in kinds if re.match(start, head, re.DOTALL)), "")


def damage(path: str | Path) -> str:
    """End of the sentence about a file that cannot be read: its kind if known, else a question."""
    kind = ""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        kind = kind_of(file.read(HEAD))
    return f"it is {kind}" if kind else "is it truncated?"


@contextlib.contextmanager
def writing(path: str | Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary path next to `path`, which is renamed to `path` when the block ends without an error.

    Args:
        path: the file to write.
        errors: further exceptions that a failed write of this kind of file raises.

    Raises:
        InputError: the file cannot be written, and why.
    """
    path = Path(path)
    with explained(path, errors), atomic_path(path) as temporary:
        yield temporary


@contextlib.contextmanager
def explained(place: str | Path, errors: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Replace a failed write to `place`, a file or folder, by one sentence.

    Args:
        place: file or folder that the block writes to.
        errors: further exceptions that stand for a failed write.

    Raises:
        InputError: the write failed, and why.
    """
    place = Path(place)
    try:
        yield
    except (OSError, RuntimeError, *errors) as error:
        cause = _cause(error)
        if not isinstance(cause, (OSError, *errors)):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        if _elsewhere(cause, place):
            raise InputError(f"{cause.filename}: {reason}") from error
        full = getattr(cause, "errno", None) in FULL or "No space" in reason
        kept = f"; the earlier {place.name} is untouched" if place.is_file() else ""
        raise InputError(f"{place} cannot be written: {NO_SPACE if full else reason}{kept}") from error


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Line and content of each record of a .jsonl file; none if there is no file.

    A killed process leaves half a line, a machine that lost power zeros or other bytes; such lines are left
    out.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield line, record


def _cause(error: BaseException) -> BaseException | None:
    """The first cause that is not a RuntimeError, since torch wraps a failed write in a RuntimeError."""
    cause: BaseException | None = error
    while isinstance(cause, RuntimeError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _elsewhere(error: BaseException, place: Path) -> bool:
    """True if the error names another file, such as an input that the block may not read."""
    name = getattr(error, "filename", None)
    return isinstance(name, str) and not Path(name).absolute().is_relative_to(place.absolute().parent)


def inside(folder: str | Path, name: str) -> Path:
    """`folder / name` for a name that comes from a table, a list or another file.

    Raises:
        InputError: the name is absolute or contains "..", so the path would lie outside of the folder.
    """
    parts = PurePath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or PurePath(name).is_absolute() or name.startswith(("/", "\\")):
        raise InputError(f"the name '{name}' leads out of {folder}; is the table damaged?")
    return Path(folder) / name
