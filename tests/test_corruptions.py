"""Corruptions are reproducible and grow with severity; mCE and mRR have known values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from evaluation import Loading, constant_predictor, evaluate
from evaluation.corruption_kinds import KINDS
from evaluation.corruptions import (
    Robustness,
    check_kinds,
    corrupt,
    corrupted,
    depth_error,
    draw_grid,
    evaluate_corruptions,
)
from tests.test_evaluation import PLAIN, Wall, from_brightness
from utils import InputError


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return F.interpolate(torch.rand(1, 3, 12, 40), (96, 320), mode="bicubic").clamp(0, 1)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_kind_keeps_shape_and_range_and_repeats(kind, image):
    first = corrupt(image, kind, 3, index=7)
    assert first.shape == image.shape and first.dtype == image.dtype
    assert float(first.min()) >= 0 and float(first.max()) <= 1
    assert torch.equal(first, corrupt(image, kind, 3, index=7))
    assert not torch.equal(first, image)


@pytest.mark.parametrize("kind", KINDS)
def test_severity_five_changes_more_than_severity_one(kind, image):
    change = [float((corrupt(image, kind, severity, 0) - image).abs().mean()) for severity in (1, 5)]
    assert change[1] > 1.2 * change[0]


def test_noise_depends_on_index_and_seed(image):
    one = corrupt(image, "gaussian_noise", 1, 0)
    assert not torch.equal(one, corrupt(image, "gaussian_noise", 1, 1))
    assert not torch.equal(one, corrupt(image, "gaussian_noise", 1, 0, seed=1))


def test_predictor_sees_only_corrupted_images(tmp_path):
    wall = Wall(tmp_path, count=1)
    clean = evaluate(from_brightness, wall, {"": PLAIN}, Loading())[""].mean["abs_rel"]
    noisy = evaluate(corrupted(from_brightness, "contrast", 5), wall, {"": PLAIN}, Loading())[""].mean[
        "abs_rel"
    ]
    assert noisy > clean + 0.1


def test_constant_predictor_has_unit_mce_and_mrr(tmp_path):
    wall = Wall(tmp_path, count=2)
    predict = constant_predictor(5.0)
    clean = evaluate(predict, wall, {"": PLAIN}, Loading())[""]
    found = evaluate_corruptions(predict, wall, PLAIN, Loading(), clean, ["fog", "jpeg"])
    assert found.mce == pytest.approx(1) and found.mrr == pytest.approx(1)
    assert "mCE 1.000 (reference: one constant depth)   mRR 1.000" in found.table()


def test_mce_and_mrr_follow_their_formulas(tmp_path):
    errors = {"fog": [0.2] * 5, "snow": [0.4] * 5}
    found = Robustness(0.1, {"fog": 2.0, "snow": 2.0}, errors, {"fog": (0, 0), "snow": (0, 0)}, "drawn")
    assert found.ce == pytest.approx({"fog": 0.5, "snow": 1.0})
    assert found.mrr == pytest.approx((0.8 / 0.9 + 0.6 / 0.9) / 2)
    assert depth_error({"abs_rel": 0.1, "a1": 0.9}) == pytest.approx(0.1)


def test_own_results_as_reference_give_unit_mce(tmp_path):
    wall = Wall(tmp_path, count=1)
    clean = evaluate(from_brightness, wall, {"": PLAIN}, Loading())[""]
    evaluate_corruptions(from_brightness, wall, PLAIN, Loading(), clean, ["dark"]).save(tmp_path)
    path = tmp_path / "corruptions.json"
    again = evaluate_corruptions(from_brightness, wall, PLAIN, Loading(), clean, ["dark"], path)
    assert again.mce == pytest.approx(1)
    with pytest.raises(InputError, match="lacks the corruption fog"):
        evaluate_corruptions(from_brightness, wall, PLAIN, Loading(), clean, ["fog"], path)
    path.write_text(json.dumps([]))
    with pytest.raises(InputError, match=r"is not a corruptions\.json"):
        evaluate_corruptions(from_brightness, wall, PLAIN, Loading(), clean, ["dark"], path)


def test_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no corruption 'snowy'; did you mean 'snow'"):
        check_kinds(["snowy"])
    assert check_kinds([]) == list(KINDS)


def test_grid_has_a_row_for_each_kind(tmp_path, image):
    draw_grid(tmp_path / "grid.png", image, ["fog", "snow"])
    drawn = np.asarray(Image.open(tmp_path / "grid.png"))
    assert drawn.shape == (2 * 96 + 4, 6 * 320 + 5 * 4, 3)
