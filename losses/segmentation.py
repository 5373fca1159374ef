"""Segmentation: cross-entropy on the labelled companion images, with larger weights for rare classes.

    sum_p w[y_p] (-log softmax(logits_p)[y_p]) / sum_p w[y_p]              over pixels with a label

The weights are 1 / ln(1.02 + share of the class) over Cityscapes' training labels (Paszke et al., ENet, 2016;
Klingner et al., ECCV 2020, section 4). Label 255 is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from structures import Batch, Prediction
from utils import InputError

IGNORED = 255
# The published weights of Cityscapes' 19 train ids; the twentieth channel is never trained.
CITYSCAPES_WEIGHTS = (
    2.8149201869965, 6.9850029945374, 3.7890393733978, 9.9428062438965, 9.7702074050903, 9.5110931396484,
    10.311357498169, 10.026463508606, 4.6323022842407, 9.5608062744141, 7.8698215484619, 9.5168733596802,
    10.373730659485, 6.6616044044495, 10.260489463806, 10.287888526917, 10.289801597595, 10.405355453491,
    10.138095855713, 0.0,
)  # fmt: skip


@LOSSES.register
class Segmentation(CountedMean):
    """Weighted cross-entropy of the companion's logits.

    Args:
        class_weights: one weight per channel of the logits, in the order of the train ids, or `equal`. None
            for Cityscapes' published weights, which fit 20 or 19 channels.

    Raises:
        InputError: a string other than `equal`, or a weight below 0.
    """

    needs: ClassVar[tuple[str, ...]] = ("companion.maps.labels",)
    predicts: ClassVar[tuple[str, ...]] = ("companion.logits",)

    def __init__(self, class_weights: Sequence[float] | str | None = None) -> None:
        super().__init__()
        weights: Tensor | None = None
        if isinstance(class_weights, str):
            if class_weights != "equal":
                raise InputError(f"class_weights is a list of numbers or 'equal', got '{class_weights}'")
        else:
            weights = torch.tensor(CITYSCAPES_WEIGHTS if class_weights is None else list(class_weights))
            if not (weights >= 0).all():
                raise InputError(f"class_weights must be at least 0, got {weights.min().item():g}")
        self.published = class_weights is None
        self.register_buffer("class_weights", weights, persistent=False)  # settings, not trained

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Returns a scalar; 0 if no pixel of the batch has a label.

        Raises:
            InputError: the number of weights differs from the number of channels.
        """
        assert batch.companion is not None and prediction.companion is not None  # `needs`, `predicts`
        return self.cross_entropy(prediction.companion.logits, batch.companion.maps["labels"])

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of (B, classes, H, W) logits against (B, 1, H, W) train ids, a scalar."""
        labels = labels[:, 0].long()
        weights = self._weights(logits)
        total = F.cross_entropy(logits.float(), labels, weights, ignore_index=IGNORED, reduction="sum")
        counted = labels != IGNORED
        weight = self.shared((weights[labels.where(counted, 0)] * counted).sum())
        return total / weight.clamp(min=1e-12)

    def _weights(self, logits: Tensor) -> Tensor:
        classes = logits.shape[1]
        if self.class_weights is None:
            return logits.new_ones(classes, dtype=torch.float32)
        if self.published and classes == len(CITYSCAPES_WEIGHTS) - 1:
            return self.class_weights[:classes]
        if classes != len(self.class_weights):
            raise InputError(
                f"there are {len(self.class_weights)} class_weights for {classes} classes; give one for each "
                "class, or --losses.segmentation.class_weights equal"
            )
        return self.class_weights
