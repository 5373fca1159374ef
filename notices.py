"""Facts about a user's data that are worth a line, such as images that are left out.

A notice is not a Python warning: `python -W error` does not stop at it, and it is printed without a line of
our source. The doctor collects notices as findings.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from shards import is_first

_said: set[str] = set()
_collected: list[list[str]] = []  # lists of the open `collect_notices` blocks


def notice(sentence: str) -> None:
    """Print a sentence to stderr, once, in the first process only."""
    if _collected:
        _collected[-1].append(sentence)
    elif is_first() and sentence not in _said:
        _said.add(sentence)
        print(f"note: {sentence}", file=sys.stderr)


@contextlib.contextmanager
def collect_notices() -> Iterator[list[str]]:
    """The notices of the block, in a list instead of on stderr."""
    _collected.append([])
    try:
        yield _collected[-1]
    finally:
        _collected.pop()
