"""What people look at: depth in colours, sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from torch import Tensor


def colourise(
    values: Tensor | np.ndarray,
    low: float | None = None,
    high: float | None = None,
    colours: str = "magma",
) -> np.ndarray:
    """A map of numbers as a picture; of disparities the near is bright.

    Args:
        values: (H, W).
        low, high: the values that get the first and the last colour; the least value and the 95th
            percentile where not given, as the published pictures.
        colours: a matplotlib colour map.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    values = np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, np.float32)
    low = float(values.min()) if low is None else low
    high = float(np.percentile(values, 95)) if high is None else high
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return (colormaps[colours](scaled)[..., :3] * 255).astype(np.uint8)


def as_picture(values: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] as it is, (1, H, W) in colours: (H, W, 3) uint8 RGB."""
    if values.shape[0] == 1:
        return colourise(values[0])
    scaled = values.detach().float().clamp(0, 1).mul(255).round()
    return scaled.byte().permute(1, 2, 0).cpu().numpy()


def sheet(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Pictures of one size in rows and columns, white between them: (H, W, 3) uint8."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = picture
    return canvas
