"""FeatDepth's loss terms against the published code, and on scenes with a known answer."""

import pytest
import torch

from layers import edge_aware_curvature, edge_aware_gradient
from losses._features import Features
from losses.feature_gradients import FeatureGradients
from losses.feature_metric import EPSILON, FeatureMetric
from losses.photometric import Photometric
from losses.reconstruction import Reconstruction
from losses.smoothness import Smoothness
from photometric_error import PhotometricTarget
from structures import Batch, Prediction
from tests.featdepth_goldens import Case, mean_std
from utils import InputError


def test_the_auto_encoders_losses_are_the_published_ones():
    case = Case("featdepth_autoencoder_losses", (48, 64))
    golden, image = case.golden, case.image("picture", 48, 64)
    sizes = [(24, 32), (12, 16), (6, 8), (3, 4), (3, 4)]
    features = [
        (-1 + 3 * case.image(f"feature_{n}", *size, channels=6)).requires_grad_()
        for n, size in enumerate(sizes)
    ]
    images = {n: case.image(f"reconstruction_{n}", 48 // 2**n, 64 // 2**n).requires_grad_() for n in range(4)}
    levels = FeatureGradients().per_level(image, features)
    scales = Reconstruction().per_scale(image, images) / 4
    for n, term in enumerate(levels):
        golden.close(f"smooth_loss_{n}", term)
    for n, term in enumerate(scales):
        golden.close(f"min_reconstruct_loss_{n}", term)
    total = levels.sum() + scales.sum()
    golden.close("total", total)
    total.backward()
    golden.close("grad_feature_0_meanstd", mean_std(features[0].grad))
    golden.close("grad_feature_0", features[0].grad[:, ::2])
    for n in range(1, 5):
        golden.close(f"grad_feature_{n}", features[n].grad)
    golden.close("grad_reconstruction_0_meanstd", mean_std(images[0].grad))
    golden.close("grad_reconstruction_0", images[0].grad[:, :, ::2, ::2])
    for n in range(1, 4):
        golden.close(f"grad_reconstruction_{n}", images[n].grad)
    first = FeatureGradients(1.0, 0.0).per_level(image, features)
    second = FeatureGradients(0.0, 1.0).per_level(image, features)
    weight = torch.tensor([5 * 2.0**n for n in range(5)])
    golden.close("first_order", -first * weight)
    golden.close("second_order", second * weight)


def test_a_ramp_has_a_gradient_and_no_curvature():
    ramp = torch.arange(8.0).expand(1, 2, 6, 8)
    image = torch.full((1, 3, 6, 8), 0.5)
    assert edge_aware_gradient(ramp, image) == 1
    assert edge_aware_curvature(ramp, image) == 0


def test_the_curvature_of_a_parabola_is_two_and_fades_at_an_edge():
    parabola = (torch.arange(5.0) ** 2).expand(1, 1, 3, 5)
    flat = torch.full((1, 3, 3, 5), 0.5)
    assert edge_aware_curvature(parabola, flat).item() == pytest.approx(2)
    edge = torch.tensor([0.0, 0, 1, 1, 1]).expand(1, 3, 3, 5)  # second differences 1, -1, 0
    fades = (2 * 2 * torch.exp(torch.tensor(-0.5)) + 2) / 3
    assert edge_aware_curvature(parabola, edge, 0.5).item() == pytest.approx(fades.item())


def test_a_map_of_two_rows_has_no_curvature_along_them():
    assert edge_aware_curvature(torch.rand(1, 4, 2, 2), torch.rand(1, 3, 2, 2)).isfinite()


def features_of(target, sources, grid):
    return Prediction({}, extra={"features": Features(target, sources, grid)})


def identity(height, width):
    theta = torch.eye(2, 3)[None]
    return torch.nn.functional.affine_grid(theta, (1, 1, height, width), align_corners=True)[None]


def test_equal_features_leave_only_epsilon():
    feature = torch.rand(1, 4, 6, 8)
    batch = Batch({0: torch.rand(1, 3, 12, 16)}, torch.eye(3)[None], torch.arange(1))
    loss = FeatureMetric()(batch, features_of(feature, feature[None], identity(6, 8)))
    assert loss.item() == pytest.approx(EPSILON**0.5, rel=1e-2)


def test_the_nearer_of_two_sources_counts():
    feature, grid = torch.zeros(1, 2, 6, 8), identity(6, 8)
    sources = torch.stack([feature + 0.3, feature - 0.1])
    prediction = features_of(feature, sources, grid.repeat(2, 1, 1, 1, 1))
    batch = Batch({0: torch.rand(1, 3, 12, 16)}, torch.eye(3)[None], torch.arange(1))
    assert FeatureMetric()(batch, prediction).item() == pytest.approx(0.1, rel=1e-3)
    assert FeatureMetric(reduction="mean")(batch, prediction).item() == pytest.approx(0.2, rel=1e-3)


def test_the_own_vehicle_costs_nothing():
    feature = torch.zeros(1, 2, 6, 8)
    mask = torch.zeros(1, 1, 12, 16, dtype=torch.bool)
    mask[..., 6:, :] = True
    batch = Batch({0: torch.rand(1, 3, 12, 16)}, torch.eye(3)[None], torch.arange(1), maps={"ego_mask": mask})
    loss = FeatureMetric()(batch, features_of(feature, feature[None] + 1, identity(6, 8)))
    assert loss.item() == pytest.approx(0.5, rel=1e-3)


def test_the_robust_difference_is_smooth_at_zero():
    images = torch.tensor([-0.1, 0.0, 0.001, 0.1]).expand(1, 1, 1, 4, 4).clone().requires_grad_()
    error = PhotometricTarget(torch.zeros(1, 1, 4, 4), 0.0, l1_epsilon=1e-6).error(images)
    expected = (images.detach() ** 2 + 1e-6).sqrt()
    assert torch.allclose(error, expected)
    error.sum().backward()
    assert torch.allclose(images.grad, images.detach() / expected)


def test_a_reconstruction_of_itself_costs_only_epsilon():
    image = torch.rand(1, 3, 16, 16)
    small = {n: torch.nn.functional.interpolate(image, scale_factor=0.5**n, mode="area") for n in range(4)}
    costs = Reconstruction().per_scale(image, small)
    assert costs.max().item() == pytest.approx(0.15e-3, rel=1e-2)
    assert Reconstruction(image_resize="bilinear").per_scale(image, small)[2:].min() > 0.01


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: FeatureMetric(reduction="max"), "reduction is 'min' or 'mean', got 'max'"),
        (lambda: FeatureGradients(discriminative=-1), r"must be at least 0, got -1 and 0\.001"),
        (lambda: Reconstruction(ssim_weight=2), r"ssim_weight must be in \[0, 1\], got 2"),
        (lambda: Reconstruction(image_resize="nearest"), "one of area, bilinear, lanczos, got 'nearest'"),
        (lambda: Photometric(l1_epsilon=-1), "l1_epsilon must be at least 0, got -1; the published one"),
        (lambda: Smoothness(sharpness=-1), r"sharpness must be at least 0, got -1; FeatDepth has 0\.5"),
    ],
)
def test_impossible_settings_are_refused(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()
