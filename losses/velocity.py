"""Velocity: the distance that a vehicle drives fixes the scale of translation and therefore that of depth.

    mean over sources, over samples  of  | |t| - v |dt| |     (Guizilini et al., PackNet, CVPR 2020)

t is the predicted translation between target and source, v the mean speed, dt the time between them. The
published code takes the distance between two recorded poses instead of v |dt|; the formula is the same.

The term does not constrain depth: a pose network can learn the speed while depth becomes constant.
`find_collapse` detects that state.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from structures import Batch, Frame, Prediction
from utils import InputError

FLAT = 0.02  # standard deviation of depth over its mean, below which depth counts as constant
MATCH = 0.1  # relative error of the distances, below which translations match the speed


@LOSSES.register
class Velocity(CountedMean):
    """Mean absolute difference of travelled distances, metres. A sample whose speed is nan is left out."""

    needs: ClassVar[tuple[str, ...]] = ("speed", "time_step")
    gives_metric_scale: ClassVar[bool] = True
    learned_from: ClassVar[str] = "speed"

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over the sources with a known speed. Returns a scalar."""
        errors, counts = [], []
        for predicted, distance in travelled(batch, prediction).values():
            known = distance.isfinite()
            error = torch.where(known, predicted - torch.where(known, distance, 0.0), 0.0).abs()
            errors.append(error.sum())
            counts.append(known.sum())
        count = self.shared(torch.stack(counts))
        means = torch.stack(errors) / count.clamp(min=1e-12)
        return means.sum() / (count > 0).sum().clamp(min=1)

    def diagnose(self, batch: Batch, prediction: Prediction) -> str | None:
        """A warning if training has collapsed, else None. Waits for the GPU: call it only at logged steps."""
        return find_collapse(batch, prediction)


def travelled(batch: Batch, prediction: Prediction) -> dict[Frame, tuple[Tensor, Tensor]]:
    """Source frame → predicted and measured distance from the target, (B·N,) each; nan if unknown.

    Raises:
        InputError: the batch has no speed of any source in time.
    """
    frames = [frame for frame in prediction.T_source_from_target if frame != "s" and frame in batch.speed]
    if not frames:
        raise InputError(
            "velocity needs the speed of the camera and the dataset has none; KITTI has it in oxts, a folder "
            "in speed.csv next to its images"
        )
    return {
        frame: (
            prediction.T_source_from_target[frame][:, :3, 3].norm(dim=1),
            batch.speed[frame] * batch.time_step[frame].abs(),
        )
        for frame in frames
    }


@torch.no_grad()
def find_collapse(
    batch: Batch, prediction: Prediction, flat: float = FLAT, match: float = MATCH
) -> str | None:
    """A warning if depth is constant while translations match the speed, else None.

    In that state pose has learned the speed and depth has learned nothing. The scale of depth is then
    meaningless although the term is small.

    Args:
        flat: limit of the standard deviation of depth over its mean; every image of the batch must be below.
        match: limit of the mean error of the distances over the mean distance.
    """
    depth = prediction.depths[min(prediction.depths)].flatten(1).float()
    spread = (depth.std(1) / depth.mean(1).clamp(min=1e-9)).max().item()
    pairs = list(travelled(batch, prediction).values())
    predicted, distance = (torch.cat(values) for values in zip(*pairs))
    known = distance.isfinite() & (distance > 0)
    if spread >= flat or not known.any():
        return None
    error = ((predicted - distance)[known].abs().mean() / distance[known].mean()).item()
    if error >= match:
        return None
    return (
        f"depth is constant (standard deviation {100 * spread:.1f} % of the mean) while translations match "
        f"the speed to {100 * error:.0f} %: the velocity term is met without depth. Lower its weight, or let "
        "it begin later (losses.velocity.from_epoch)"
    )
