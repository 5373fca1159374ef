"""Is a model better than one constant depth? If not, the likely cause in words.

The constant is evaluated by the same protocol with the same alignment. If each image is aligned by its
median, any constant gives the same numbers; without alignment it is the typical depth of the ground truth. A
model that does not beat it has learned nothing from its images. The cause shows in

    spread        standard deviation of log depth over the valid pixels of an image
    correlation   of log depth with the logarithm of the ground truth
    motion        translation / median depth, and the image motion that rotation and translation cause
    automask      share of pixels that a warped source explains better than an unwarped one

The first two come with every evaluation, the last two from samples of a training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.sequence import SequenceDataset
from metrics import GroundTruth, Protocol
from structures import Batch

CONSTANT, PIXEL_MEAN = "one constant depth", "mean depth of each pixel"  # rows of the baselines in tables
SPREAD, CORRELATION = "log_depth_spread", "log_depth_correlation"  # validation metrics
GROUND_TRUTH_SPREAD = "log_ground_truth_spread"
TYPICAL_SAMPLES = 16  # samples whose ground truth gives the typical depth
FLAT = 0.1  # spread / spread of the ground truth, below which depth is called constant
UNRELATED = 0.3  # correlation below which depth is called unrelated to the ground truth
STILL = 1e-3  # translation / median depth
ROTATION_WINS = 10.0  # image motion by rotation / by translation
MASKED = 0.05  # share of the automask
FEW_SAMPLES = 100
PROBED = 4  # training samples whose motion is measured


def typical_depth(dataset: SequenceDataset, protocol: Protocol) -> float:
    """The median over some samples of the median valid ground truth, metres; nan if none is valid."""
    indices = np.linspace(0, len(dataset) - 1, min(len(dataset), TYPICAL_SAMPLES)).round().astype(int)
    medians = [median for index in indices.tolist() if (median := _median_of(dataset, index, protocol))]
    if not medians:  # ground truth of a few samples only
        medians = [
            next(filter(None, (_median_of(dataset, n, protocol) for n in range(len(dataset)))), math.nan)
        ]
    return float(np.median(medians))


def _median_of(dataset: SequenceDataset, index: int, protocol: Protocol) -> float | None:
    maps = dataset.depth(index)
    if maps is None:
        return None
    ground_truth = GroundTruth.of(maps, protocol)
    depth = ground_truth.depth[ground_truth.valid]
    return float(depth.median()) if len(depth) else None


def structure(sampled: Tensor, ground_truth: GroundTruth) -> Tensor:
    """How far depth varies, and whether it follows the ground truth.

    Args:
        sampled: (B, K) predicted depth at the valid pixels, up to scale.
        ground_truth: ground truth of the same pixels.

    Returns:
        (B, 3): standard deviation of log prediction and of log ground truth, and their correlation, 0 for a
        constant prediction.
    """
    valid = ground_truth.valid
    count = valid.sum(1, keepdim=True).clamp(min=1)
    logs = []
    for depth in (sampled, ground_truth.depth):
        log = torch.where(valid, depth, 1).clamp(1e-6, 1e6).log()  # a prediction may be infinite
        logs.append(torch.where(valid, log - log.sum(1, keepdim=True) / count, 0))
    p, t = logs
    spreads = [(one.square().sum(1) / count[:, 0]).sqrt() for one in logs]
    product = (p * t).sum(1) / count[:, 0]
    correlation = torch.where(spreads[0] > 1e-6, product / (spreads[0] * spreads[1]).clamp(min=1e-12), 0)
    return torch.stack([*spreads, correlation], 1)


def cause_in_depth(spread: float, of_ground_truth: float, correlation: float) -> str:
    """The likely cause that predicted depth itself shows."""
    spreads = f"standard deviation of log depth {spread:.3f}, of the ground truth {of_ground_truth:.3f}"
    if spread < FLAT * of_ground_truth:
        return (
            f"the predicted depth is nearly constant ({spreads}), so training has collapsed or has only begun"
        )
    if correlation < -UNRELATED:
        return f"near and far are swapped (correlation of log depth with the ground truth {correlation:.2f})"
    if correlation < UNRELATED:
        return f"the predicted depth does not follow the ground truth (correlation {correlation:.2f})"
    return f"the predicted depth follows the ground truth (correlation {correlation:.2f}), but {spreads}"


def sentence(
    metric: str, value: float, reference: float, causes: Sequence[str], baseline: str = CONSTANT
) -> str:
    """The verdict on a model that does not beat a baseline."""
    return (
        f"this model is not better than {baseline} ({metric} {value:.3f}, the baseline {reference:.3f}): "
        f"{'; '.join(causes)}"
    )


# ------------------------------------------------------------------------------------------- of a training


@dataclass(frozen=True)
class Signs:
    """Measurements of the networks in training, means over some samples; None if a method has none.

    Attributes:
        translation: length of the translation / median depth.
        rotation_per_translation: image motion by rotation / by translation at the median depth.
        automask: share of pixels in [0, 1].
    """

    translation: float | None = None
    rotation_per_translation: float | None = None
    automask: float | None = None


@torch.no_grad()
def training_signs(method: nn.Module, batches: Sequence[Batch]) -> Signs:
    """Motion and automask on some batches of training samples.

    Args:
        method: a Method in eval mode.
        batches: float batches on the method's device.
    """
    lengths, ratios, shares = [], [], []
    for batch in batches:
        prediction = method(batch)
        depth = prediction.depths[min(prediction.depths)].median()
        for frame, pose in prediction.T_source_from_target.items():
            if frame == "s":
                continue
            length = pose[:, :3, 3].norm(dim=1) / depth
            trace = pose[:, :3, :3].diagonal(dim1=1, dim2=2).sum(1)
            angle = torch.acos(((trace - 1) / 2).clamp(-1, 1))  # radians; image motion is focal x angle
            lengths.append(float(length.mean()))
            ratios.append(float((angle / length.clamp(min=1e-9)).mean()))
        terms = dict(getattr(method, "loss_terms", {}))
        if "photometric" in terms and prediction.warped:
            mask = terms["photometric"].maps(batch, prediction)[min(prediction.warped)][1]
            if mask is not None:
                shares.append(float(mask.float().mean()))
    return Signs(*(float(np.mean(values)) if values else None for values in (lengths, ratios, shares)))


def causes_in_training(signs: Signs, samples: int) -> list[str]:
    """The likely causes that the networks' motion, the automask and the number of samples show."""
    causes = []
    if signs.translation is not None and signs.translation < STILL:
        causes.append(f"the predicted motion is nearly zero ({signs.translation:.1e} of the median depth)")
    elif signs.rotation_per_translation is not None and signs.rotation_per_translation > ROTATION_WINS:
        causes.append(
            "rotation explains the images instead of translation (its image motion is "
            f"{signs.rotation_per_translation:.0f} times larger)"
        )
    if signs.automask is not None and signs.automask < MASKED:
        causes.append(f"the automask leaves {signs.automask:.1%} of the pixels")
    if samples < FEW_SAMPLES:
        causes.append(f"{samples} training samples are few")
    return causes


def training_verdict(
    metrics: Mapping[str, float], protocol: Protocol, method: nn.Module, train_set: Any, device: torch.device
) -> str | None:
    """One sentence if a validation does not beat the constant, else None.

    Args:
        metrics: from `evaluation.validate_depth`.
        protocol: protocol of the validation set.
        method: in eval mode on `device`.
        train_set: its samples show motion and automask.
        device: device of the method.
    """
    value, constant = metrics.get(protocol.goal), metrics.get(f"constant_{protocol.goal}")
    if value is None or constant is None or beats(value, constant, protocol):
        return None
    numbers = (metrics[name] for name in (SPREAD, GROUND_TRUTH_SPREAD, CORRELATION))
    indices = np.linspace(0, len(train_set) - 1, min(len(train_set), PROBED)).round().astype(int).tolist()
    signs = training_signs(method, [train_set[index].to(device) for index in indices])
    causes = [cause_in_depth(*numbers), *causes_in_training(signs, len(train_set))]
    return sentence(protocol.goal, value, constant, causes)


def beats(value: float, constant: float, protocol: Protocol) -> bool:
    """True if the goal's value is better than the constant's."""
    return value > constant if protocol.higher_is_better else value < constant
