"""The share of a preparation that this process does: `--shard 2/4`, or its rank under torchrun.

Shares are cut from all tasks and not from the unfinished ones: other processes work at the same time, so each
would see a different list of unfinished tasks.
"""

from __future__ import annotations

import argparse
import os
import re


def shard_of(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4); under torchrun the share of this process within that shard."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be 1/N to N/N, such as 2/4, got '{text}'")
    which, shards = int(match[1]), int(match[2])
    rank, processes = torchrun_shard()
    return which + shards * (rank - 1), shards * processes


def torchrun_shard() -> tuple[int, int]:
    """(rank + 1, number of processes) under torchrun, otherwise (1, 1)."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def own_cores() -> int:
    """Default number of worker processes: one per core, divided among the processes that torchrun started."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
