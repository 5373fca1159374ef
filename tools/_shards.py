"""Which share of a preparation is this process's: `--shard 2/4`, or its rank under torchrun."""

from __future__ import annotations

import argparse
import os
import re


def shard_of(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be 1/N to N/N, such as 2/4, got '{text}'")
    return int(match[1]), int(match[2])


def torchrun_shard() -> tuple[int, int]:
    """Each process's own where torchrun has started several, otherwise all of it."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))
