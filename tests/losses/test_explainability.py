"""Explainability: weights of one cost nothing, lower weights their negative logarithm."""

import math

import pytest
import torch

from losses.explainability import Explainability
from methods.monodepth2 import Monodepth2
from structures import Batch, Prediction
from utils import InputError

BATCH = Batch({0: torch.rand(1, 3, 4, 6)}, torch.eye(3)[None], torch.arange(1))


def price(*weights):
    masks = {scale: torch.full((1, 2, 4, 6), weight) for scale, weight in enumerate(weights)}
    return Explainability()(BATCH, Prediction({}, masks=masks)).item()


def test_weights_of_one_cost_nothing():
    assert price(1.0) == pytest.approx(0, abs=1e-6)


def test_weight_costs_its_negative_log_averaged_over_scales():
    assert price(0.5) == pytest.approx(math.log(2))
    assert price(0.5, 0.25) == pytest.approx(1.5 * math.log(2))


def test_missing_masks_name_the_setting():
    with pytest.raises(InputError, match=r"losses\.explainability reads masks .*; add --predictive_mask"):
        Monodepth2(weights_init="scratch", losses={"explainability": {"weight": 0.2}})
