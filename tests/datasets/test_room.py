"""The synthetic room: closed, with depth from its geometry and images that agree with it."""

import itertools

import cv2
import numpy as np
import pytest

from datasets.synthetic import Camera, Room
from datasets.synthetic._room import BASE, CEILING, FLOOR

HEIGHT, WIDTH = 96, 128
CAMERA = Camera(np.array([[104.0, 0, 65.1], [0, 104.0, 50.7], [0, 0, 1]]), WIDTH, HEIGHT)
CAMERA_ON_RIG = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])


def pose(room: Room, time: float) -> np.ndarray:
    return room.ego_pose(time) @ CAMERA_ON_RIG


def look(room: Room, time: float):
    return room.render(CAMERA, pose(room, time), time)


def world_points(view, world_from_camera: np.ndarray) -> np.ndarray:
    """(3, H, W) metres."""
    v, u = (a.ravel() for a in np.mgrid[:HEIGHT, :WIDTH])
    points = CAMERA.directions(u, v) * view.depth.ravel()
    points = world_from_camera[:3, :3] @ points + world_from_camera[:3, 3:]
    return points.reshape(3, HEIGHT, WIDTH)


def warp(source: np.ndarray, depth: np.ndarray, T_source_from_target: np.ndarray):
    """`source` (H, W, ...) resampled into the target view, and the depth (H, W) there is from the source."""
    v, u = (a.ravel() for a in np.mgrid[:HEIGHT, :WIDTH])
    points = CAMERA.directions(u, v) * depth.ravel()
    points = T_source_from_target[:3, :3] @ points + T_source_from_target[:3, 3:]
    pixels = CAMERA.intrinsics @ points
    pixels = (pixels[:2] / np.maximum(pixels[2], 1e-6)).reshape(2, HEIGHT, WIDTH).astype(np.float32)
    return cv2.remap(source, *pixels, cv2.INTER_LINEAR, borderValue=-1), points[2].reshape(HEIGHT, WIDTH)


def test_equal_seeds_give_equal_bytes():
    views = [look(Room(seed, 3.0), 0.4) for seed in (5, 5, 6)]
    for name in ("image", "depth", "semantics", "moving"):
        assert getattr(views[0], name).tobytes() == getattr(views[1], name).tobytes()
    assert not np.array_equal(views[0].image, views[2].image)
    assert views[0].image.dtype == np.uint8 and views[0].depth.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_next_frame_warped_with_ground_truth_is_this_frame(seed):
    room = Room(seed, 3.0)
    target, source = look(room, 1.0), look(room, 1.1)
    T_source_from_target = np.linalg.inv(pose(room, 1.1)) @ pose(room, 1.0)
    image, other = (view.image.astype(np.float32) / 255 for view in (target, source))
    warped, there = warp(other, target.depth, T_source_from_target)
    source_depth, _ = warp(source.depth, target.depth, T_source_from_target)
    seen = np.abs(source_depth - there) < 0.02 * there
    error, unwarped = (np.abs(a - image).mean(-1)[seen].mean() for a in (warped, other))
    assert seen.mean() > 0.7
    assert error < unwarped / 3
    assert error < 0.015


def test_floor_and_ceiling_have_the_right_depth():
    for seed in range(3):
        room = Room(seed, 5.0)
        for time in (0.0, 2.0, 4.0):
            view = look(room, time)
            z = world_points(view, pose(room, time))[2]
            assert view.depth.min() > 0.2 and view.depth.max() < 12
            np.testing.assert_allclose(z[view.semantics == FLOOR], BASE, atol=1e-4)
            ceiling = z[view.semantics == CEILING]
            assert ceiling.size == 0 or np.ptp(ceiling) < 1e-3


def test_camera_turns_fast_and_moves_slowly():
    for seed in range(5):
        room = Room(seed, 10.0)
        poses = [room.ego_pose(t) for t in np.arange(0, 10, 0.1)]
        steps = [np.linalg.inv(a) @ b for a, b in itertools.pairwise(poses)]
        angles = np.degrees([np.arccos(np.clip((np.trace(T[:3, :3]) - 1) / 2, -1, 1)) for T in steps])
        metres = np.array([np.linalg.norm(T[:3, 3]) for T in steps])
        assert 1.0 < angles.mean() < 6.0  # a frame, at ten a second
        assert 0.01 < metres.mean() < 0.15
        assert min(p[2, 3] for p in poses) > 1.0 and max(p[2, 3] for p in poses) < 2.0


def test_some_walls_have_little_texture_and_others_stripes():
    contrasts = np.concatenate([Room(seed)._solids.contrast[2:6] for seed in range(12)])  # the four walls
    assert (contrasts < 0.03).mean() > 0.1 and (contrasts > 0.05).mean() > 0.3


def test_images_of_two_sizes_agree():
    room = Room(1, 3.0)
    small = look(room, 1.0).image.astype(float)
    K = np.diag([4, 4, 1.0]) @ CAMERA.intrinsics
    K[:2, 2] += 1.5  # (x + 0.5) * 4 - 0.5
    large = room.render(Camera(K, 4 * WIDTH, 4 * HEIGHT), pose(room, 1.0), 1.0).image
    averaged = cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(small - averaged).mean() < 7  # of 255


def test_camera_outside_of_room_and_zero_seconds_are_refused():
    outside = CAMERA_ON_RIG.copy()
    outside[2, 3] = 20
    with pytest.raises(ValueError, match="out of the room"):
        Room(0).render(CAMERA, outside, 0.0)
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        Room(0, 0)
