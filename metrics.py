"""Depth errors, caps, crops, scale alignment; the only implementation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How a benchmark turns a prediction and a ground truth into numbers; printed beside every table.

    Attributes:
        name: what papers call it.
        ground_truth: where the truth comes from, in words.
        min_depth: metres; truth at or below it does not count, predictions are clamped to it.
        max_depth: metres; predictions are clamped to it.
        cap_truth: truth at or beyond `max_depth` does not count.
        crop: `garg`, `eigen` or `none`.
        alignment: `median` (each picture's own factor) or `none` (metric, times `scale`).
        scale: what predictions are multiplied by where alignment is `none`.
    """

    name: str
    ground_truth: str
    min_depth: float = 1e-3
    max_depth: float = 80.0
    cap_truth: bool = True
    crop: str = "none"
    alignment: str = "median"
    scale: float = 1.0
