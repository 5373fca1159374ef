"""Random numbers of a loss term, seeded by the batch, so that a resumed run repeats them."""

from __future__ import annotations

import zlib

import torch

from structures import Batch


def generator_for(batch: Batch, salt: str) -> torch.Generator:
    """A generator on the batch's device, for one term and one batch.

    Args:
        batch: `extra["draws"]` (B·N, 5) on the CPU, from the augmentation, is the seed. Without it, in a test
            or at evaluation, `index` is the seed.
        salt: name of the term, so that two terms get different numbers.
    """
    device = batch.images[0].device
    numbers = batch.extra.get("draws", batch.index)
    seed = zlib.crc32(numbers.cpu().contiguous().numpy().tobytes(), zlib.crc32(salt.encode()))
    return torch.Generator(device).manual_seed(seed)
