"""Ray surfaces: projection inverts the rays by default; the published softmax rule equals the goldens."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cameras import KannalaBrandt, Pinhole, RaySurface, sampling_grid
from cameras._ray_surface import published_temperature, residual_share
from layers import pixel_grid
from losses.photometric import Photometric
from losses.smoothness import Smoothness
from structures import Batch, Prediction
from tests.goldens import Golden, image, tensor, uniform
from tests.packnet_poses import packnet_pose
from utils import InputError

H, W = 96, 112
CASE = "packnet_generic_camera"


def published(directions, progress=0.0, **settings):
    temperature = published_temperature(progress)
    return RaySurface(directions, projection="softmax", temperature=temperature, **settings)


def close_by_mean(golden, name, full, slices):
    golden.close(name, full[slices])
    golden.close(f"{name}_meanstd", torch.stack([full.mean(), full.std(correction=0)]))


def lifted(golden):
    inv_depth = tensor(0.05 + 0.35 * image(f"B/{CASE}/inv_depth", 1, H, W, 1))
    return 1 / inv_depth, packnet_pose(tensor(uniform(f"B/{CASE}/vec", (1, 6), -0.05, 0.05)))


def test_backprojection_is_the_published_one():
    golden = Golden(CASE)
    depth, _ = lifted(golden)
    points = RaySurface(tensor(golden["rays"])).rays(H, W).unflatten(2, (H, W)) * depth
    close_by_mean(golden, "points", points, np.s_[:, :, ::4, ::4])


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_softmax_projection_is_the_published_one(progress):
    golden = Golden(CASE)
    depth, T = lifted(golden)
    camera = published(tensor(golden["rays"]), progress)
    grid = sampling_grid(depth, camera, camera, T)
    name = f"project_{progress}".replace(".", "_")
    close_by_mean(golden, name, grid, np.s_[:, ::2, ::2])
    if not progress:
        reference = tensor(image(f"B/{CASE}/reference", 1, H, W))
        warped = F.grid_sample(reference, grid, padding_mode="zeros", align_corners=True)
        close_by_mean(golden, "synthesis", warped, np.s_[:, :, ::2, ::2])


def test_softmax_projection_at_full_size_is_the_published_one():
    golden = Golden(CASE)
    depth, T = lifted(golden)
    camera = published(tensor(golden["rays"]), halve=False)
    grid = sampling_grid(depth, camera, camera, T)
    close_by_mean(golden, "project_nodownsample_rows", grid, np.s_[:, ::4, ::4])


@pytest.mark.parametrize("progress", [0.0, 0.2])
def test_the_loss_of_a_ray_surface_is_the_published_one(progress):
    case = "packnet_generic_photometric"
    golden = Golden(case)
    target = tensor(image(f"B6/{case}/image", 1, H, W))
    source = 0.7 * target + 0.3 * tensor(image(f"B6/{case}/context_0", 1, H, W))
    inv_depth = tensor(0.05 + 0.35 * image(f"B6/{case}/inv_depth", 1, H, W, 1)).requires_grad_()
    residual = tensor(-0.2 + 0.4 * image(f"B6/{case}/residual", 1, H, W)).requires_grad_()
    vector = tensor(uniform(f"B6/{case}/vec", (1, 6), -0.03, 0.03)).requires_grad_()
    camera = RaySurface.of(
        tensor(golden["template"]),
        residual,
        residual_share(progress),
        projection="softmax",
        temperature=published_temperature(progress),
    )
    grid = sampling_grid(1 / inv_depth, camera, camera, packnet_pose(vector))
    warped = F.grid_sample(source, grid, padding_mode="zeros", align_corners=True)
    batch = Batch({0: target, 1: source}, tensor(golden["K"]), torch.zeros(1))
    prediction = Prediction({0: inv_depth}, warped={0: warped[None]})
    photometric = Photometric(noise=0.0)(batch, prediction)
    smoothness = 1e-3 * Smoothness()(batch, prediction)
    (photometric + smoothness).backward()
    ending = str(progress).replace(".", "_")
    # The reference adds the smoothness to the photometric term in place, before it notes the latter.
    golden.close(f"photometric_loss_{ending}", photometric + smoothness)
    golden.close(f"smoothness_loss_{ending}", smoothness)
    golden.close(f"loss_{ending}", (photometric + smoothness)[None])
    golden.close(f"grad_vec_{ending}", vector.grad, relative=1e-4)
    golden.close(f"grad_inv_depth_{ending}", inv_depth.grad[:, :, ::2, ::2], relative=1e-4, outliers=1e-3)
    if progress:
        golden.close(f"grad_residual_{ending}", residual.grad[:, :, ::4, ::4], relative=1e-4, outliers=1e-3)


# The default.


def smooth_surface():
    K = torch.tensor([[50.0, 0, 55.5], [0, 50.0, 47.5], [0, 0, 1]])[None]
    rays = KannalaBrandt(K, torch.tensor([[0.02, -0.004, 0.0, 0.0]])).rays(H, W)
    return rays.unflatten(2, (H, W))


def test_refine_returns_the_own_pixel_and_softmax_drifts():
    K = torch.tensor([[400.0, 0, 55.5], [0, 400.0, 47.5], [0, 0, 1]])[None]
    directions = F.normalize(Pinhole(K).rays(H, W), dim=1).unflatten(2, (H, W))
    pixels = pixel_grid(H, W)[:2]
    error = {}
    for name, camera in (("refine", RaySurface(directions)), ("softmax", published(directions))):
        found, valid = camera.project(7 * camera.rays(H, W))
        assert valid.all()
        error[name] = (found[0] - pixels).norm(dim=0)
    assert error["refine"].max() < 0.01
    assert error["softmax"].max() > 0.5  # at the border


def test_refine_finds_rays_far_from_the_points_own_pixel():
    directions = smooth_surface()
    rays = directions.flatten(2).flip(2)  # the last point belongs to the first pixel
    found, valid = RaySurface(directions).project(rays)
    assert valid.all()
    assert (found[0] - pixel_grid(H, W)[:2].flip(1)).abs().max() < 0.01


def test_refine_projects_any_number_of_points():
    camera = RaySurface(smooth_surface())
    found, valid = camera.project(torch.tensor([[0.1, 0.0], [0.0, 0.2], [1.0, 1.0]])[None])
    assert found.shape == (1, 2, 2) and valid.all()


def test_batch_equals_its_samples():
    first, second = smooth_surface(), smooth_surface().flip(3) * torch.tensor([-1.0, 1, 1])[:, None, None]
    points = 3 * first.flatten(2)
    for make in (RaySurface, published):
        both = make(torch.cat([first, second])).project(points.repeat(2, 1, 1))[0]
        one = make(second).project(points)[0]
        assert torch.allclose(both[1], one[0], atol=1e-3)


def test_points_outside_of_the_surface_are_not_seen():
    camera = RaySurface(
        Pinhole(torch.tensor([[90.0, 0, 55.5], [0, 90.0, 47.5], [0, 0, 1]])[None]).rays(H, W).view(1, 3, H, W)
    )
    assert not camera.project(torch.tensor([[2.0], [0.0], [1.0]])[None])[1].any()


def test_gradient_is_that_of_the_lens():
    lens = KannalaBrandt(
        torch.tensor([[50.0, 0, 55.5], [0, 50.0, 47.5], [0, 0, 1]])[None],
        torch.tensor([[0.02, -0.004, 0.0, 0.0]]),
    )
    points = torch.tensor([[0.31, -0.2], [0.1, 0.4], [1.0, 0.8]])[None]
    gradients = []
    for camera in (lens, RaySurface(smooth_surface())):
        leaf = points.clone().requires_grad_()
        camera.project(leaf)[0].sum().backward()
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, rtol=0.02, atol=0.3)


def test_surface_gets_a_gradient_from_projected_points():
    directions = smooth_surface().requires_grad_()
    points = torch.tensor([[0.31], [0.1], [1.0]])[None]
    RaySurface(directions).project(points)[0].sum().backward()
    assert (directions.grad != 0).flatten(2).any(1).sum() == 4  # the corners of one cell


def test_the_softmax_computes_on_the_device_of_its_tensors():
    away = published(smooth_surface().to("meta"))
    assert away.project(away.rays(H, W))[0].is_meta


def test_residual_share_reaches_1_at_a_third_of_training():
    assert residual_share(0) == 0 and residual_share(0.5) == 1
    assert residual_share(0.1) == pytest.approx(10 ** (4 / 3) / 100)


def test_invalid_settings_are_refused():
    directions = smooth_surface()
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        RaySurface(directions, projection="softmaks")
    with pytest.raises(InputError, match="window must be odd"):
        RaySurface(directions, window=40)
    with pytest.raises(InputError, match="larger than 56x48"):
        published(directions, window=51).project(directions.flatten(2))
    with pytest.raises(InputError, match="one point for each of the 10752 pixels"):
        published(directions).project(directions.flatten(2)[:, :, :5])
