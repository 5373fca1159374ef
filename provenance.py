"""Origin of derived files, so that none is used after its sources or settings have changed.

Exported ground truth, masks, matches and prepared images are made from other files with certain settings.
Each carries an origin, a JSON object, inside the file or next to it:

    {"settings": {"ratio": 0.75, "version": 1, ...}, "sources": {"a/000.png": "81230 1700000000 1f0c..."}}

`origin` makes one and `difference` compares it with the current files and settings. A source file is compared
by size and time first; if only the time differs, as in a copy of the data, by a hash. A missing source counts
as unchanged, since derived files exist so that their sources may be removed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PIECE = 1 << 16  # bytes hashed at the start, the middle and the end of a file


def origin(sources: Iterable[Path], root: Path, **settings: Any) -> dict[str, Any]:
    """The origin of a file that is made from `sources` with `settings`.

    Args:
        sources: the files it is made from.
        root: folder that source paths are stored relative to, so that the data may be moved.
        settings: everything else that decides the content, of JSON's types or numpy's; `version` counts
            changes of the algorithm.
    """
    found = {os.path.relpath(path, root): fingerprint(path) for path in sources}
    return {"settings": _plain(settings), "sources": found}


def difference(origin: Mapping[str, Any], root: Path, **settings: Any) -> str | None:
    """The first difference between an origin and the present, in words; None if there is none.

    Args:
        origin: the origin of a file made earlier.
        root: folder that its source paths are relative to.
        settings: those that the file would be made with now.
    """
    then, now = origin.get("settings", {}), _plain(settings)
    for key in dict.fromkeys([*now, *then]):
        if then.get(key) != now.get(key):
            return f"{key} was {_short(then.get(key))} and is {_short(now.get(key))}"
    for name, print_then in origin.get("sources", {}).items():
        if not unchanged(root / name, print_then):
            return f"{name} has changed"
    return None


def fingerprint(path: Path) -> str:
    """Size in bytes, time of the last change and hash of a file; "missing" if it does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return "missing"
    return f"{stat.st_size} {stat.st_mtime_ns} {_digest(str(path), stat.st_size, stat.st_mtime_ns)}"


def unchanged(path: Path, then: str) -> bool:
    """Whether a file still has the content of an earlier `fingerprint`; True if it is missing now."""
    try:
        stat = os.stat(path)
    except OSError:
        return True
    size, time, digest = then.split() if then != "missing" else ("", "", "")
    if str(stat.st_size) != size:
        return False
    return str(stat.st_mtime_ns) == time or _digest(str(path), stat.st_size, stat.st_mtime_ns) == digest


def content(paths: Iterable[Path], *values: Any) -> str:
    """One hash of the content of files and of further values, such as calibrations.

    Modification times do not change it."""
    parts = [fingerprint(path).split() for path in paths]
    text = json.dumps([[part[0], part[-1]] for part in parts] + [_plain(values)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=1 << 16)
def _digest(path: str, size: int, _: int) -> str:
    """Hash of the first, middle and last PIECE of a file, of all of a file up to 3 pieces."""
    found = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for start in sorted({0, max(0, min(size - PIECE, size // 2)), max(0, size - PIECE)}):
            file.seek(start)
            found.update(file.read(PIECE))
    return found.hexdigest()[:16]


def _plain(settings: Any) -> Any:
    """Settings as JSON gives them back: tuples as lists, paths as text, numpy's numbers as Python's."""
    return json.loads(json.dumps(settings, default=lambda value: getattr(value, "tolist", value.__str__)()))


def _short(value: Any, most: int = 40) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 3] + "..."
