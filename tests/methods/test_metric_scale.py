"""Metric scale: from a stereo baseline, from loss terms, or unknown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from losses import LOSSES
from methods import build_method
from methods.metric_scale import learned_from, metric_scale, scale_error, stereo_scale, unit_of
from tests.tiny_models import OPTIONS
from utils import InputError

VIDEO = {"dataset": "kitti", "frame_ids": [0, -1, 1]}


class Speed(nn.Module):
    """A loss term of one's own that knows metres."""

    gives_metric_scale = True
    learned_from = "speed"

    def forward(self, batch, prediction):
        return torch.zeros(())


def method(weights: dict[str, float] | None = None, **terms: nn.Module) -> nn.Module:
    """A method that has only loss terms."""
    result = nn.Module()
    result.loss_terms = nn.ModuleDict(terms)
    result.loss_weights = weights or dict.fromkeys(terms, 1.0)
    return result


def test_video_has_no_metric_scale():
    plain = method(photometric=nn.Identity())
    assert metric_scale(plain, VIDEO) is None
    assert learned_from(plain, VIDEO) == "video"
    assert unit_of(plain, VIDEO) == "up to scale (learned from video only)"


@pytest.mark.parametrize(
    ("options", "scale", "source"),
    [
        ({"dataset": "kitti", "frame_ids": [0], "use_stereo": True}, 5.4, "stereo pairs"),
        ({"dataset": "kitti", "frame_ids": [0, -1, 1, "s"]}, 5.4, "video, stereo pairs"),
        ({"dataset": {"name": "kitti", "baseline": 0.54}, "frame_ids": [0, "s"]}, 1, "stereo pairs"),
        ({"dataset": "folder", "frame_ids": [0, "s"]}, 1, "stereo pairs"),
    ],
)
def test_a_stereo_baseline_gives_the_scale(options, scale, source):
    assert metric_scale(method(), options) == pytest.approx(scale)
    assert learned_from(method(), options) == source
    assert unit_of(method(), options) == "metres"


def test_only_kitti_has_a_baseline_of_a_tenth():
    assert stereo_scale({}) == pytest.approx(5.4)
    assert stereo_scale({"dataset": {"name": "folder"}}) == 1


def test_own_term_can_give_metric_scale(monkeypatch):
    """Registering one class is enough; no other file names it."""
    monkeypatch.setitem(LOSSES._classes, "velocity_probe", Speed)
    options = {**OPTIONS, "losses": {"velocity_probe": {"weight": 0.1}}}
    built = build_method(options)
    assert metric_scale(built, options) == 1.0
    assert learned_from(built, options) == "video, speed"
    options["losses"] = {"velocity_probe": {"weight": 0}}
    assert metric_scale(build_method(options), options) is None


@pytest.mark.parametrize("name", ["spatial", "sfm_matches"])
def test_terms_of_a_rig_give_metric_scale(name):
    term = LOSSES.get(name)()
    assert metric_scale(method(**{name: term}), VIDEO) == 1.0
    assert learned_from(method(**{name: term}), VIDEO) == "video, camera rig"


def test_term_of_weight_zero_gives_no_metric_scale():
    assert metric_scale(method({"speed": 0.0}, speed=Speed()), VIDEO) is None


def test_metric_term_with_published_baseline_is_refused():
    stereo = {"dataset": "kitti", "use_stereo": True}
    with pytest.raises(InputError, match=r"speed teaches metres, .* 5.4; set --dataset.baseline 0.54"):
        metric_scale(method(speed=Speed()), stereo)
    true = {"dataset": {"name": "kitti", "baseline": 0.54}, "use_stereo": True}
    assert metric_scale(method(speed=Speed()), true) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ratio", "factor"),
    [(0.5, None), (1.0, None), (2.0, None), (730.0, 730), (0.01, 100), (float("nan"), None)],
)
def test_wrong_scale_at_validation_is_reported(ratio, factor):
    metric = method(speed=Speed())
    metric.validation_metrics = {"abs_rel": 0.1, "ground_truth_per_prediction": ratio}
    assert scale_error(metric, VIDEO) == (factor and pytest.approx(factor))
    expected = f"meant as metric; off by a factor of {factor} in validation" if factor else "metres"
    assert unit_of(metric, VIDEO) == expected


def test_rig_without_a_scale_gets_no_warning():
    plain = method(photometric=nn.Identity())
    plain.validation_metrics = {"ground_truth_per_prediction": 730.0}
    assert scale_error(plain, VIDEO) is None
