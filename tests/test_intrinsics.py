"""Intrinsics: read from text, plausible for an image size, guessed from the longer side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from intrinsics import as_text, check_intrinsics, diagnose, guess_intrinsics, parse_intrinsics, suggestion
from utils import InputError

KITTI = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])  # 1242x375


def matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


@pytest.mark.parametrize("size", [(480, 640), (640, 480)])
def test_guess_has_one_focal_length_in_both_orientations(size):
    K = guess_intrinsics(*size)
    assert K[0, 0] == K[1, 1] == pytest.approx(640 / 2 / math.tan(math.radians(30)))  # 554
    assert (K[0, 2], K[1, 2]) == ((size[1] - 1) / 2, (size[0] - 1) / 2)


def test_suggestion_is_read_back():
    assert suggestion(48, 96) == "83 83 47.5 23.5"
    assert np.array_equal(parse_intrinsics(suggestion(48, 96), "cam.txt"), matrix(83, 83, 47.5, 23.5))


def test_good_intrinsics_have_no_finding():
    assert diagnose(KITTI, 375, 1242) == []
    assert check_intrinsics(KITTI, "cam.txt", 375, 1242) is KITTI


@pytest.mark.parametrize(
    "K, sentence",
    [
        (matrix(0.58, 1.92, 0.49, 0.46), "look normalised; in pixels they are '720.36 720 608.58 172.5'"),
        (KITTI * [[0.5], [0.5], [1]], "belong to an image of 610x173"),
        (KITTI * [[2], [2], [1]], "belong to an image of 2438x692"),
        (matrix(4.3, 4.3, 609.6, 172.9), "fx means a view 179 degrees wide; is it in millimetres?"),
        (matrix(721.5, 721.5, 1300, 172.9), "the principal point lies outside"),
        (matrix(721.5, 721.5, 172.9, 609.6), "width and height are swapped"),
    ],
)
def test_intrinsics_of_another_camera_are_refused(K, sentence):
    with pytest.raises(InputError, match=rf"cam\.txt: .*{sentence.replace('?', '[?]')}"):
        check_intrinsics(K, "cam.txt", 375, 1242)


@pytest.mark.parametrize("cy, level", [(172.9, None), (270.0, "note")])
def test_cropped_image_is_only_noted(cy, level):
    found = diagnose(matrix(721.5, 721.5, 609.6, cy), 375, 1242)
    assert [finding[0] for finding in found] == ([level] if level else [])


def test_pixels_that_are_not_square_are_a_warning():
    assert [level for level, _ in diagnose(matrix(721.5, 400, 609.6, 172.9), 375, 1242)] == ["warning"]


@pytest.mark.parametrize("numbers", [87, [87], "87", [[1, 2], [3, 4], [5, 6]]])
def test_another_count_of_numbers_is_refused(numbers):
    count = np.size(numbers) if not isinstance(numbers, str) else 1
    with pytest.raises(InputError, match=rf"intrinsics: expected 4 \(fx fy cx cy\), .*got {count}"):
        parse_intrinsics(numbers, "intrinsics")


def test_numbers_may_be_text_or_lists():
    for numbers in ("60, 61;47 23", [60, 61, 47, 23], [[60, 0, 47], [0, 61, 23], [0, 0, 1]]):
        assert as_text(parse_intrinsics(numbers, "cam.txt")) == "60 61 47 23"


def test_a_matrix_with_a_large_skew_is_refused():
    with pytest.raises(InputError, match=r"skew s of at most fx / 10, got \[700.0, 900.0, 320.0\]"):
        parse_intrinsics("700 900 320 0 700 240 0 0 1", "cam.txt")
    assert parse_intrinsics("700 2 320 0 700 240 0 0 1", "cam.txt")[0, 1] == 2
