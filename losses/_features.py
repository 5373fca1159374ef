"""Output of an image auto-encoder for the loss terms: `Prediction.extra["features"]`."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Features:
    """Features of target and sources, float32.

    Attributes:
        target: (B·N, C, h, w), the encoder's first feature of the target.
        sources: (S, B·N, C, h, w), the same of the sources, in the order of `batch.sources`.
        grid: (S, B·N, h, w, 2) normalised sampling coordinates in the sources' features.
        levels: the five features of the target, finest first; empty while no term reads them.
        reconstructions: scale → (B·N, 3, H / 2**scale, W / 2**scale) RGB in (0, 1).
    """

    target: Tensor | None = None
    sources: Tensor | None = None
    grid: Tensor | None = None
    levels: list[Tensor] = field(default_factory=list)
    reconstructions: dict[int, Tensor] = field(default_factory=dict)
