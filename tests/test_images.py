"""Colours, points and videos, compared with their input."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

import images
from images import (
    colourise,
    image_grid,
    point_cloud,
    ring_grid,
    save_image,
    surround_cloud,
    surround_grid,
    video,
    write_ply,
)
from tests.plys import read_ply
from utils import InputError

K = np.array([[100.0, 0, 63.5], [0, 100.0, 31.5], [0, 0, 1]])
WHITE = np.full((64, 128, 3), 255, np.uint8)


def test_the_nearest_is_bright_and_the_farthest_dark():
    coloured = colourise(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10))
    assert tuple(coloured[0, 0]) == tuple(int(255 * c) for c in colormaps["magma"](0.0)[:3])
    assert tuple(coloured[-1, -1]) == tuple(int(255 * c) for c in colormaps["magma"](1.0)[:3])


def test_a_grid_puts_white_between_images():
    board = image_grid([[WHITE * 0, WHITE * 0]], gap=4)
    assert board.shape == (64, 260, 3)
    assert (board[:, 128:132] == 255).all() and (board[:, :128] == 0).all()


def test_points_project_back_onto_their_pixels():
    x, y = np.meshgrid(np.arange(128), np.arange(64))
    image = np.stack([x, y, 0 * x], -1).astype(np.uint8)  # a pixel's colour is its position
    points, colours = point_cloud(5 + 0.01 * x, K, image)
    pixels = points @ K.T
    assert len(points) == 64 * 128
    assert np.allclose(pixels[:, :2] / pixels[:, 2:], colours[:, :2], atol=1e-3)


def test_cloud_has_no_points_between_a_pole_and_the_wall_behind():
    wall, pole = np.full(128, 20.0), slice(50, 70)
    wall[pole] = 5.0
    inverse = np.convolve(np.pad(1 / wall, 2, mode="edge"), np.full(5, 0.2), "valid")  # as networks smear it
    points, _ = point_cloud(np.tile(1 / inverse, (64, 1)), K, WHITE, radius=4)
    depths = points[:, 2]
    assert ((depths < 5.01) | (depths > 19.9)).all()
    assert (depths < 5.01).mean() > 0.07 and (depths > 19.9).mean() > 0.7


def test_a_road_and_a_slanted_wall_lose_no_point():
    y, x = np.mgrid[0:64, 0:128]
    road = 1.65 * 100 / (y + 1.0)  # a camera 1.65 m above it, the horizon one row above the image
    wall = 3 * 100 / (x + 2.0)
    for depth in (road, wall):
        points, _ = point_cloud(depth, K, WHITE)
        assert len(points) == depth.size


def test_a_point_cloud_file_is_read_back(tmp_path):
    points = np.array([[0, 1, 2], [3, 4, 5.5]], np.float32)
    colours = np.array([[255, 0, 1], [2, 3, 4]], np.uint8)
    write_ply(tmp_path / "a.ply", points, colours, "metres")
    header, read_points, read_colours = read_ply(tmp_path / "a.ply")
    assert "comment unit: metres" in header
    assert np.array_equal(read_points, points) and np.array_equal(read_colours, colours)


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_video_has_the_frames_it_was_given(tmp_path, ending):
    path = tmp_path / f"video.{ending}"
    with video(path, fps=10, steady="magma") as write:
        for grey in (0, 100, 200):
            write(np.full((32, 48, 3), grey, np.uint8))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    frames = read_video(path)
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    assert np.allclose([frame.mean() for frame in frames], (0, 100, 200), atol=6)


@pytest.mark.parametrize("fps", [29.97, 119.913, 142.857, 240])
def test_a_video_keeps_the_speed_of_fast_cameras(tmp_path, fps):
    import cv2

    with video(tmp_path / "fast.mp4", fps) as write:
        write(WHITE)
        write(WHITE)
    shown = cv2.VideoCapture(str(tmp_path / "fast.mp4")).get(cv2.CAP_PROP_FPS)
    assert shown == pytest.approx(fps, rel=1e-3)


def test_gif_colours_of_depth_do_not_depend_on_the_other_images(tmp_path):
    depth = colourise(np.tile(np.linspace(0, 1, 64), (32, 1)))
    draw = np.random.default_rng(0)
    with video(tmp_path / "a.gif", fps=10, steady="magma") as write:
        for _ in range(3):
            write(np.concatenate([draw.integers(0, 255, (32, 64, 3), np.uint8), depth], 1))
    shown = [frame[:, 64:].astype(int) for frame in read_video(tmp_path / "a.gif")]
    assert max(np.abs(frame - depth).max() for frame in shown) <= 12
    assert max(np.abs(frame - shown[0]).mean() for frame in shown) <= 1


def test_gif_has_frame_durations_and_loops(tmp_path):
    with video(tmp_path / "a.gif", fps=10) as write:
        write(WHITE)
        write(WHITE // 2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["duration"] == 100 and gif.info["loop"] == 0


def test_gif_keeps_its_duration_in_steps_of_hundredths(tmp_path):
    with video(tmp_path / "a.gif", fps=30) as write:
        for n in range(30):
            write(WHITE // 30 * n)
    durations = []
    with Image.open(tmp_path / "a.gif") as gif:
        for n in range(30):
            gif.seek(n)
            durations.append(gif.info["duration"])
    assert sum(durations) == 1000 and set(durations) == {30, 40}


def test_writing_a_gif_needs_less_memory_than_its_size(tmp_path):
    draw = np.random.default_rng(0)
    tracemalloc.start()
    with video(tmp_path / "a.gif", fps=10) as write:
        for _ in range(60):
            write(draw.integers(0, 255, (96, 128, 3), np.uint8))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / "a.gif").stat().st_size / 2


def test_failed_write_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot write '\.xyz'; known endings are png, jpg"):
        save_image(tmp_path / "a.xyz", WHITE)
    with (
        pytest.raises(InputError, match=r"cannot write '\.avi'; known endings are gif, mp4"),
        video(tmp_path / "a.avi", 10),
    ):
        pass
    with pytest.raises(InputError, match="there was no image"), video(tmp_path / "a.gif", 10):
        pass
    save_image(tmp_path / "a.png", WHITE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0)
    try:  # OpenCV reports no error if it cannot write
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with (
            pytest.raises(InputError, match="did not take the whole video"),
            video(tmp_path / "a.mp4", 10) as write,
        ):
            for _ in range(20):
                write(noise.integers(0, 255, (96, 128, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(images.Image.Image, "save", full)
    with pytest.raises(InputError, match=r"a\.png cannot be written: No space left on device"):
        save_image(tmp_path / "a.png", WHITE // 2)
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as kept:
        assert np.asarray(kept).min() == 255


def read_video(path) -> list[np.ndarray]:
    """Every frame of a GIF or MP4, (H, W, 3) RGB."""
    import cv2

    if path.suffix == ".gif":
        frames = []
        with Image.open(path) as gif:
            for n in range(gif.n_frames):
                gif.seek(n)
                frames.append(np.array(gif.convert("RGB")))
        return frames
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def test_rig_grid_has_the_layout_of_the_rig_and_one_colour_scale():
    names = ("front", "front_left", "back_left", "back", "back_right", "front_right")
    views = [np.full((20, 40, 3), 40 * n, np.uint8) for n in range(6)]
    depths = [np.full((20, 40), 2.0 + n, np.float32) for n in range(6)]
    board = surround_grid(views, depths, names, width=40)
    assert board.shape == (2 * 40 + 4, 3 * 40 + 8, 3)
    # The middle of each view: front left, front, front right above back left, back, back right.
    assert board[18, 20::44, 0].tolist() == [40, 0, 200]
    assert board[44 + 18, 20::44, 0].tolist() == [80, 120, 160]
    brightness = [int(board[30, 64].sum()), int(board[44 + 30, 108].sum())]  # 2 m in front, 6 m behind
    assert brightness[0] > brightness[1]


def test_grid_of_some_cameras_has_no_empty_cells():
    view = [WHITE[:20, :40]]
    assert ring_grid([view, view], ("front_left", "front")).shape == (20, 84, 3)
    assert ring_grid([view, view, view], ("front", "port", "starboard")).shape == (20, 128, 3)


def test_the_points_of_all_cameras_lie_in_the_vehicles_frame():
    ahead = np.array([[0.0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])  # half a metre out
    behind = np.diag([-1.0, -1, 1, 1]) @ ahead
    depths = [np.full((64, 128), 10.0), np.full((64, 128), 20.0)]
    visible = np.ones((64, 128), bool)
    visible[:, :64] = False
    points, colours = surround_cloud(depths, [K, K], [WHITE, 0 * WHITE], [ahead, behind], [~visible, visible])
    assert len(points) == 64 * 128
    white = colours[:, 0] == 255
    assert np.allclose(points[white, 0], 10.5) and np.allclose(points[~white, 0], -20.5)
    assert (points[white, 1] < 0).all()  # the right half of the image is to the right: y is left
    middle = points[np.abs(points[:, 2] - 1.5).argmin()]
    assert abs(middle[2] - 1.5) < 0.2
    nearer, _ = surround_cloud(depths, [K, K], [WHITE, WHITE], [ahead, behind], farthest=15.0)
    assert len(nearer) == 64 * 128 and (nearer[:, 0] > 0).all()
