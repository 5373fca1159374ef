"""Frames of a video: repeats are left out, cuts and pauses are gaps, times are kept."""

import cv2
import numpy as np
import pytest

from datasets._video_frames import FrameFilter
from datasets.folder import Folder
from datasets.video import extract_video
from notices import collect_notices
from utils import InputError


def scene(seed: int, step: int) -> np.ndarray:
    """(72, 128, 3) a textured wall that moves sideways by 2 pixels a step; each seed has its own colours."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(0, 255, (2, 3)), 0)
    wall = cv2.resize(rng.integers(0, 2, (18, 96, 1)).astype(np.float32), (384, 72))[..., None]
    return (low + wall * (high - low)).astype(np.uint8)[:, 2 * step : 2 * step + 128]


def sort(frames, times=None):
    chosen = FrameFilter()
    times = times or [n / 10 for n in range(len(frames))]
    return chosen, [chosen.number(frame, time) for frame, time in zip(frames, times)]


def test_a_moving_camera_keeps_every_frame():
    chosen, numbers = sort([scene(0, n) for n in range(20)])
    assert numbers == list(range(20)) and chosen.report() == []


def test_repeated_frames_and_standing_scenes_are_left_out():
    frames = [scene(0, n) for n in (0, 0, 1, 1, 2, 2, 3, 3, 3, 3)]
    chosen, numbers = sort(frames)
    assert numbers == [0, None, 1, None, 2, None, 3, None, None, None]
    assert chosen.report() == ["6 of 10 frames repeat the one before and are left out"]


def test_a_cut_is_a_gap_in_the_numbers():
    frames = [scene(1, n) for n in range(8)] + [scene(2, n) for n in range(8)]
    chosen, numbers = sort(frames)
    assert numbers == [*range(8), *range(17, 25)]
    assert chosen.report() == ["1 cut at 0.8 s, which no sample reaches across"]


def test_a_fast_turn_is_not_a_cut():
    steps = [0, 1, 2, 3, 4, 5, 25, 45, 65, 66, 67, 68]
    chosen, numbers = sort([scene(0, step) for step in steps])
    assert chosen.cuts == [] and numbers == list(range(12))


def test_a_pause_is_a_gap_and_a_variable_rate_is_said():
    times = [0, 0.03, 0.06, 0.13, 0.16, 0.23, 0.26, 0.33, 0.36, 0.43, 3.0, 3.03]
    chosen, numbers = sort([scene(0, n) for n in range(12)], times)
    assert numbers == [*range(10), 19, 20]
    assert "1 pause at 3.0 s" in chosen.report()[0] and "the frame rate varies" in chosen.report()[1]


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (128, 72))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_no_sample_of_a_video_reaches_across_its_cut(tmp_path):
    frames = [scene(seed, n) for seed in (1, 2) for n in (0, 1, 2, 2, 3, 4, 5)]
    path = write_video(tmp_path / "walk.mp4", frames)
    for _ in range(2):  # a folder that was extracted before says the same
        with collect_notices() as said:
            dataset = Folder(path, height=32, width=64, part="all", intrinsics="100 100 63.5 35.5")
        assert any("1 cut at" in line for line in said) and any(
            "2 of 14 frames repeat" in line for line in said
        )
    names = [dataset.name(index).rsplit("/")[-1] for index in range(len(dataset))]
    assert names == [f"{n:06d}.jpg" for n in (1, 2, 3, 4, 16, 17, 18, 19)]
    times = (tmp_path / "walk.mp4.frames/times.txt").read_text().split()
    assert len(times) == 12 and float(times[3]) == pytest.approx(0.4, abs=0.02)


def test_a_video_in_which_nothing_moves_is_one_sentence(tmp_path):
    path = write_video(tmp_path / "still.mp4", [scene(0, 0)] * 6)
    with pytest.raises(InputError, match=r"nothing moves in .*still.mp4: 5 of its 6 frames repeat"):
        extract_video(path)
    assert not (tmp_path / "still.mp4.frames").exists()


def test_an_unreadable_codec_is_one_sentence_with_the_way_out(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0" * 4000)
    with pytest.raises(
        InputError, match=r"its codec unknown to OpenCV\? ffmpeg -i a.mp4 -c:v libx264 a_h264.mp4"
    ):
        extract_video(tmp_path / "a.mp4")
