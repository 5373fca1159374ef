"""Shared by the benchmarks of loaders: drawn images, and ways that take turns on the processor's clock."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

DRAWN = 14  # different images
SIZE = (375, 1242)  # KITTI's
TURN = 0.25  # seconds that a way runs before the next one
CALLS = 12  # between two looks at the clock: a whole batch


def race(ways: list[Callable[[int], object]], count: int, seconds: float) -> tuple[float, ...]:
    """Calls per second of processor time of each way; they take turns until each has run for `seconds`."""
    spent, calls = [0.0] * len(ways), [0] * len(ways)
    for way in ways:
        way(0)  # opens files and fills caches
    while min(spent) < seconds:
        for n, way in enumerate(ways):
            started = time.process_time()
            while time.process_time() - started < TURN:
                for _ in range(CALLS):
                    way(calls[n] % count)
                    calls[n] += 1
            spent[n] += time.process_time() - started
    return tuple(n / s for n, s in zip(calls, spent))


def draw(folder: Path, extension: str, count: int = DRAWN) -> None:
    """Draw `count` images of noise at several scales, which compress like photographs."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    for frame in range(DRAWN):
        canvas = np.zeros((height, width, 3))
        for size, strength in ((4, 60), (16, 40), (64, 25), (256, 12)):
            coarse = rng.uniform(-strength, strength, (size, size * 3, 3))
            layer = [
                Image.fromarray(c.astype(np.float32)).resize((width, height))
                for c in coarse.transpose(2, 0, 1)
            ]
            canvas += np.stack(layer, -1)
        image = Image.fromarray(np.clip(canvas + 128, 0, 255).astype(np.uint8))
        options = {"quality": 92, "subsampling": 2} if extension == "jpg" else {}
        image.save(folder / f"{frame:04d}.{extension}", **options)
    for frame in range(DRAWN, count):
        shutil.copy(folder / f"{frame % DRAWN:04d}.{extension}", folder / f"{frame:04d}.{extension}")
