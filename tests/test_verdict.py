"""One constant depth for comparison; a model that does not beat it gets a sentence with the cause."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from evaluation import Loading, constant_predictor, evaluate, map_predictor, validate_depth
from evaluation.verdict import (
    CONSTANT,
    PIXEL_MEAN,
    Signs,
    causes_in_training,
    structure,
    training_signs,
    training_verdict,
    typical_depth,
)
from metrics import GroundTruth
from structures import Batch, Prediction
from tests.test_evaluation import METRIC, PLAIN, Wall, from_brightness, half


def one(predict, wall: Wall, protocol=PLAIN):
    return evaluate(predict, wall, {"": protocol}, Loading())[""]


def swapped(batch: Batch) -> Prediction:
    """Far where it is near."""
    return Prediction({}, {0: 1 / from_brightness(batch).depths[0]})


def test_printed_constant_equals_a_constant_predictor(tmp_path):
    wall = Wall(tmp_path, count=2)
    result = one(from_brightness, wall)
    alone = one(constant_predictor(3.0), wall)
    assert result.constant == pytest.approx(alone.mean)
    assert CONSTANT in result.table()
    assert result.verdict() is None


def test_mean_depth_of_each_pixel_is_a_second_baseline(tmp_path):
    wall = Wall(tmp_path, count=2)  # the same ramp in all images
    ramp = torch.from_numpy(wall.metres(32)).float()

    def dull(batch: Batch) -> Prediction:
        return Prediction({}, {0: from_brightness(batch).depths[0] ** 0.5})  # better than a constant

    metric = replace(METRIC, scale=5.4)
    for protocol in (PLAIN, metric):
        result = evaluate(dull, wall, {"": protocol}, Loading(), mean_depth=ramp)[""]
        alone = one(map_predictor(ramp), wall, replace(protocol, scale=1.0))
        assert result.baselines[PIXEL_MEAN] == pytest.approx(alone.mean, abs=0.01)
    result = evaluate(dull, wall, {"": PLAIN}, Loading(), mean_depth=ramp)[""]
    assert one(dull, wall).verdict() is None
    assert result.verdict().startswith(f"this model is not better than {PIXEL_MEAN} (abs_rel 0.1")
    assert PIXEL_MEAN in result.table()


def test_constant_without_alignment_is_the_typical_depth(tmp_path):
    wall = Wall(tmp_path, count=2)
    assert typical_depth(wall, METRIC) == pytest.approx(16, abs=0.1)
    scaled = replace(METRIC, scale=5.4)
    expected = one(constant_predictor(typical_depth(wall, METRIC)), wall, METRIC).mean
    assert one(half, wall, scaled).constant == pytest.approx(expected)


def test_typical_depth_is_found_with_little_ground_truth(tmp_path):
    wall = Wall(tmp_path, count=40, ground_truth={1})
    assert typical_depth(wall, METRIC) == pytest.approx(16, abs=0.1)


def test_collapsed_model_is_told_so(tmp_path):
    sentence = one(constant_predictor(3.0), Wall(tmp_path, count=1)).verdict()
    assert sentence.startswith(f"this model is not better than {CONSTANT} (abs_rel 0.2")
    assert "nearly constant (standard deviation of log depth 0.000" in sentence


def test_swapped_model_is_told_so(tmp_path):
    result = one(swapped, Wall(tmp_path, count=1))
    assert "near and far are swapped (correlation of log depth with the ground truth -1.00)" in result.table()


def test_goal_with_larger_as_better_is_compared_in_reverse(tmp_path):
    wall = Wall(tmp_path, count=1)
    assert one(from_brightness, wall, replace(PLAIN, goal="a1")).verdict() is None
    assert one(swapped, wall, replace(PLAIN, goal="a1")).verdict() is not None


def test_correlation_ignores_scale_and_padding():
    depth = torch.tensor([[2.0, 4.0, 8.0, 0.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, False]])
    ground_truth = GroundTruth(depth, depth.long(), depth.long(), valid, torch.tensor([[1, 4]]))
    spread, of_ground_truth, correlation = structure(10 * depth, ground_truth)[0].tolist()
    assert spread == pytest.approx(of_ground_truth) and correlation == pytest.approx(1)
    assert structure(torch.full_like(depth, 5), ground_truth)[0].tolist()[::2] == [0, 0]


class Still(torch.nn.Module):
    """A method that predicts a constant depth of 10 and a motion of these metres and radians."""

    def __init__(self, metres: float, radians: float) -> None:
        super().__init__()
        self.metres, self.radians = metres, radians

    def forward(self, batch: Batch) -> Prediction:
        pose = torch.eye(4)[None].clone()
        pose[:, 2, 3] = self.metres
        angle = torch.tensor(self.radians)
        pose[:, 0, 0] = pose[:, 2, 2] = angle.cos()
        pose[:, 0, 2], pose[:, 2, 0] = angle.sin(), -angle.sin()
        return Prediction({}, {0: torch.full((1, 1, 4, 4), 10.0)}, {1: pose})


BATCH = Batch({0: torch.zeros(1, 3, 4, 4), 1: torch.zeros(1, 3, 4, 4)}, torch.eye(3)[None], torch.tensor([0]))


def test_signs_measure_motion_against_depth():
    signs = training_signs(Still(0.5, 0.1), [BATCH])
    assert signs.translation == pytest.approx(0.05)
    assert signs.rotation_per_translation == pytest.approx(2, rel=1e-3)
    assert signs.automask is None


def test_each_sign_has_its_words():
    assert causes_in_training(Signs(0.05, 2.0, 0.5), 4000) == []
    assert "nearly zero" in causes_in_training(Signs(1e-5, 100.0), 4000)[0]
    assert (
        "rotation explains the images instead of translation"
        in causes_in_training(Signs(0.01, 30.0), 4000)[0]
    )
    assert causes_in_training(Signs(automask=0.01), 19) == [
        "the automask leaves 1.0% of the pixels",
        "19 training samples are few",
    ]


def test_validation_reports_constant_and_cause(tmp_path):
    wall = Wall(tmp_path, count=2)
    metrics = validate_depth(constant_predictor(3.0), wall, None, Loading())
    assert metrics["constant_abs_rel"] == pytest.approx(metrics["abs_rel"])
    sentence = training_verdict(metrics, PLAIN, Still(0.0, 0.0), [BATCH] * 19, torch.device("cpu"))
    assert (
        "nearly constant" in sentence
        and "motion is nearly zero" in sentence
        and "19 training samples" in sentence
    )
    good = validate_depth(from_brightness, wall, None, Loading())
    assert training_verdict(good, PLAIN, Still(0.0, 0.0), [BATCH], torch.device("cpu")) is None
