"""Feature gap: the mean squared difference, with a gradient only for features of the image."""

import pytest
import torch

from losses.feature_gap import FeatureGap, feature_gap
from structures import Batch, Prediction
from utils import InputError

BATCH = Batch({}, torch.eye(3)[None], torch.zeros(1))


def test_equal_features_have_no_gap():
    features = [torch.rand(1, 4, 2, 3), torch.rand(1, 8, 1, 2)]
    gap = feature_gap(features, [level.clone() for level in features])
    assert FeatureGap()(BATCH, Prediction({}, extra={"feature_gap": gap})) == 0


def test_levels_of_all_sizes_have_equal_weight():
    with_depth = [torch.ones(1, 4, 8, 8), torch.full((1, 1, 1, 1), 3.0)]
    without = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 1, 1)]
    assert FeatureGap()(BATCH, Prediction({}, extra={"feature_gap": feature_gap(with_depth, without)})) == 5


def test_features_with_depth_get_no_gradient():
    teacher, student = (torch.rand(1, 2, 2, 2, requires_grad=True) for _ in range(2))
    feature_gap([teacher], [student]).sum().backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_a_network_without_the_gap_is_refused():
    with pytest.raises(InputError, match="with and without depth"):
        FeatureGap()(BATCH, Prediction({}))
