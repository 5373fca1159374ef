"""SfM matches: triangulated matches between neighbouring cameras give depth in metres at single pixels.

    mean over cameras of  mean over its matches of  |depth(x, y) - triangulated depth|

The matches come from tools/sift_matches.py. They are few and inaccurate, but they fix the scale (Wei et al.,
SurroundDepth, CoRL 2022, section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from structures import Batch, Prediction
from utils import InputError


@LOSSES.register
class SfmMatches(CountedMean):
    """Mean absolute difference of depth and matches, metres. Cameras without valid matches are left out.

    Args:
        threshold: largest distance of a valid match from its epipolar line, pixels of the recording.
        max_depth: metres; a match at or beyond this depth is invalid.
        min_angle: smallest angle between the two rays of a valid match, degrees.
        published: height and width of the recordings, to sample depth at the published code's coordinates:
            half a recorded pixel away from the match at the first scale, and near pixel (0, 0) at the others,
            because it divides the coordinates by that size again at each scale.
        exchanged: divide x by the height and y by the width, as the published options of nuScenes do.

    Raises:
        InputError: a bound below 0, `exchanged` without `published`, depth of another size than the image.
    """

    needs = ("points.matches",)
    gives_metric_scale = True
    learned_from = "camera rig"

    def __init__(
        self,
        threshold: float = 1.0,
        max_depth: float = 200.0,
        min_angle: float = 0.01,
        published: Sequence[int] | None = None,
        exchanged: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("max_depth", max_depth), ("min_angle", min_angle)):
            if value < 0:
                raise InputError(f"{name} must be at least 0, got {value}")
        if exchanged and not published:
            raise InputError("exchanged describes the published size; give published: [height, width]")
        self.threshold, self.max_depth, self.min_angle = threshold, max_depth, min_angle
        self.published, self.exchanged = published and tuple(published), exchanged

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over scales. Returns a scalar."""
        return self.per_scale(batch, prediction).mean()

    def per_scale(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The term at each scale of `prediction.depths`, (number of scales,); 0 without a valid match."""
        losses, counts = self.per_camera(batch, prediction)
        return losses.sum(1) / self.shared((counts > 0).sum()).clamp(min=1e-12)

    def per_camera(self, batch: Batch, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """(scales, B·N) metres, 0 for a camera without a match, and (B·N,) numbers of valid matches."""
        matches = batch.points["matches"]
        # A NaN coordinate would end the process (see `layers.sample`).
        valid = self.valid(matches) & matches[..., :2].isfinite().all(-1)
        matches = torch.where(valid[..., None], matches, 0.0)  # removes NaN as well
        counts = valid.sum(1)
        losses = []
        for number, depth in enumerate(prediction.depths.values()):
            if depth.shape[-2:] != batch.images[0].shape[-2:]:
                raise InputError("sfm_matches needs depth of the image's size; leave v1_multiscale off")
            grid = self._grid(matches[..., :2], depth.shape[-2:], number)
            found = F.grid_sample(depth, grid[:, None], padding_mode="border", align_corners=True)[:, 0, 0]
            error = torch.where(valid, (found - matches[..., 2]).abs(), 0.0)
            losses.append(error.sum(1) / counts.clamp(min=1))
        return torch.stack(losses), counts

    def valid(self, matches: Tensor) -> Tensor:
        """(B·N, K) bool, the valid rows of (B·N, K, 6). Padding has a depth of 0."""
        depth, angle, *distances = matches[..., 2:].unbind(-1)
        valid = (depth > 0) & (depth < self.max_depth) & (angle > self.min_angle)
        for distance in distances:
            valid = valid & (distance < self.threshold)
        # For a pair of images without a match, the published tools write ones.
        nothing = (matches[..., 2:] == 1).all(-1)
        return valid if self.published else valid & ~nothing

    def _grid(self, pixels: Tensor, size: torch.Size, number: int) -> Tensor:
        """(B·N, K, 2) pixels to [-1, 1] for `grid_sample`; -1 and 1 are the centres of corner pixels."""
        recorded = self.published or size
        divisors = recorded[::-1] if self.exchanged else recorded
        axes = []
        for x, length, old, divisor in zip(pixels.unbind(-1), size[::-1], recorded[::-1], divisors[::-1]):
            if self.published:
                x = (x + 0.5) * (old / length) - 0.5
                x = x / divisor ** (number + 1) * length - 0.5
            axes.append(2 * x / (length - 1) - 1)
        return torch.stack(axes, -1)
