"""Colours and image grids, compared with their input."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

import images
from images import colourise, encode_depth, image_grid, ring_grid, save_depth, save_image, surround_grid
from utils import InputError

WHITE = np.full((64, 128, 3), 255, np.uint8)


def test_near_is_bright_and_far_is_dark():
    coloured = colourise(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10))
    assert tuple(coloured[0, 0]) == tuple(int(255 * c) for c in colormaps["magma"](0.0)[:3])
    assert tuple(coloured[-1, -1]) == tuple(int(255 * c) for c in colormaps["magma"](1.0)[:3])


def test_grid_separates_images_by_white():
    board = image_grid([[WHITE * 0, WHITE * 0]], gap=4)
    assert board.shape == (64, 260, 3)
    assert (board[:, 128:132] == 255).all() and (board[:, :128] == 0).all()


def test_cameras_stand_as_on_the_vehicle_in_one_colour_range():
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


def test_unknown_cameras_form_a_single_row():
    view = [WHITE[:20, :40]]
    assert ring_grid([view, view], ("front_left", "front")).shape == (20, 84, 3)
    assert ring_grid([view, view, view], ("front", "port", "starboard")).shape == (20, 128, 3)


def test_unknown_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot write '\.xyz'; known endings are png, jpg"):
        save_image(tmp_path / "a.xyz", WHITE)


def test_full_disk_keeps_the_earlier_image(tmp_path, monkeypatch):
    save_image(tmp_path / "a.png", WHITE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images.Image.Image, "save", full)
    with pytest.raises(InputError, match=r"a\.png cannot be written: the disk is full"):
        save_image(tmp_path / "a.png", WHITE // 2)
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as kept:
        assert np.asarray(kept).min() == 255


def test_depth_that_is_not_positive_and_finite_is_unknown():
    values = np.array([[2.0, 1.0, 0.0, -1.0, np.nan, np.inf, 1e-9]])
    assert encode_depth(values).tolist() == [[65535, 32768, 0, 0, 0, 0, 1]]
    assert encode_depth(values, 40000.0).tolist() == [[65535, 40000, 0, 0, 0, 0, 1]]
    assert not encode_depth(np.zeros((2, 2))).any()


def test_depth_file_states_its_factor(tmp_path):
    save_depth(tmp_path / "a.png", np.array([[1.5, 0, 300.0]]), 256)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Comment"] == "depth = value / 256; 0 is unknown"
        assert np.array(image).tolist() == [[384, 0, 65535]] and np.array(image).dtype == np.uint16
