"""Errors by distance and the two squared relative errors, on pixels with known depth."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from evaluation import Loading, evaluate
from evaluation.details import DETAILS, details
from metrics import GroundTruth
from tests.test_evaluation import PLAIN, Wall, from_brightness


def test_bands_and_sq_rel_have_known_values():
    t = torch.tensor([[5.0, 8.0, 10.0, 50.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, True, False]])
    p = torch.tensor([[6.0, 8.0, 15.0, 45.0, 3.0]], dtype=torch.float64)
    ground_truth = GroundTruth(t, t.long(), t.long(), valid, torch.tensor([[1, 5]]))
    found = dict(zip(DETAILS, details(p, ground_truth)[0].tolist()))
    assert found["abs_rel_0_10m"] == pytest.approx(0.1)
    assert found["abs_rel_10_20m"] == pytest.approx(0.5)
    assert math.isnan(found["abs_rel_20_40m"])
    assert found["abs_rel_40_80m"] == pytest.approx(0.1)
    assert [found[f"share_{band}"] for band in ("0_10m", "10_20m", "20_40m")] == [0.5, 0.25, 0]
    assert found["sq_rel_defined"] == pytest.approx((0.04 + 0.25 + 0.01) / 4)


def test_bands_are_saved_and_empty_ones_do_not_count(tmp_path):
    result = evaluate(from_brightness, Wall(tmp_path, count=2), {"": PLAIN}, Loading())[""]
    means = result.details
    assert means["share_0_10m"] + means["share_10_20m"] + means["share_20_40m"] == pytest.approx(1)
    assert "abs_rel_40_80m" not in means
    result.save(tmp_path / "out")
    with open(tmp_path / "out/per_image.csv") as file:
        row = next(csv.DictReader(file))
    assert float(row["sq_rel_defined"]) == pytest.approx(means["sq_rel_defined"], rel=0.2)
