"""Smoothness: a flat disparity costs nothing, a step costs its height, less at an edge of the image."""

import math

import pytest
import torch

from losses.smoothness import Smoothness
from structures import Batch, Prediction


def scene(image):
    return Batch({0: image}, torch.eye(3)[None], torch.arange(1))


def step(low, high, channels=1):
    """(1, channels, 8, 16), `low` in the left half and `high` in the right."""
    return torch.tensor([low] * 8 + [high] * 8).expand(1, channels, 8, 16).clone()


def test_a_flat_disparity_costs_nothing():
    loss = Smoothness()(scene(torch.rand(1, 3, 8, 16)), Prediction({0: torch.full((1, 1, 8, 16), 0.3)}))
    assert loss.abs() < 1e-6


def test_step_costs_height_over_mean_divided_by_15_columns():
    loss = Smoothness()(scene(step(0.5, 0.5, 3)), Prediction({0: step(0.1, 0.3)}))
    assert loss.item() == pytest.approx(0.2 / 0.2 / 15, rel=1e-4)


def test_image_edge_at_the_step_reduces_its_cost():
    loss = Smoothness()(scene(step(0.0, 1.0, 3)), Prediction({0: step(0.1, 0.3)}))
    assert loss.item() == pytest.approx(math.exp(-1) / 15, rel=1e-4)


def test_shrinking_the_whole_scene_changes_nothing():
    batch, disparity = scene(torch.rand(1, 3, 8, 16)), torch.rand(1, 1, 8, 16)
    loss = Smoothness()
    assert loss(batch, Prediction({0: disparity})).item() == pytest.approx(
        loss(batch, Prediction({0: disparity / 10})).item(), rel=1e-4
    )


def test_each_coarser_scale_counts_half():
    same = Prediction({0: step(0.1, 0.3), 1: step(0.1, 0.3), 2: step(0.1, 0.3)})
    full, half, quarter = Smoothness().per_scale(scene(step(0.5, 0.5, 3)), same).tolist()
    assert (half, quarter) == pytest.approx((full / 2, full / 4))
