"""Programs that run several of the project's commands, one after another."""

from __future__ import annotations

import shlex
import subprocess
import sys

from utils import PROJECT, InputError


def step(title: str, command: list) -> None:
    """Run one of the project's commands and print it as one would type it.

    Raises:
        InputError: the command failed.
    """
    words = [str(word) for word in command]
    print(f"\n{title}\n  $ python {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, *words], cwd=PROJECT).returncode
    if status:
        raise InputError(f"stopped because {words[0]} ended with status {status}")
