"""Explainability: trusting every pixel is free, distrust has its price in nats."""

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


def test_trusting_every_pixel_is_free():
    assert price(1.0) == pytest.approx(0, abs=1e-6)


def test_a_weight_costs_its_negative_logarithm_averaged_over_scales():
    assert price(0.5) == pytest.approx(math.log(2))
    assert price(0.5, 0.25) == pytest.approx(1.5 * math.log(2))


def test_without_predicted_masks_it_says_how_to_get_them():
    with pytest.raises(InputError, match=r"losses\.explainability reads masks .*; add --predictive_mask"):
        Monodepth2(weights_init="scratch", losses={"explainability": {"weight": 0.2}})
