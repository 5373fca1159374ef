"""The share of the work that this process does: `--shard 2/4`, or its rank under torchrun.

A share is cut from the whole work, never from the part that is left: the other processes work at the same
time, so that what is left changes from second to second.
"""

from __future__ import annotations

import argparse
import os
import re


def shard_of(text: str) -> tuple[int, int]:
    """Number and count of shards: (2, 4) for `2/4`. Under torchrun, each process takes a part of it."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be 1/N to N/N, such as 2/4, got '{text}'")
    which, shards = int(match[1]), int(match[2])
    rank, processes = torchrun_shard()
    return which + shards * (rank - 1), shards * processes


def torchrun_shard() -> tuple[int, int]:
    """Number of this process, counted from 1, and number of processes; (1, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    """True in the one process that prints and writes files for all."""
    return torchrun_shard()[0] == 1


def own_cores() -> int:
    """Default number of worker processes: one for each core, divided among torchrun's processes."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
