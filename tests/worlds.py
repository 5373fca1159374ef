"""Synthetic worlds of a test session: each is rendered once for all test processes, and only read."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tools.layouts._base import Plan
from tools.make_synthetic import make


class Worlds:
    """Rendered worlds by their plan.

    Args:
        folder: a folder that all test processes of the session share.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def get(self, layout: str, sequences: int = 2, frames: int = 5, **facts: Any) -> Path:
        """The world of a plan, to be read only; 64 x 96 and .png unless `facts` of the plan say otherwise."""
        facts = {"height": 64, "width": 96, "seed": 0, "ext": "png", **facts}
        name = "_".join([layout, *(f"{key}-{value}" for key, value in sorted(facts.items()))])
        place = self.folder / f"{name}_{sequences}x{frames}"
        with open(place.with_name(f"{place.name}.json"), "a+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # waits for a process that renders it
            if not os.fstat(held.fileno()).st_size:
                make(Plan(layout, place, sequences=sequences, frames=frames, **facts))
                json.dump(content(place), held)
        return place

    def copy(self, to: Path, layout: str, sequences: int = 2, frames: int = 5, **facts: Any) -> Path:
        """A copy of a world, for a test that writes into it."""
        return shutil.copytree(self.get(layout, sequences, frames, **facts), to)

    def check(self) -> None:
        """Fail if a test overwrote or removed a file of a world; datasets may derive new ones."""
        for record in self.folder.glob("*.json"):
            with open(record) as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                text = held.read()
            place = record.with_suffix("")
            found = content(place)
            changed = [entry for entry in json.loads(text or "[]") if entry not in found]
            assert not changed, f"a test has changed {changed[0][0]}; copy {place} first"


def content(folder: Path) -> list[list]:
    """Path, size and time of change of each file below a folder."""
    entries = sorted(entry for entry in folder.rglob("*") if entry.is_file())
    return [[str(entry), entry.stat().st_size, entry.stat().st_mtime_ns] for entry in entries]
