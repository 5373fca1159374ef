"""Points of drawn scenes with known geometry."""

from __future__ import annotations

import numpy as np

from clouds import point_cloud, surround_cloud, write_ply
from tests.plys import read_ply

K = np.array([[100.0, 0, 63.5], [0, 100.0, 31.5], [0, 0, 1]])
WHITE = np.full((64, 128, 3), 255, np.uint8)


def test_points_project_back_onto_their_pixels():
    x, y = np.meshgrid(np.arange(128), np.arange(64))
    image = np.stack([x, y, 0 * x], -1).astype(np.uint8)  # a pixel's colour is its place
    points, colours = point_cloud(5 + 0.01 * x, K, image)
    pixels = points @ K.T
    assert len(points) == 64 * 128
    assert np.allclose(pixels[:, :2] / pixels[:, 2:], colours[:, :2], atol=1e-3)


def test_no_points_float_between_pole_and_wall():
    wall, pole = np.full(128, 20.0), slice(50, 70)
    wall[pole] = 5.0
    inverse = np.convolve(np.pad(1 / wall, 2, mode="edge"), np.full(5, 0.2), "valid")  # as networks smear it
    points, _ = point_cloud(np.tile(1 / inverse, (64, 1)), K, WHITE, radius=4)
    depths = points[:, 2]
    assert ((depths < 5.01) | (depths > 19.9)).all()
    assert (depths < 5.01).mean() > 0.07 and (depths > 19.9).mean() > 0.7


def test_road_and_slanted_wall_lose_no_point():
    y, x = np.mgrid[0:64, 0:128]
    road = 1.65 * 100 / (y + 1.0)  # a camera 1.65 m above it, the horizon one row above the image
    wall = 3 * 100 / (x + 2.0)
    for depth in (road, wall):
        points, _ = point_cloud(depth, K, WHITE)
        assert len(points) == depth.size


def test_ply_file_is_read_back(tmp_path):
    points = np.array([[0, 1, 2], [3, 4, 5.5]], np.float32)
    colours = np.array([[255, 0, 1], [2, 3, 4]], np.uint8)
    write_ply(tmp_path / "a.ply", points, colours, "metres")
    header, read_points, read_colours = read_ply(tmp_path / "a.ply")
    assert "comment unit: metres" in header
    assert np.array_equal(read_points, points) and np.array_equal(read_colours, colours)


def test_points_of_all_cameras_lie_in_the_vehicles_frame():
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
