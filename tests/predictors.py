"""Predictors for tests: depth that is known beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from evaluation import Predict
from structures import Batch, Prediction


def predictor_of(depths: Iterable[Tensor]) -> Predict:
    """A predictor that returns one (B·N, 1, h, w) of `depths` for each batch, in order."""
    answers = iter(depths)

    def predict(batch: Batch) -> Prediction:
        return Prediction({}, {0: next(answers)})

    return predict
