"""Temporal smoothing of depth: an exponential mean over time where the image stays the same.

    d'(t) = w d'(t-1) + (1 - w) d(t),     w = smooth * exp(-(|I(t) - I(t-1)| / TOLERANCE)^2)

d is inverse depth. Where a pixel changes, something else is seen there, and the earlier depth does not count.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from prediction.streaming import SequenceFrame
from utils import InputError

TOLERANCE = 0.06  # difference of colours in [0, 1], a little above the noise of a camera


class Smoothing:
    """Smooths the frames of one sequence.

    Args:
        smooth: weight of the earlier depth, in [0, 1); 0 changes nothing.

    Raises:
        InputError: another weight.
    """

    def __init__(self, smooth: float = 0.0) -> None:
        if not 0 <= smooth < 1:
            raise InputError(f"--smooth is in [0, 1), got {smooth:g}; try 0.7")
        self.smooth = smooth
        self._earlier: tuple[Tensor, Tensor] | None = None  # image and inverse depth

    def __call__(self, frame: SequenceFrame) -> SequenceFrame:
        """The frame with smoothed inverse depth."""
        if not self.smooth:
            return frame
        image, depth = frame.network_image, frame.inverse_depth
        if self._earlier is not None:
            before, kept = self._earlier
            change = (image - before).abs().mean(0, keepdim=True)
            weight = self.smooth * torch.exp(-((change / TOLERANCE) ** 2))
            depth = torch.lerp(depth, kept, weight)
        self._earlier = image, depth
        return dataclasses.replace(frame, inverse_depth=depth)
