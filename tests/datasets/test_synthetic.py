"""The synthetic world: depth from its geometry, and images that agree with it."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cameras import sampling_grid
from datasets.synthetic import Camera, FisheyeCamera, World, rotation
from datasets.synthetic._paint import _stripes

HEIGHT, WIDTH = 96, 320
CAMERA = Camera.like_kitti(HEIGHT, WIDTH)


def looking_ahead(x: float = 0.0, y: float = 0.0, z: float = 1.65) -> np.ndarray:
    """(4, 4) rig_from_camera: along the rig's x axis, from metres (x, y, z)."""
    rig_from_camera = np.eye(4)
    rig_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    rig_from_camera[:3, 3] = x, y, z
    return rig_from_camera


def warp(source: np.ndarray, depth: np.ndarray, T_source_from_target: np.ndarray):
    """`source` (H, W, ...) resampled into the target view, and the depth (H, W) there is from the source."""
    v, u = (a.ravel() for a in np.mgrid[:HEIGHT, :WIDTH])
    points = CAMERA.directions(u, v) * depth.ravel()
    points = T_source_from_target[:3, :3] @ points + T_source_from_target[:3, 3:]
    pixels = CAMERA.intrinsics @ points
    pixels = (pixels[:2] / np.maximum(pixels[2], 1e-6)).reshape(2, HEIGHT, WIDTH).astype(np.float32)
    return cv2.remap(source, *pixels, cv2.INTER_LINEAR, borderValue=-1), points[2].reshape(HEIGHT, WIDTH)


def agreement(target, source, T_source_from_target) -> tuple[float, float, float]:
    """Mean colour difference with and without warping, over static pixels seen in both; their share."""
    image, other = (view.image.astype(np.float32) / 255 for view in (target, source))
    warped, there = warp(other, target.depth, T_source_from_target)
    source_depth, _ = warp(source.depth, target.depth, T_source_from_target)
    source_moving, _ = warp(source.moving.astype(np.float32), target.depth, T_source_from_target)
    seen = (target.depth > 0) & (source_depth > 0) & (np.abs(source_depth - there) < 0.02 * there)
    seen &= ~target.moving & (source_moving == 0)
    with_warp, without = np.abs(warped - image).mean(-1)[seen], np.abs(other - image).mean(-1)[seen]
    return with_warp.mean(), without.mean(), seen.mean()


def test_equal_seeds_give_equal_bytes():
    views = [World(seed, 3.0).render(CAMERA, looking_ahead(), 0.0) for seed in (5, 5, 6)]
    for name in ("image", "depth", "semantics", "moving"):
        first, same = (getattr(view, name) for view in views[:2])
        assert first.tobytes() == same.tobytes()
    assert not np.array_equal(views[0].image, views[2].image)


def test_ground_depth_follows_from_camera_height_and_row():
    world = World(1, 3.0)
    view = world.render(CAMERA, looking_ahead(z=1.65), 0.0)
    ground = np.isin(view.semantics, (0, 1, 9))  # road, sidewalk, terrain
    rows = np.nonzero(ground)[0]
    expected = 1.65 * CAMERA.intrinsics[1, 1] / (rows - CAMERA.intrinsics[1, 2])
    assert ground.mean() > 0.15
    np.testing.assert_allclose(view.depth[ground], expected, rtol=1e-4)


def test_only_sky_has_no_depth():
    view = World(0, 3.0).render(CAMERA, looking_ahead(), 0.0)
    assert (view.semantics == 10).any()
    assert np.array_equal(view.depth == 0, view.semantics == 10)
    assert view.image.dtype == np.uint8 and view.depth.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_next_frame_warped_with_ground_truth_is_this_frame(seed):
    world = World(seed, 3.0)
    poses = [world.ego_pose(t) @ looking_ahead() for t in (1.0, 1.1)]
    target, source = (world.render(CAMERA, pose, t) for pose, t in zip(poses, (1.0, 1.1)))
    error, unwarped, share = agreement(target, source, np.linalg.inv(poses[1]) @ poses[0])
    assert share > 0.25
    assert error < unwarped / 3
    assert error < 0.015


def test_right_image_is_shifted_by_focal_baseline_over_depth():
    world = World(2, 3.0)
    left, right = (world.render(CAMERA, looking_ahead(y=y), 0.5) for y in (0.0, -0.54))
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    disparity = CAMERA.intrinsics[0, 0] * 0.54 / np.where(left.depth > 0, left.depth, np.inf)
    there = u - disparity.astype(np.float32)
    warped = cv2.remap(right.image, there, v, cv2.INTER_LINEAR)
    right_depth = cv2.remap(right.depth, there, v, cv2.INTER_LINEAR)
    seen = (left.depth > 0) & (np.abs(right_depth - left.depth) < 0.02 * left.depth) & (there >= 0)
    error, unwarped = (np.abs(a.astype(float) - left.image)[seen].mean() for a in (warped, right.image))
    assert seen.mean() > 0.5
    assert error < unwarped / 3


def test_lidar_agrees_with_the_depth_of_the_camera():
    world, time = World(3, 3.0), 1.0
    world_from_rig = world.ego_pose(time)
    rig_from_lidar = np.eye(4)
    rig_from_lidar[:3, 3] = 0, 0, 1.65  # at the camera's position, so that both see the same surfaces
    scan = world.scan(world_from_rig @ rig_from_lidar, time, beams=32, azimuths=720)
    view = world.render(CAMERA, world_from_rig @ looking_ahead(), time)
    points = np.linalg.inv(looking_ahead()) @ rig_from_lidar @ np.c_[scan[:, :3], np.ones(len(scan))].T
    points = points[:3, points[2] > 1]
    u, v, _ = (CAMERA.intrinsics @ points / points[2]).round().astype(int)
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
    seen = view.depth[v[inside], u[inside]]
    error = np.abs(seen - points[2, inside]) / points[2, inside]
    assert inside.sum() > 1000
    assert np.median(error) < 0.02
    assert scan.dtype == np.float32 and scan[:, 3].min() >= 0 and scan[:, 3].max() <= 1


def test_vehicle_drives_at_its_speed_without_collision():
    for seed in range(6):
        world = World(seed, 4.0)
        poses = [world.ego_pose(t) for t in np.arange(0, 4, 0.1)]
        steps = np.linalg.norm(np.diff([pose[:2, 3] for pose in poses], axis=0), axis=1) * 10  # m/s
        assert steps.min() > 3.5 and steps.max() < 15
        nearest = min(
            world.render(CAMERA, pose @ looking_ahead(), t).depth[HEIGHT // 2 :, WIDTH // 2].min()
            for pose, t in list(zip(poses, np.arange(0, 4, 0.1)))[::8]
        )
        assert nearest > 2


def test_rotation_turns_forward_to_the_left_and_pitches_it_down():
    np.testing.assert_allclose(rotation(np.pi / 2)[:3, 0], (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(rotation(0, np.pi / 2)[:3, 0], (0, 0, -1), atol=1e-12)


def test_fine_stripes_become_their_mean():
    x = np.linspace(0, 7, 50)
    np.testing.assert_allclose(_stripes(x, 0.01, 0.004, np.full(50, 2.0)), 0.4, atol=0.002)
    np.testing.assert_allclose(_stripes(np.array([0.5, 1.5]), 2.0, 1.0, np.full(2, 0.01)), (1, 0), atol=1e-9)


def test_drive_of_zero_seconds_is_refused():
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        World(0, 0)


def test_mean_depth_map_is_a_poor_predictor():
    camera = Camera(np.diag([0.2, 0.2, 1]) @ CAMERA.intrinsics, 64, 20)
    depths = []
    for seed in range(12):
        world = World(seed, 3.0)
        depths.append(
            [world.render(camera, world.ego_pose(t) @ looking_ahead(), t).depth for t in (0.5, 2.5)]
        )
    depths = np.ma.masked_outside(np.array(depths), 0.1, 80)
    mean, ground_truth = depths[:9].mean((0, 1)).filled(80), depths[9:].reshape(-1, 20, 64)
    errors = [
        np.abs(mean * np.ma.median(d / mean) - d).filled(0)[~d.mask] / d.data[~d.mask] for d in ground_truth
    ]
    assert np.mean([error.mean() for error in errors]) > 0.25


# The fisheye.

FISHEYE = FisheyeCamera.of_size(HEIGHT, WIDTH)


def test_every_pixel_of_the_fisheye_has_a_ray():
    model = FISHEYE.model
    assert model.sees(HEIGHT, WIDTH).all() and FisheyeCamera.of_size(64, 64).model.sees(64, 64).all()
    x, _, z = model.rays(HEIGHT, WIDTH)[0].unflatten(1, (HEIGHT, WIDTH))[:, HEIGHT // 2, 0].tolist()
    assert np.degrees(np.arctan2(-x, z)) > 80


def test_ground_of_a_fisheye_is_at_camera_height_along_the_ray():
    view = World(1, 3.0).render(FISHEYE, looking_ahead(z=1.65), 0.0)
    ground = np.isin(view.semantics, (0, 1, 9))
    v, u = np.nonzero(ground)
    down = FISHEYE.directions(u, v)[1]
    assert ground.mean() > 0.15
    np.testing.assert_allclose(view.depth[ground] * down, 1.65, rtol=1e-4)


def test_fisheye_images_agree_when_warped_with_ground_truth():
    world = World(0, 3.0)
    poses = [world.ego_pose(time) @ looking_ahead() for time in (1.0, 1.1)]
    target, source = (world.render(FISHEYE, pose, time) for pose, time in zip(poses, (1.0, 1.1)))
    camera = FISHEYE.model.repeat(1)
    camera.intrinsics, camera.distortion = camera.intrinsics.float(), camera.distortion.float()
    T = torch.from_numpy(np.linalg.inv(poses[1]) @ poses[0])[None].float()
    depth = torch.from_numpy(target.depth)[None, None]
    grid = sampling_grid(depth, camera, camera, T)

    def seen(values):
        values = torch.from_numpy(np.ascontiguousarray(values)).float()
        return F.grid_sample(
            values.reshape(1, HEIGHT, WIDTH, -1).permute(0, 3, 1, 2), grid, align_corners=True
        )

    points = camera.rays(HEIGHT, WIDTH) * depth.flatten(2)
    there = (T[:, :3, :3] @ points + T[:, :3, 3:]).norm(dim=1).view(HEIGHT, WIDTH)
    found = seen(source.depth)[0, 0]
    static = ~target.moving & (seen(source.moving)[0, 0] == 0).numpy() & (target.depth > 0)
    static &= ((found - there).abs() < 0.02 * there).numpy()
    warped = seen(source.image)[0].permute(1, 2, 0).numpy() / 255
    image, other = target.image / 255.0, source.image / 255.0
    error, unwarped = np.abs(warped - image)[static].mean(), np.abs(other - image)[static].mean()
    assert static.mean() > 0.25
    assert error < 0.02 and error < 0.4 * unwarped
