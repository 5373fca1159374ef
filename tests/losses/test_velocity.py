"""Velocity: translations of length speed times time cost nothing; unknown speeds are left out."""

import pytest
import torch

from losses.velocity import Velocity, find_collapse
from structures import Batch, Prediction
from tests.goldens import Golden, tensor, uniform
from tests.packnet_poses import packnet_pose
from utils import InputError


def scene(*translations, speed=(10.0, 10.0), time_step=(-0.1, 0.1), depth=None):
    """Sources -1 and 1 of a batch of one, each translated along z."""
    poses = {}
    for frame, length in zip((-1, 1), translations):
        T = torch.eye(4)[None].repeat(1, 1, 1)
        T[:, 2, 3] = length
        poses[frame] = T
    batch = Batch(
        {0: torch.zeros(1, 3, 4, 6)},
        torch.eye(3)[None],
        torch.zeros(1, dtype=torch.int64),
        speed={frame: torch.tensor([v]) for frame, v in zip((-1, 1), speed)},
        time_step={frame: torch.tensor([t]) for frame, t in zip((-1, 1), time_step)},
    )
    depth = torch.rand(1, 1, 4, 6) + 1 if depth is None else depth
    return batch, Prediction({}, depths={0: depth}, T_source_from_target=poses)


def test_translations_as_long_as_the_drive_cost_nothing():
    assert Velocity()(*scene(1.0, -1.0)).item() == pytest.approx(0, abs=1e-6)


def test_the_error_is_the_difference_of_lengths_in_metres():
    assert Velocity()(*scene(1.5, -0.8)).item() == pytest.approx((0.5 + 0.2) / 2, abs=1e-6)


def test_an_unknown_speed_is_left_out():
    loss = Velocity()(*scene(1.5, -0.8, speed=(float("nan"), 10.0)))
    assert loss.item() == pytest.approx(0.2, abs=1e-6)


def test_no_known_speed_costs_nothing_and_has_a_finite_gradient():
    batch, prediction = scene(1.5, -0.8, speed=(float("nan"),) * 2)
    T = prediction.T_source_from_target[1].requires_grad_()
    loss = Velocity()(batch, prediction)
    loss.backward()
    assert loss == 0 and torch.isfinite(T.grad).all()


def test_a_batch_without_speed_is_refused():
    batch, prediction = scene(1.0, 1.0)
    batch.speed = {}
    with pytest.raises(InputError, match=r"needs the speed.*speed\.csv"):
        Velocity()(batch, prediction)


def test_the_stereo_partner_has_no_speed():
    batch, prediction = scene(1.0, -1.0)
    prediction.T_source_from_target["s"] = 5 * torch.eye(4)[None]
    assert Velocity()(batch, prediction).item() == pytest.approx(0, abs=1e-6)


def test_loss_and_gradients_are_packnets():
    golden = Golden("packnet_velocity")
    vectors = [tensor(uniform(f"B/packnet_velocity/vec_{n}", (3, 6), -1, 1)).requires_grad_() for n in (0, 1)]
    recorded = [
        packnet_pose(tensor(uniform(f"B/packnet_velocity/gt_vec_{n}", (3, 6), -1, 1))) for n in (0, 1)
    ]
    distances = [pose[:, :3, 3].norm(dim=1) for pose in recorded]
    batch = Batch(
        {},
        torch.eye(3).repeat(3, 1, 1),
        torch.arange(3),
        speed={-1: distances[0] / 0.1, 1: distances[1] / 0.1},
        time_step={-1: torch.full((3,), -0.1), 1: torch.full((3,), 0.1)},
    )
    poses = {frame: packnet_pose(vector) for frame, vector in zip((-1, 1), vectors)}
    loss = Velocity()(batch, Prediction({}, T_source_from_target=poses))
    loss.backward()
    golden.close("loss", loss[None])
    for n, vector in enumerate(vectors):
        golden.close(f"grad_vec_{n}", vector.grad)


# Collapse.


def test_constant_depth_under_right_translations_is_named():
    flat = torch.full((1, 1, 4, 6), 12.0)
    sentence = find_collapse(*scene(1.02, -0.99, depth=flat))
    assert "depth is constant" in sentence and "from_epoch" in sentence
    assert Velocity().diagnose(*scene(1.02, -0.99, depth=flat)) == sentence


def test_depth_that_varies_is_sound():
    assert find_collapse(*scene(1.02, -0.99)) is None


def test_constant_depth_before_the_speed_is_learned_is_sound():
    assert find_collapse(*scene(0.001, -0.001, depth=torch.full((1, 1, 4, 6), 12.0))) is None


def test_constant_depth_without_a_known_speed_is_sound():
    flat = torch.full((1, 1, 4, 6), 12.0)
    assert find_collapse(*scene(1.0, 1.0, speed=(float("nan"),) * 2, depth=flat)) is None


def test_one_image_with_depth_is_enough_to_be_sound():
    batch, prediction = scene(1.0, -1.0, depth=torch.full((1, 1, 4, 6), 12.0))
    prediction.depths[0] = torch.cat([prediction.depths[0], torch.rand(1, 1, 4, 6) + 1])
    assert find_collapse(batch, prediction) is None
