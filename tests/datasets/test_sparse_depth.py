"""Sparse depth: a resize keeps every point at the pixel that contains it; published rules lose some."""

import numpy as np
import pytest

from datasets._sparse_depth import (
    crop_sparse_depth,
    keep_beams,
    keep_points,
    move_points,
    resize_sparse_depth,
)
from utils import InputError


def points(shape, **places):
    """A map with metres at "row_column"."""
    depth = np.zeros(shape, np.float32)
    for place, metres in places.items():
        depth[tuple(int(number) for number in place.strip("p").split("_"))] = metres
    return depth


def scattered(seed=0, shape=(60, 80), share=0.03):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.uniform(1, 80, shape), 0).astype(np.float32)


def test_a_point_goes_to_the_pixel_that_contains_it():
    smaller = resize_sparse_depth(points((4, 6), p3_1=7.0, p0_5=3.0), (2, 3))
    assert np.array_equal(smaller, points((2, 3), p1_0=7.0, p0_2=3.0))


def test_enlarged_map_has_the_same_number_of_points():
    depth = scattered()
    larger = resize_sparse_depth(depth, (120, 200))
    assert np.array_equal(np.sort(larger[larger > 0]), np.sort(depth[depth > 0]))


def test_the_nearest_of_several_points_wins():
    depth = points((2, 2), p0_0=9.0, p0_1=4.0, p1_1=6.0)
    assert resize_sparse_depth(depth, (1, 1)) == 4.0
    assert resize_sparse_depth(depth, (1, 1), "packnet") == 6.0  # the last in row-major order


def test_the_nearest_pixel_loses_points_that_the_rule_keeps():
    depth = scattered()
    kept = (resize_sparse_depth(depth, (30, 40)) > 0).sum()
    thinned = (resize_sparse_depth(depth, (30, 40), "nearest") > 0).sum()
    assert kept > 0.9 * (depth > 0).sum() and thinned < 0.4 * (depth > 0).sum()


def test_the_nearest_pixel_is_opencvs():
    import cv2

    depth = scattered(1)
    for size in ((30, 40), (24, 56), (90, 100)):
        expected = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(resize_sparse_depth(depth, size, "nearest"), expected)


def test_packnets_rule_is_a_floor_of_the_scaled_index():
    depth = points((6, 9), p5_8=7.0, p2_4=3.0)
    assert np.array_equal(resize_sparse_depth(depth, (4, 6), "packnet"), points((4, 6), p3_5=7.0, p1_2=3.0))


def test_cameras_stay_apart():
    depth = np.stack([points((4, 4), p0_0=5.0), points((4, 4), p3_3=6.0)])[:, None]
    smaller = resize_sparse_depth(depth, (2, 2))
    assert smaller.shape == (2, 1, 2, 2)
    assert smaller[0, 0, 0, 0] == 5 and smaller[1, 0, 1, 1] == 6 and (smaller > 0).sum() == 2


def test_a_crop_keeps_its_points_and_fills_beyond_the_map():
    depth = points((4, 6), p1_2=5.0, p3_5=6.0)
    assert np.array_equal(crop_sparse_depth(depth, 1, 2, 4, 5), points((4, 5), p0_0=5.0, p2_3=6.0))


def test_resize_and_crop_in_one_step():
    depth = scattered(2)
    both = move_points(depth, (30, 50), scale=(1.5, 1.25), offset=(20, 30))
    apart = crop_sparse_depth(resize_sparse_depth(depth, (90, 100)), 20, 30, 30, 50)
    assert np.array_equal(both, apart)


def test_requested_number_of_random_points_is_kept():
    depth = np.stack([scattered(3), scattered(4)])
    few = keep_points(depth, 50, np.random.default_rng(0))
    assert ((few > 0).sum((1, 2)) == 50).all() and (few[few > 0] == depth[few > 0]).all()
    assert np.array_equal(few, keep_points(depth, 50, np.random.default_rng(0)))
    assert not np.array_equal(few, keep_points(depth, 50, np.random.default_rng(1)))
    assert np.array_equal(keep_points(depth, 10**6, np.random.default_rng(0)), depth)


def test_beams_are_kept_whole_and_evenly():
    K = np.array([[50.0, 0, 31.5], [0, 50.0, 31.5], [0, 0, 1]])
    depth = np.zeros((64, 64), np.float32)
    slopes = np.tan(np.linspace(-0.5, 0.5, 8))
    columns = np.arange(24, 40)
    rows = [np.rint(31.5 + 50 * slope * np.hypot((columns - 31.5) / 50, 1)).astype(int) for slope in slopes]
    for number, row in enumerate(rows):
        depth[row, columns] = 10 + number
    kept = keep_beams(depth, K, 4, of=8)
    assert sorted(set(kept[kept > 0])) == [11, 13, 15, 17]  # from the lowest, which is number 7, every second
    assert (kept == 17).sum() == (depth == 17).sum()
    assert np.array_equal(keep_beams(depth, K, 8, of=8), depth)
    drawn = [
        set(map(float, np.unique(keep_beams(depth, K, 4, np.random.default_rng(n), of=8)))) for n in range(8)
    ]
    assert {10.0, 12.0, 14.0, 16.0, 0.0} in drawn and {11.0, 13.0, 15.0, 17.0, 0.0} in drawn


def test_an_empty_map_stays_empty():
    empty = np.zeros((6, 8), np.float32)
    for result in (
        resize_sparse_depth(empty, (3, 4)),
        keep_points(empty, 5, np.random.default_rng(0)),
        keep_beams(empty, np.eye(3), 4),
    ):
        assert not result.any()


def test_invalid_settings_are_refused():
    with pytest.raises(InputError, match="did you mean 'points'"):
        resize_sparse_depth(np.zeros((2, 2)), (1, 1), "point")
    with pytest.raises(InputError, match="at least 1, got 0"):
        keep_points(np.zeros((2, 2)), 0, np.random.default_rng(0))
    with pytest.raises(InputError, match="from 1 to 64, got 65"):
        keep_beams(np.zeros((2, 2)), np.eye(3), 65)
