"""Scale drift of sequences whose ratio is known."""

import math

import pytest

from evaluation.scale_drift import scale_drift


def sequence(scene, factor, count=11):
    return [(f"{scene}/{n:06d}.png", 0, 30.0 * factor**n) for n in range(count)]


def test_depth_of_one_scale_has_no_drift():
    found = scale_drift(sequence("a", 1.0))
    assert found["a"] == pytest.approx({"frames": 11, "max_over_min": 1, "std_log": 0, "slope": 0}, abs=1e-9)


def test_one_percent_a_frame_is_its_logarithm_in_a_hundred():
    found = scale_drift(sequence("a", 1.01) + sequence("b", 1 / 1.01))
    assert found["a"]["slope"] == pytest.approx(100 * math.log(1.01))
    assert found["a"]["max_over_min"] == pytest.approx(1.01**10)
    assert found["b"]["slope"] == pytest.approx(-100 * math.log(1.01))
    assert found["mean"]["slope"] == pytest.approx(100 * math.log(1.01))  # opposite signs do not cancel


def test_scenes_of_two_frames_have_no_drift():
    assert scale_drift(sequence("a", 1.5, count=2)) == {}


def test_left_out_frames_keep_the_slope():
    assert scale_drift(sequence("a", 1.01)[::5])["a"]["slope"] == pytest.approx(100 * math.log(1.01))
