"""The focal length from the matches of many pairs, with its standard error."""

import cv2
import numpy as np
import pytest

from matching.focal import fit_focal, recorded_focal

K = np.array([[300.0, 0, 159.5], [0, 300.0, 89.5], [0, 0, 1]])
TRUE = 330.0


def pairs_of(turn: float, noise: float = 0.1, count: int = 12):
    """Matches of random points, seen by cameras that turn by about `turn` radians and step sideways."""
    rng, camera = np.random.default_rng(0), K.copy()
    camera[[0, 1], [0, 1]] = TRUE
    found = []
    for _ in range(count):
        pixels = rng.uniform((0, 0), (319, 179), (150, 2))
        points = np.column_stack([(pixels - camera[:2, 2]) / TRUE, np.ones(150)]) * rng.uniform(
            2, 8, (150, 1)
        )
        R = cv2.Rodrigues(turn * rng.normal(size=3))[0]
        moved = points @ R.T + rng.normal(0, 0.3, 3)
        seen = moved[:, :2] / moved[:, 2:] * TRUE + camera[:2, 2]
        found.append((pixels, seen + rng.normal(0, noise, seen.shape)))
    return found


@pytest.mark.parametrize("start", [0.92, 1.0, 1.1])
def test_turning_pairs_give_the_focal_length_from_any_start(start):
    camera = K.copy()
    camera[[0, 1], [0, 1]] = TRUE * start
    factor, error = fit_focal(pairs_of(turn=0.1), camera)
    assert factor * start == pytest.approx(1, abs=0.005) and error < 0.005


def test_the_standard_error_grows_with_noise_and_without_turns():
    little, much = (fit_focal(pairs_of(turn=0.1, noise=noise), K)[1] for noise in (0.05, 0.2))
    assert 2 < much / little < 8
    assert fit_focal(pairs_of(turn=0.002), K)[1] > 5 * much


def test_no_pair_with_a_motion_gives_none():
    assert fit_focal([], K) is None


def test_frames_without_texture_give_none():
    assert recorded_focal(lambda n: np.full((48, 64, 3), 90, np.uint8), [range(30)]) is None
