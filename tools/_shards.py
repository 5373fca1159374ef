"""Which share of a preparation is this process's: `--shard 2/4`, or its rank under torchrun.

A share is cut from everything there is to do, never from what is left of it: the other processes are at work
while this one looks, and what is left differs from frame set to frame set.
"""

from __future__ import annotations

import argparse
import os
import re


def shard_of(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4); under torchrun this process's share of that shard."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be 1/N to N/N, such as 2/4, got '{text}'")
    which, shards = int(match[1]), int(match[2])
    rank, processes = torchrun_shard()
    return which + shards * (rank - 1), shards * processes


def torchrun_shard() -> tuple[int, int]:
    """Each process's own where torchrun has started several, otherwise all of it."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def own_cores() -> int:
    """Worker processes where nobody says how many: one a core, shared with those that torchrun started."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
