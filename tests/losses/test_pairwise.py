"""Pairwise consistency: almost zero for a perfect prediction, known values, and the published values."""

import dataclasses

import pytest
import torch

from layers import euler_to_rotation, rigid, ssim_error
from losses._pairs import compare_pairs
from losses.geometry_consistency import GeometryConsistency
from losses.pairwise import Pairwise
from structures import Batch
from tests.scdepth_goldens import ScDepthGolden, predicted_pair, tensor, uniform
from utils import InputError

SIZE = (48, 64)
PUBLISHED = {"reduction": "published", "published_warp": True}
OPTIONS = {
    "default": {},
    "v3": {},
    "no_ssim": {"ssim_weight": 0.0},
    "no_auto_mask": {"automask": False},
    "no_dynamic_mask": {"dynamic_mask": False},
    "no_min_optimize": {"reduction": "mean"},
    "plain": {"ssim_weight": 0.0, "automask": False, "dynamic_mask": False, "reduction": "mean"},
}


def pose(vector):
    """(B, 6) translation and Euler angles to (B, 4, 4)."""
    return rigid(euler_to_rotation(vector[:, 3:]), vector[:, :3])


def pose_vector(golden, name, low=0.06):
    return tensor(uniform(f"{golden.prefix}/{name}", (2, 6), -low, low)).requires_grad_()


@pytest.fixture
def wall(drawn_batch):
    """The drawn wall with its true depths and poses: a step of 0.3 m to the right each frame."""
    poses = {}
    for frame in (-1, 1):
        for pair, sign in (((frame, 0), -1), ((0, frame), 1)):
            poses[pair] = torch.eye(4).repeat(2, 1, 1)
            poses[pair][:, 0, 3] = sign * 0.3 * frame
    depths = {frame: torch.full((2, 1, 64, 96), 5.0) for frame in (0, -1, 1)}
    return drawn_batch, predicted_pair(depths, poses)


@pytest.mark.parametrize("option", OPTIONS)
def test_published_losses_and_gradients_are_met(option):
    golden = ScDepthGolden(f"scdepth_photo_geometry_{option}")
    batch, depths = golden.batch(SIZE), golden.depths(SIZE)
    vectors = {
        pair: pose_vector(golden, f"pose_{name}")
        for pair, name in {(-1, 0): "0", (1, 0): "1", (0, -1): "inv_0", (0, 1): "inv_1"}.items()
    }
    prediction = predicted_pair(depths, {pair: pose(vector) for pair, vector in vectors.items()})
    parts = Pairwise(**{**PUBLISHED, **OPTIONS[option]}).parts(batch, prediction)
    for name, part in zip(("photo", "geometry"), parts):
        golden.close(f"{name}_loss", part)
        leaves = [depths[0], depths[-1], *vectors.values()]
        names = ["target_depth", "reference_depth_0", "pose_0", "pose_1", "pose_inv_0", "pose_inv_1"]
        for leaf, gradient in zip(names, torch.autograd.grad(part, leaves, retain_graph=True)):
            outliers = 0.002 if "depth" in leaf else 0.0
            golden.close(f"{name}_grad_{leaf}", gradient, outliers=outliers)
    pairs = compare_pairs(batch, prediction, True, True)
    if option == "v3":
        golden.close("dynamic_mask", pairs.static_weight())
    if option == "default":
        golden.close("pair_color", pairs.difference[0])
        golden.close("pair_inconsistency", pairs.inconsistency[0])
        golden.close("pair_photometric", Pairwise(**PUBLISHED).error(pairs)[0])


def test_published_warp_is_met():
    golden = ScDepthGolden("scdepth_inverse_warp")
    images = {0: golden.image("target", SIZE)}
    images[1] = 0.8 * images[0] + 0.2 * golden.image("reference_0", SIZE)
    depths = {0: golden.map("target_depth", SIZE, 1.5, 7.5)}
    depths[1] = 0.85 * depths[0] + 0.15 * golden.map("reference_depth_0", SIZE, 1.5, 7.5)
    batch = Batch(images, golden["K"], torch.arange(2))
    T = pose(pose_vector(golden, "pose", 0.15).detach())
    prediction = predicted_pair(depths, {(1, 0): T, (0, 1): T})
    pairs = compare_pairs(batch, prediction, True, True)
    golden.close("picture_zeros", pairs.warped[0])
    computed, sampled = golden["computed_depth"], golden["sampled_depth_zeros"]
    expected = (computed - sampled).abs() / (computed + sampled)
    assert (pairs.inconsistency[0] - expected).abs().max() < 2e-4
    still = predicted_pair(depths, {(1, 0): torch.eye(4).repeat(2, 1, 1), (0, 1): T})
    golden.close("picture_identity", compare_pairs(batch, still, True, True).warped[0], stride=2)


def test_published_ssim_is_met():
    golden = ScDepthGolden("scdepth_smooth")
    golden.prefix = "B/scdepth_smooth"
    first, second = ((golden.image(name, SIZE) - 0.45) / 0.225 for name in ("picture", "second"))
    golden.close("ssim_distance", ssim_error(first, second, 3), stride=2)


def test_perfect_prediction_costs_almost_nothing(wall):
    batch, prediction = wall
    photometric, geometry = Pairwise().parts(batch, prediction)
    assert photometric < 0.03 and geometry < 1e-6
    assert GeometryConsistency()(batch, prediction) < 1e-6


def test_depths_of_5_and_10_disagree_by_a_third(wall):
    batch, prediction = wall
    for source in prediction.sources.values():
        source.depths[0] = torch.full((2, 1, 64, 96), 10.0)
    assert GeometryConsistency()(batch, prediction).item() == pytest.approx(1 / 3, abs=1e-6)


def test_points_behind_the_source_are_invalid(wall):
    batch, prediction = wall
    for frame in (-1, 1):
        prediction.T_source_from_target[frame][:, 2, 3] = -6.0
    pairs = compare_pairs(batch, prediction)
    assert not pairs.valid[::2].any() and pairs.valid[1::2].any()
    assert torch.isfinite(Pairwise()(batch, prediction))


def test_the_ego_mask_takes_part_in_no_pair(wall):
    batch, prediction = wall
    mask = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
    mask[..., 50:, :] = True
    masked = dataclasses.replace(batch, maps={"ego_mask": mask})
    assert not compare_pairs(masked, prediction).valid[..., 50:, :].any()


def test_content_that_a_rectified_source_lacks_is_invalid(wall):
    batch, prediction = wall
    seen = torch.ones(2, 1, 64, 96)
    seen[..., :30, :] = 0
    prediction.sources[1].extra["seen"] = seen
    valid = compare_pairs(batch, prediction).valid
    assert not valid[2:, :, :, :30].any() and valid[:2, :, :, :30].any() and valid[2:, :, :, 31:].any()


def test_the_minimum_forgives_a_source_that_is_occluded(wall):
    batch, prediction = wall
    batch = dataclasses.replace(batch, images={**batch.images, 1: 1 - batch.images[1]})
    settings = {"automask": False, "dynamic_mask": False}
    least, mean = (
        Pairwise(reduction=reduction, **settings)(batch, dataclasses.replace(prediction, extra={}))
        for reduction in ("min", "mean")
    )
    assert least < 0.75 * mean


def test_a_rig_is_compared_camera_by_camera(wall):
    batch, prediction = wall
    rig = dataclasses.replace(batch, cameras=2, index=torch.arange(1))
    assert torch.equal(Pairwise()(rig, prediction), Pairwise()(batch, prediction))


def test_few_valid_pixels_give_a_loss_and_gradient_of_0(wall):
    batch, prediction = wall
    depth = prediction.depths[0].requires_grad_()
    for frame in (-1, 1):
        prediction.T_source_from_target[frame] = prediction.T_source_from_target[frame].clone()
        prediction.T_source_from_target[frame][:, 0, 3] = 1e3
        prediction.sources[frame].T_source_from_target[0][:, 0, 3] = 1e3
    loss = Pairwise()(batch, prediction)
    loss.backward()
    assert loss == 0 and not depth.grad.any()


def test_depth_of_a_coarser_scale_is_refused(wall):
    batch, prediction = wall
    prediction.depths[0] = torch.ones(2, 1, 32, 48)
    with pytest.raises(InputError, match=r"at the images' size \(64, 96\), got \(32, 48\); set --scales 0"):
        GeometryConsistency()(batch, prediction)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ssim_weight": 1.5}, r"ssim_weight must be in \[0, 1\], got 1.5"),
        ({"ssim_radius": 0}, "ssim_radius must be at least 1, got 0"),
        ({"geometry_weight": -1}, "geometry_weight must be at least 0, got -1"),
        ({"reduction": "max"}, "reduction over pairs is min, mean, published, got 'max'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Pairwise(**settings)
