"""Geometry and image operations: the recorded values and closed forms."""

import numpy as np
import pytest
import torch

from layers import (
    backproject,
    disparity_to_depth,
    disparity_to_inverse_depth,
    edge_aware_gradient,
    invert_rigid,
    pose_matrix,
    project,
    sample,
    sampling_grid,
    ssim_error,
    warp,
)
from photometric_error import PhotometricTarget
from tests.goldens import Golden, tensor
from utils import InputError


@pytest.fixture(scope="module")
def golden():
    return Golden("monodepth2_layers")


@pytest.fixture(scope="module")
def given(golden):
    return {name: tensor(value) for name, value in golden.inputs().items()}


def test_disparity_becomes_depth_as_published(golden, given):
    golden.close("scaled_disp", disparity_to_inverse_depth(given["disp"], 0.1, 100))
    golden.close("depth", disparity_to_depth(given["disp"], 0.1, 100))


def test_reversed_depth_bounds_are_refused():
    with pytest.raises(InputError, match="0 < min_depth < max_depth, got 5 and 1"):
        disparity_to_depth(torch.zeros(1), 5, 1)


@pytest.mark.parametrize(
    ("name", "axis_angle"),
    [("generic", "aa"), ("large", "aa_large"), ("tiny", "aa_tiny"), ("zero", "aa_zero")],
)
def test_poses_are_the_published_matrices(golden, given, name, axis_angle):
    angle, translation = given[axis_angle][:, 0], given["tr"][:, 0]
    golden.close(f"T_{name}", pose_matrix(angle, translation))
    golden.close(f"T_inv_{name}", pose_matrix(angle, translation, invert=True))


def test_pose_has_the_check_value_of_the_specification():
    T = pose_matrix(torch.tensor([[0.01, -0.02, 0.03]]), torch.tensor([[0.1, 0.2, -0.3]]))
    expected = [
        [0.9993501, -0.0300929, -0.0198453, 0.1],
        [0.0298929, 0.9995000, -0.0102976, 0.2],
        [0.0201453, 0.0096977, 0.9997500, -0.3],
    ]
    assert torch.allclose(T[0, :3], torch.tensor(expected), atol=1e-6)
    translation = torch.tensor([-0.0998700, -0.1939814, 0.3039691])
    assert torch.allclose(invert_rigid(T)[0, :3, 3], translation, atol=1e-6)


def test_a_motion_and_its_inverse_cancel(given):
    T = pose_matrix(given["aa"][:, 0], given["tr"][:, 0])
    assert torch.allclose(T @ invert_rigid(T), torch.eye(4).expand_as(T), atol=1e-6)


def test_the_warp_is_the_published_one(golden, given):
    K = torch.from_numpy(golden["K"])[:, :3, :3]
    T = torch.from_numpy(golden["warp_T"])
    grid = sampling_grid(given["dep"], K, T)
    golden.close("pix_coords", grid)
    golden.close("warp_ac_true", warp(given["img"], given["dep"], K, T))
    golden.close("warp_ac_false", sample(given["img"], grid, align_corners=False))
    points = backproject(given["dep"], K)
    golden.close("cam_points", torch.cat([points, torch.ones_like(points[:, :1])], 1))


def test_sampling_grid_equals_backproject_and_project(given):
    """`sampling_grid` is `backproject` and `project` in one, with another camera as the source too."""
    K = torch.tensor([[50.0, 0, 19.5], [0, 45.0, 11.5], [0, 0, 1]]).expand(2, 3, 3)
    K_source = torch.tensor([[60.0, 0, 21.0], [0, 61.0, 10.0], [0, 0, 1]]).expand(2, 3, 3)
    T = pose_matrix(0.1 * given["aa"][:2, 0], 0.3 * given["tr"][:2, 0])
    pixels, _ = project(backproject(given["dep"], K), K_source, T)
    grid = sampling_grid(given["dep"], K, T, K_source)
    height, width = given["dep"].shape[-2:]
    x, y = (grid[..., 0] + 1) * (width - 1) / 2, (grid[..., 1] + 1) * (height - 1) / 2
    assert torch.allclose(x.flatten(1), pixels[:, 0], atol=1e-3)
    assert torch.allclose(y.flatten(1), pixels[:, 1], atol=1e-3)


def test_sideways_step_shifts_wall_by_focal_baseline_over_depth():
    depth = torch.full((1, 1, 8, 64), 10.0)  # a wall, 10 m ahead
    intrinsics = torch.tensor([[[50.0, 0, 32], [0, 50.0, 4], [0, 0, 1]]])
    T_source_from_target = torch.eye(4)[None].clone()
    T_source_from_target[0, 0, 3] = 0.4  # metres
    pixels, z = project(backproject(depth, intrinsics), intrinsics, T_source_from_target)
    shift = pixels[0, 0] - torch.arange(64.0).repeat(8)  # (P,)
    assert torch.allclose(shift, torch.full_like(shift, 50 * 0.4 / 10), atol=1e-4)
    assert torch.allclose(z, torch.full_like(z, 10.0))


def test_nan_motion_gives_nan_gradient_and_no_crash():
    """The NaN lets training name the step; sampling itself would return the border and hide it."""
    T = torch.full((1, 4, 4), float("nan"), requires_grad=True)
    K = torch.tensor([[[50.0, 0, 32], [0, 50.0, 4], [0, 0, 1]]])
    warp(torch.rand(1, 3, 8, 64), torch.ones(1, 1, 8, 64), K, T).mean().backward()
    assert T.grad[:, :3].isnan().all()


def test_ssim_is_the_published_one(golden, given):
    golden.close("ssim", ssim_error(given["img"], given["img2"]))
    golden.close("ssim_near", ssim_error(given["img"], given["img3"]))
    golden.close("ssim_same", ssim_error(given["img"], given["img"]), relative=0)


def test_ssim_has_the_check_value_of_the_specification():
    x = torch.arange(60).view(1, 3, 4, 5) / 60
    error = ssim_error(x, 1 - x)
    assert error.mean().item() == pytest.approx(0.7046191, abs=1e-6)
    assert error[0, 0, 0, 0].item() == pytest.approx(0.5399677, abs=1e-6)


@pytest.mark.parametrize("weight", [0.85, 0.0, 1.0])
def test_fused_photometric_error_equals_the_readable_form(weight):
    torch.manual_seed(0)
    images = torch.rand(2, 3, 3, 20, 24, dtype=torch.float32, requires_grad=True)
    target = torch.rand(3, 3, 20, 24)
    fast = PhotometricTarget(target, weight).error(images)
    absolute = (images - target).abs().mean(2, keepdim=True)
    similarity = ssim_error(images, target.expand_as(images)).mean(2, keepdim=True)
    readable = weight * similarity + (1 - weight) * absolute
    upstream = torch.rand_like(readable)
    (fast_gradient,) = torch.autograd.grad(fast, images, upstream)
    (gradient,) = torch.autograd.grad(readable, images, upstream)
    assert torch.allclose(fast, readable, atol=2e-6)
    assert torch.allclose(fast_gradient, gradient, atol=5e-6)


def test_a_perfect_copy_has_no_photometric_error(given):
    assert PhotometricTarget(given["img"]).error(given["img"][None]).max() == 0


def test_smoothness_is_the_published_one(golden, given):
    disparity = given["disp"]
    golden.close("smooth", edge_aware_gradient(disparity, given["img"]))
    normalised = disparity / (disparity.mean((2, 3), keepdim=True) + 1e-7)
    golden.close("smooth_norm", edge_aware_gradient(normalised, given["img"]))


def test_a_ramp_without_edges_costs_its_slope():
    ramp = torch.arange(10.0).expand(1, 1, 6, 10)
    assert edge_aware_gradient(ramp, torch.zeros(1, 3, 6, 10)).item() == pytest.approx(1.0)
    assert np.isclose(edge_aware_gradient(ramp * 0, torch.rand(1, 3, 6, 10)).item(), 0)
