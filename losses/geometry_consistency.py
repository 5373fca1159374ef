"""Geometry consistency: the depth of the target, transformed into a source, equals the depth of the source.

    mean over both directions and valid pixels of  |d_a->b - d_b| / (d_a->b + d_b)   (Bian et al., IJCV 2021)

It makes the scale of depth constant over a video. Any method may add it to its photometric term.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from losses._pairs import MIN_VALID, compare_pairs
from structures import Batch, Prediction


@LOSSES.register
class GeometryConsistency(CountedMean):
    """Mean depth inconsistency over all pairs; `pairwise` combines it with the photometric error.

    Args:
        automask: leave out pixels that no motion explains at least as well.
        published_warp: sample, pad and test validity as the published code does; see
            `losses._pairs.compare_pairs`.
    """

    predicts: ClassVar[tuple[str, ...]] = ("sources.depths", "sources.T_target_from_source")

    def __init__(self, automask: bool = False, published_warp: bool = False) -> None:
        super().__init__()
        self.automask, self.published_warp = automask, published_warp

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Scalar in [0, 1], without unit."""
        pairs = compare_pairs(batch, prediction, published_warp=self.published_warp)
        valid = pairs.valid & pairs.moving_with_scene() if self.automask else pairs.valid
        return self.masked_mean(pairs.inconsistency, valid, more_than=MIN_VALID)
