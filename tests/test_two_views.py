"""Matching and triangulation of drawn points, whose geometry is known."""

import numpy as np
import pytest

from matching.two_views import (
    Features,
    cross_matrix,
    depth_along_rays,
    fundamental,
    inverse_depths,
    line_distances,
    match,
    match_mutually,
    nearest_two,
    sampson_distances,
)
from tests.goldens import FOLDER, uniform


@pytest.fixture(scope="module")
def golden():
    return np.load(FOLDER / "surrounddepth_match.npz")


def test_depth_along_rays_is_the_published_one(golden):
    first = (np.array([0, 0, 1], np.float32) + uniform("A:sd:mt:a", (40, 3), -0.3, 0.3)).astype(np.float32)
    second = (np.array([0.1, 0, 1], np.float32) + uniform("A:sd:mt:b", (40, 3), -0.3, 0.3)).astype(np.float32)
    scale = first[:, 2:].astype(float)
    depth, angle = depth_along_rays(first / scale, second.astype(float), np.array([-1.2, 0.3, 0.4]))
    np.testing.assert_allclose(depth, golden["triangulate_depth"], rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(angle, golden["triangulate_angle"], rtol=1e-5)


def test_comparing_in_blocks_equals_comparing_one_by_one():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (count, 128)).astype(np.float32) for count in (700, 40))
    b[7] = b[3]  # a tie: the first counts
    nearest, first, second = nearest_two(a, b)
    distances = np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(2))
    assert (nearest == distances.argmin(1)).all()
    np.testing.assert_allclose(np.stack([first, second], 1), np.sort(distances, 1)[:, :2], rtol=1e-6)


def test_point_described_twice_is_matched_once():
    target = np.eye(8, 128, dtype=np.float32) * 100
    source = target[[0, 0, 1]].copy()
    source[0, 20] = 30  # the first description of the place is the worse one
    places = np.array([[5.0, 5], [5, 5], [9, 9]])
    found = match(Features(places, source), Features(np.zeros((8, 2)), target), 0.75)
    assert found[0].tolist() == [1, 2] and found[1].tolist() == [0, 1]
    assert (
        len(match(Features(np.zeros((0, 2)), source[:0]), Features(np.zeros((8, 2)), target), 0.75)[0]) == 0
    )


def test_mutual_matching_drops_the_second_best_partner():
    b = np.eye(3, 128, dtype=np.float32) * 100
    a = b[[0, 0, 1]].copy()
    a[1, 20] = 30  # as near to b[0] as nothing else, but a[0] is nearer
    found = match_mutually(Features(np.zeros((3, 2)), a), Features(np.zeros((3, 2)), b), 0.8)
    assert found[0].tolist() == [0, 2] and found[1].tolist() == [0, 1]


def test_sampson_and_line_distances_agree_for_a_sideways_step():
    K, R, t = np.diag([100.0, 100.0, 1.0]), np.eye(3), np.array([-1.0, 0, 0])
    a, b = np.array([[10.0, 5.0]]), np.array([[3.0, 9.0]])  # epipolar lines are rows; 4 rows apart
    F = fundamental(K, K, R, t)
    assert np.allclose(line_distances(a, b, F), 4)
    assert np.allclose(np.abs(sampson_distances(a, b, F)), 4 / np.sqrt(2))


def test_both_triangulations_agree_without_noise():
    rng = np.random.default_rng(0)
    points = rng.uniform([-4, -2, 4], [4, 2, 30], (50, 3))
    angle, t = 0.1, np.array([0.9, 0.1, -0.2])
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    K = np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]])
    a, b = ((p @ K.T)[:, :2] / p[:, 2:] for p in (points, points @ R.T + t))
    rays = [np.column_stack([x, np.ones(50)]) @ np.linalg.inv(K).T for x in (a, b)]
    depth, _ = depth_along_rays(rays[0], rays[1] @ R, -R.T @ t)
    inverse, _ = inverse_depths(a, b, K, R, t)
    assert np.allclose(depth, points[:, 2]) and np.allclose(1 / inverse, points[:, 2])


def test_cross_matrix_is_the_cross_product():
    t, v = np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([7.0, 8, 9])
    assert np.allclose(cross_matrix(t) @ v, np.cross(t, v))
