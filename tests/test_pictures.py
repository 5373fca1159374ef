"""Colours, points and films, held against what was put in."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

import pictures
from pictures import colourise, film, point_cloud, save_picture, sheet, write_ply
from tests.plys import read_ply
from utils import InputError

K = np.array([[100.0, 0, 63.5], [0, 100.0, 31.5], [0, 0, 1]])
WHITE = np.full((64, 128, 3), 255, np.uint8)


def test_the_nearest_is_bright_and_the_farthest_dark():
    coloured = colourise(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10))
    assert tuple(coloured[0, 0]) == tuple(int(255 * c) for c in colormaps["magma"](0.0)[:3])
    assert tuple(coloured[-1, -1]) == tuple(int(255 * c) for c in colormaps["magma"](1.0)[:3])


def test_a_sheet_puts_white_between_pictures():
    board = sheet([[WHITE * 0, WHITE * 0]], gap=4)
    assert board.shape == (64, 260, 3)
    assert (board[:, 128:132] == 255).all() and (board[:, :128] == 0).all()


def test_points_project_back_onto_their_pixels():
    x, y = np.meshgrid(np.arange(128), np.arange(64))
    picture = np.stack([x, y, 0 * x], -1).astype(np.uint8)  # a pixel's colour is its place
    points, colours = point_cloud(5 + 0.01 * x, K, picture)
    pixels = points @ K.T
    assert len(points) == 64 * 128
    assert np.allclose(pixels[:, :2] / pixels[:, 2:], colours[:, :2], atol=1e-3)


def test_no_veil_hangs_between_a_pole_and_the_wall_behind_it():
    wall, pole = np.full(128, 20.0), slice(50, 70)
    wall[pole] = 5.0
    inverse = np.convolve(np.pad(1 / wall, 2, mode="edge"), np.full(5, 0.2), "valid")  # as networks smear it
    points, _ = point_cloud(np.tile(1 / inverse, (64, 1)), K, WHITE, radius=4)
    depths = points[:, 2]
    assert ((depths < 5.01) | (depths > 19.9)).all()
    assert (depths < 5.01).mean() > 0.07 and (depths > 19.9).mean() > 0.7


def test_a_road_and_a_slanted_wall_lose_no_point():
    y, x = np.mgrid[0:64, 0:128]
    road = 1.65 * 100 / (y + 1.0)  # a camera 1.65 m above it, the horizon one row above the picture
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
def test_a_film_has_the_frames_it_was_given(tmp_path, ending):
    path = tmp_path / f"film.{ending}"
    with film(path, fps=10, steady="magma") as write:
        for grey in (0, 100, 200):
            write(np.full((32, 48, 3), grey, np.uint8))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    frames = read_film(path)
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    assert np.allclose([frame.mean() for frame in frames], (0, 100, 200), atol=6)


def test_a_gif_shows_depth_in_the_same_colours_whatever_stands_beside_it(tmp_path):
    depth = colourise(np.tile(np.linspace(0, 1, 64), (32, 1)))
    draw = np.random.default_rng(0)
    with film(tmp_path / "a.gif", fps=10, steady="magma") as write:
        for _ in range(3):
            write(np.concatenate([draw.integers(0, 255, (32, 64, 3), np.uint8), depth], 1))
    shown = [frame[:, 64:].astype(int) for frame in read_film(tmp_path / "a.gif")]
    assert max(np.abs(frame - depth).max() for frame in shown) <= 12
    assert max(np.abs(frame - shown[0]).mean() for frame in shown) <= 1


def test_a_gif_says_how_long_a_frame_is_shown_and_starts_again(tmp_path):
    with film(tmp_path / "a.gif", fps=10) as write:
        write(WHITE)
        write(WHITE // 2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["duration"] == 100 and gif.info["loop"] == 0


def test_a_gif_much_larger_than_the_memory_it_takes_is_written(tmp_path):
    draw = np.random.default_rng(0)
    tracemalloc.start()
    with film(tmp_path / "a.gif", fps=10) as write:
        for _ in range(60):
            write(draw.integers(0, 255, (96, 128, 3), np.uint8))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / "a.gif").stat().st_size / 2


def test_what_cannot_be_written_is_said_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"cannot write '\.xyz'; known endings are png, jpg"):
        save_picture(tmp_path / "a.xyz", WHITE)
    with (
        pytest.raises(InputError, match=r"cannot write '\.avi'; known endings are gif, mp4"),
        film(tmp_path / "a.avi", 10),
    ):
        pass
    with pytest.raises(InputError, match="there was no picture"), film(tmp_path / "a.gif", 10):
        pass
    save_picture(tmp_path / "a.png", WHITE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.Image.Image, "save", full)
    with pytest.raises(InputError, match=r"a\.png cannot be written: No space left on device"):
        save_picture(tmp_path / "a.png", WHITE // 2)
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as kept:
        assert np.asarray(kept).min() == 255


def read_film(path) -> list[np.ndarray]:
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
