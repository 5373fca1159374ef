"""Progress bars: redrawn ten times a second on a terminal, every half minute in a log file.

A bar that is redrawn as often in a file fills it with thousands of copies of itself.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

IN_FILES = 30.0  # seconds between two lines if the output is not a terminal


class Bar(tqdm):
    """tqdm's bar with an interval that fits the output. Takes tqdm's arguments."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        stream = settings.get("file") or sys.stderr
        if not stream.isatty():
            settings = {"mininterval": IN_FILES, "maxinterval": IN_FILES, **settings}
        super().__init__(*args, **settings)
