"""Rotation supervision: zero for a perfect network, known values, a helpful refusal."""

import pytest
import torch

from losses.rotation import Rotation
from methods.sc_depth import ScDepth
from networks.rectifier import Rectified
from structures import Batch, Prediction
from utils import InputError

IMAGE = torch.zeros(1, 3, 8, 8)
BATCH = Batch({0: IMAGE}, torch.eye(3)[None], torch.arange(1))


def rectified(before, after, recovered, known):
    angles = (torch.full((1, 3), float(value)) for value in (before, after, recovered, known))
    return Prediction({}, extra={"rectified": {1: Rectified(IMAGE, IMAGE[:, :1] == 0, *angles)}})


def test_a_perfect_rectification_costs_nothing():
    assert Rotation()(BATCH, rectified(0.08, 0, 0.03, 0.03)) == 0


def test_each_part_has_its_weight():
    prediction = rectified(before=0.02, after=-0.01, recovered=0.05, known=0.03)
    consistency, triplet = Rotation().parts(prediction)
    assert consistency.item() == pytest.approx(0.02) and triplet.item() == pytest.approx(0.04)
    term = Rotation(consistency_weight=0.5, triplet_weight=2)
    assert term(BATCH, prediction).item() == pytest.approx(0.09)


def test_missing_rectification_network_is_refused():
    with pytest.raises(
        InputError, match=r"rotation reads extra.rectified .* --method sc_depth --method.version v2"
    ):
        ScDepth("v1", weights_init="scratch", losses={"rotation": {}})


def test_a_negative_margin_is_refused():
    with pytest.raises(InputError, match="margin must be at least 0, got -1"):
        Rotation(margin=-1)
