"""Camera models: projection inverts the rays and equals OpenCV's, also after resize, crop and mirror."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import layers
from cameras import (
    BrownConrady,
    DoubleSphere,
    KannalaBrandt,
    Pinhole,
    RaySurface,
    Unified,
    read_camera,
    sampling_grid,
    write_camera,
)
from structures import Batch
from tests.goldens import Golden, image, tensor
from utils import InputError

H, W = 48, 64
K = torch.tensor([[40.0, 0, 33.0], [0, 42.0, 22.5], [0, 0, 1]])[None]
WIDE = torch.tensor([[18.0, 0, 31.0], [0, 18.5, 24.0], [0, 0, 1]])[None]
SPHERE = torch.tensor([[36.0, 0, 31.0], [0, 37.0, 24.0], [0, 0, 1]])[None]
NARROWER = torch.tensor([[22.0, 0, 31.0], [0, 22.5, 24.0], [0, 0, 1]])[None]
LENS = torch.tensor([[-0.28, 0.07, 0.002, -0.003, -0.008]])
FISHEYE = torch.tensor([[0.02, -0.004, 0.001, -0.0003]])
MODELS = {
    "pinhole": Pinhole(K),
    "brown_conrady": BrownConrady(K, LENS),
    "brown_conrady 8": BrownConrady(K, torch.tensor([[0.4, 0.1, 0.001, 0.002, 0.01, 0.7, 0.15, 0.02]])),
    "kannala_brandt": KannalaBrandt(WIDE, FISHEYE),
    "unified": Unified(SPHERE, torch.tensor([0.9])),
    "unified beyond 1": Unified(SPHERE, torch.tensor([1.3])),
    "double_sphere": DoubleSphere(WIDE, torch.tensor([-0.2]), torch.tensor([0.59])),
    "ray_surface": RaySurface(KannalaBrandt(NARROWER, FISHEYE).rays(H, W).unflatten(2, (H, W))),
}
each = pytest.mark.parametrize("camera", MODELS.values(), ids=MODELS)
PIXELS = layers.pixel_grid(H, W)[:2]


def depths(seed=0):
    return 1 + 9 * torch.rand(1, 1, H * W, generator=torch.Generator().manual_seed(seed))


@each
def test_projecting_a_pixels_ray_gives_the_pixel(camera):
    rays = camera.rays(H, W)
    assert rays.shape == (1, 3, H * W)
    seen = camera.sees(H, W).flatten()
    pixels, valid = camera.project(rays * depths())
    assert pixels.shape == (1, 2, H * W) and valid.shape == (1, H * W)
    assert seen.float().mean() > 0.9
    assert torch.equal(valid[0], seen)
    assert (pixels[0] - PIXELS)[:, seen].abs().max() < 2e-3


@each
def test_rays_have_unit_length_where_depth_is_distance(camera):
    rays = camera.rays(H, W)[:, :, camera.sees(H, W).flatten()]
    length = rays.norm(dim=1) if camera.depth_is_distance else rays[:, 2]
    assert torch.allclose(length, torch.ones_like(length), atol=1e-5)


@each
def test_mirrored_points_have_mirrored_pixels(camera):
    points = camera.rays(H, W) * depths()
    mirrored, valid = camera.mirrored(W).project(points * torch.tensor([[-1.0], [1], [1]]))
    assert torch.equal(valid[0], camera.sees(H, W).flatten())
    expected = torch.stack([W - 1 - PIXELS[0], PIXELS[1]])
    assert (mirrored[0] - expected)[:, valid[0]].abs().max() < 2e-3


@each
def test_mirroring_twice_restores_the_camera(camera):
    points = camera.rays(H, W)
    twice = camera.mirrored(W).mirrored(W)
    assert torch.allclose(twice.project(points)[0], camera.project(points)[0], atol=1e-3)


@each
def test_unflipped_sample_keeps_its_rays(camera):
    both = camera.repeat(2).mirrored(W, torch.tensor([False, True]))
    rays = both.rays(H, W)
    assert torch.equal(rays[0], camera.rays(H, W)[0])
    assert torch.allclose(rays[1], camera.mirrored(W).rays(H, W)[0])


@each
def test_crop_has_the_rays_of_its_pixels(camera):
    part = camera.cropped(8, 12, 24, 40).rays(24, 40).unflatten(2, (24, 40))
    whole = camera.rays(H, W).unflatten(2, (H, W))[:, :, 8:32, 12:52]
    assert torch.allclose(part, whole, atol=1e-5)


@each
def test_pixel_centres_move_by_half_pixels_when_resized(camera):
    points = camera.rays(H, W) * depths()
    seen = camera.sees(H, W).flatten()
    larger, valid = camera.resized((H, W), (2 * H, 3 * W)).project(points)
    expected = (PIXELS + 0.5) * torch.tensor([[3.0], [2.0]]) - 0.5
    inner = seen & valid[0] & (PIXELS[0] > 1) & (PIXELS[0] < W - 2) & (PIXELS[1] > 1) & (PIXELS[1] < H - 2)
    assert inner.float().mean() > 0.8
    assert (larger[0] - expected)[:, inner].abs().max() < 0.05


@each
def test_window_of_each_sample_has_the_rays_of_its_pixels(camera):
    scale = torch.tensor([[1.5, 1.5], [1.0, 2.0]])
    offset = torch.tensor([[13.0, 11.0], [5.0, 30.0]])
    views = camera.repeat(2).zoomed(scale, offset, (24, 32))
    points = camera.rays(H, W) * depths()
    pixels, valid = views.project(points.repeat(2, 1, 1))
    expected = (PIXELS + 0.5) * scale[:, :, None] - 0.5 - offset[:, :, None]
    for n in range(2):
        x, y = expected[n]
        inner = (x > 0) & (x < 31) & (y > 0) & (y < 23)
        assert inner.sum() > 200 and valid[n, inner].all()
        assert (pixels[n] - expected[n])[:, inner].abs().max() < 0.05


@each
def test_rays_and_pixels_have_finite_gradients(camera):
    points = (camera.rays(H, W) * depths()).requires_grad_()
    pixels, _ = camera.project(points)
    pixels.square().mean().backward()
    assert torch.isfinite(points.grad).all() and points.grad.abs().sum() > 0


@each
def test_points_behind_the_camera_are_not_seen(camera):
    behind = torch.tensor([0.01, 0.02, -1.0])[None, :, None]
    pixels, valid = camera.project(behind)
    assert not valid.any() and torch.isfinite(pixels).all()


@each
def test_camera_file_round_trip(camera, tmp_path):
    write_camera(tmp_path / "camera.yaml", camera)
    read = read_camera(tmp_path / "camera.yaml")
    assert type(read) is type(camera)
    assert torch.allclose(read.rays(H, W), camera.rays(H, W), atol=1e-6)


@each
def test_batch_collates_and_moves_cameras(camera):
    sample = Batch({0: torch.zeros(1, 3, H, W)}, K, torch.zeros(1, dtype=torch.int64), camera=camera)
    batch = Batch.cat([sample, sample])
    assert torch.equal(batch.camera.rays(H, W), camera.rays(H, W).repeat(2, 1, 1))
    assert type(batch.map(lambda t: t.double()).camera) is type(camera)


@each
def test_the_nearest_pinhole_agrees_close_to_the_axis(camera):
    k = camera.nearest_pinhole(H, W)
    axis = torch.tensor([0.0, 0.0, 1.0])[None, :, None]
    assert (layers.project(axis, k)[0] - camera.project(axis)[0]).abs().max() < 1.5


def test_rays_are_cached_until_a_tensor_changes():
    camera = KannalaBrandt(WIDE.clone(), FISHEYE)
    first = camera.rays(H, W)
    assert camera.rays(H, W) is first
    camera.intrinsics[:, 0, 2] += 1
    assert not torch.equal(camera.rays(H, W), first)
    with torch.inference_mode():
        made = KannalaBrandt(WIDE.clone(), FISHEYE.clone())
        assert made.rays(H, W) is made.rays(H, W)


def test_rays_with_a_gradient_are_not_cached():
    camera = KannalaBrandt(WIDE, FISHEYE.clone().requires_grad_())
    for _ in range(2):
        camera.rays(H, W).sum().backward()
    assert camera.distortion.grad.abs().sum() > 0


@each
def test_computation_stays_on_the_device_of_the_tensors(camera):
    away = Batch({}, K, torch.zeros(1), camera=camera).map(lambda tensor: tensor.to("meta")).camera
    points = away.rays(H, W)
    for moved in (away.resized((H, W), (24, 32)), away.cropped(0, 0, 24, 32)):
        assert moved.mirrored(32).rays(24, 32).is_meta
    pixels, valid = away.project(points)
    assert pixels.is_meta and valid.is_meta and away.nearest_pinhole(H, W).is_meta
    depth, T = torch.ones(1, 1, H, W, device="meta"), torch.eye(4, device="meta")[None]
    assert sampling_grid(depth, away, away, T).is_meta


# Against OpenCV.


@pytest.mark.parametrize("name", ["brown_conrady", "brown_conrady 8"])
def test_brown_conrady_is_opencvs_projection(name):
    camera = MODELS[name]
    points = camera.rays(H, W) * depths()
    shifted = points + torch.tensor([0.1, -0.05, 0.3])[:, None]
    matrix, bend = K[0].double().numpy(), camera.distortion[0].double().numpy()
    expected, _ = cv2.projectPoints(shifted[0].T.double().numpy(), np.zeros(3), np.zeros(3), matrix, bend)
    pixels, valid = camera.project(shifted)
    assert valid.all()
    assert np.abs(pixels[0].T.numpy() - expected[:, 0]).max() < 1e-3


def test_kannala_brandt_is_opencvs_fisheye_projection():
    camera = MODELS["kannala_brandt"]
    points = camera.rays(H, W) * depths()
    points = points[:, :, (points[0, 2] > 0.1)]  # OpenCV divides by z
    matrix, bend = WIDE[0].double().numpy(), FISHEYE[0].double().numpy()
    expected, _ = cv2.fisheye.projectPoints(
        points[0].T.double().numpy()[:, None], np.zeros(3), np.zeros(3), matrix, bend
    )
    pixels, valid = camera.project(points)
    assert valid.all()
    assert np.abs(pixels[0].T.numpy() - expected[:, 0]).max() < 1e-3


# Known answers.


def test_an_equidistant_lens_has_radius_focal_times_angle():
    camera = KannalaBrandt(WIDE, torch.zeros(1, 4))
    angle = torch.tensor(2.0)  # radians: behind the camera's plane
    point = torch.stack([angle.sin(), torch.zeros(()), angle.cos()])[None, :, None]
    pixels, valid = camera.project(point)
    assert valid.all() and pixels[0, :, 0].tolist() == pytest.approx([31 + 18 * 2, 24], abs=1e-4)


def test_a_unified_camera_with_xi_0_is_a_pinhole():
    points = Pinhole(K).rays(H, W) * depths()
    assert torch.allclose(
        Unified(K, torch.zeros(1)).project(points)[0], Pinhole(K).project(points)[0], atol=1e-4
    )


def test_a_double_sphere_with_alpha_0_is_the_unified_camera():
    points = MODELS["unified"].rays(H, W) * depths()
    k = MODELS["unified"].intrinsics
    double = DoubleSphere(k, torch.tensor([0.9]), torch.zeros(1))
    assert torch.allclose(double.project(points)[0], MODELS["unified"].project(points)[0], atol=1e-4)


def test_polynomial_that_turns_back_shows_no_point_outside_it():
    camera = BrownConrady(K, torch.tensor([[-0.3, 0.0, 0.0, 0.0]]))
    wide = torch.tensor([2.0, 0.0, 1.0])[None, :, None]  # its formula gives x' = 2 (1 - 0.3 * 4) = -0.4
    assert not camera.project(wide)[1].any()


def test_dark_corners_of_a_fisheye_have_no_ray():
    camera = KannalaBrandt(WIDE / torch.tensor([[4.0], [4.0], [1.0]]) + 0, torch.zeros(1, 4))
    camera.intrinsics[:, :2, 2] = torch.tensor([31.5, 23.5])
    seen = camera.sees(H, W)[0, 0]
    assert seen[24, 32] and not seen[0, 0]
    assert (camera.rays(H, W)[0, :, 0] == 0).all()


def test_the_inverse_of_a_polynomial_has_its_derivative():
    bend = FISHEYE.double().requires_grad_()
    camera = KannalaBrandt(WIDE.double(), bend)

    def ray(bend):
        return KannalaBrandt(camera.intrinsics, bend)._unproject(
            torch.tensor([[0.8]], dtype=torch.double), torch.tensor([[0.3]], dtype=torch.double)
        )

    assert torch.autograd.gradcheck(ray, (bend,), eps=1e-6, atol=1e-5)


# View synthesis.


def test_grid_between_pinholes_is_that_of_layers():
    depth = depths().view(1, 1, H, W)
    T = layers.pose_matrix(torch.tensor([[0.01, 0.02, -0.01]]), torch.tensor([[0.2, 0.0, 0.5]]))
    assert torch.equal(sampling_grid(depth, Pinhole(K), Pinhole(K), T), layers.sampling_grid(depth, K, T))


def test_the_general_path_gives_a_pinholes_grid():
    depth = depths().view(1, 1, H, W)
    T = layers.pose_matrix(torch.tensor([[0.01, 0.02, -0.01]]), torch.tensor([[0.2, 0.0, 0.5]]))
    bent = BrownConrady(K, torch.zeros(1, 4))
    assert torch.allclose(sampling_grid(depth, bent, bent, T), layers.sampling_grid(depth, K, T), atol=1e-4)


@each
def test_camera_without_motion_samples_the_identity(camera):
    depth = depths().view(1, 1, H, W)
    grid = sampling_grid(depth, camera, camera, torch.eye(4)[None])
    identity = torch.stack([2 * PIXELS[0] / (W - 1) - 1, 2 * PIXELS[1] / (H - 1) - 1], 1)
    seen = camera.sees(H, W).flatten()
    found = grid.reshape(-1, 2)
    assert (found - identity)[seen].abs().max() < 2e-4
    assert (found[~seen] == -2).all()


def test_a_fisheye_and_a_pinhole_see_the_same_wall():
    wall = image("wall", 1, H, W)
    pinhole = Pinhole(torch.tensor([[20.0, 0, 31.5], [0, 20.0, 23.5], [0, 0, 1]])[None])
    fisheye = KannalaBrandt(WIDE, FISHEYE)
    rays = fisheye.rays(H, W)
    ahead = (rays[0, 2] > 0.5).view(H, W)
    distance = 4 / rays[:, 2:].clamp(min=0.1)  # to a wall 4 m ahead
    seen = F.grid_sample(
        tensor(wall),
        sampling_grid(distance.view(1, 1, H, W), fisheye, pinhole, torch.eye(4)[None]),
        align_corners=True,
    )
    pixels, _ = pinhole.project(rays)
    for row, column in [(24, 31), (20, 40), (30, 25)]:
        assert ahead[row, column]
        x, y = pixels[0, :, row * W + column].tolist()
        x0, y0 = int(x), int(y)
        a, b = wall[0, :, y0 : y0 + 2, x0 : x0 + 2], np.outer([y0 + 1 - y, y - y0], [x0 + 1 - x, x - x0])
        assert np.allclose(seen[0, :, row, column].numpy(), (a * b).sum((1, 2)), atol=1e-4)


# Refusals.


def test_a_ray_surface_of_another_size_is_refused():
    with pytest.raises(InputError, match="64x48 rays and the image is 32x24"):
        MODELS["ray_surface"].rays(24, 32)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model: kannala", "there is no camera model 'kannala'"),
        ("fx: 3", "is not a camera file"),
        ("model: [", "is not YAML"),
        ("model: kannala_brandt\nintrinsics: [9, 9, 4, 4]\n", "needs 'distortion'"),
        ("model: kannala_brandt\nintrinsics: [9, 9, 4, 4]\ndistortion: [1]", "takes 4 finite numbers"),
        ("model: unified\nintrinsics: [9, 9, 4, 4]\nxi: 1\nalpha: 2", "has no parameter 'alpha'"),
        ("model: pinhole\nintrinsics: [-9, 9, 4, 4]", "fx and fy must be positive"),
        ("model: pinhole\nintrinsics: [a, b, c, d]", "must be numbers"),
        ("model: ray_surface\nrays: gone.npy", "there is no ray template"),
    ],
)
def test_invalid_camera_file_is_refused(text, sentence, tmp_path):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_camera(tmp_path / "camera.yaml")


# Recorded numbers of PackNet-SfM.


def rebuilt_pose(golden):
    return tensor(golden["pose"])


def test_packnets_pinhole_lifts_and_projects_to_the_same_points():
    golden = Golden("packnet_geometry")
    depth = 1 / tensor(0.02 + 0.48 * image("B/packnet_geometry/inv_depth", 2, 48, 64, 1))
    camera, T = Pinhole(tensor(golden["K"])), rebuilt_pose(golden)
    points = camera.rays(48, 64) * depth.flatten(2)
    golden.close("points_camera", points.unflatten(2, (48, 64))[:, :, ::2, ::2])
    grid = sampling_grid(depth, camera, camera, T)
    inside = (grid.abs() < 1).all(-1)  # values far outside have no bound
    assert np.abs(grid.numpy() - golden["project"])[inside].max() < 2e-5
    still = sampling_grid(depth, camera, camera, torch.eye(4).repeat(2, 1, 1))
    golden.close("project_camera_frame", still, relative=4e-6)
    reference = tensor(image("B/packnet_geometry/reference", 2, 48, 64))
    for padding in ("zeros", "border"):
        warped = F.grid_sample(reference, grid, padding_mode=padding, align_corners=True)
        golden.close(f"synthesis_{padding}", warped, relative=2e-5)


def test_packnets_scaled_intrinsics_move_by_half_pixels():
    golden = Golden("packnet_geometry")
    camera = Pinhole(tensor(golden["K"]))
    for name, size in (("0_5", (24, 32)), ("0_25", (12, 16)), ("xy", (36, 32))):
        golden.close(f"K_scaled_{name}", camera.resized((48, 64), size).intrinsics)
