"""Frames to train on: kept where the camera moves, not where it stands or turns."""

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.folder import Folder
from tools._frame_selection import Rule, different_share, fit_rotation, selected, turned
from tools.select_frames import main
from utils import InputError

HEIGHT, WIDTH = 120, 160
K = np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]])
DIAGONAL = float(np.hypot(HEIGHT, WIDTH))


def texture(seed=0, height=HEIGHT, width=4 * WIDTH):
    noise = np.random.default_rng(seed).random((height // 4, width // 4)).astype(np.float32)
    return (cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(
        np.uint8
    )


def still(count):
    return [texture()[:, :WIDTH]] * count


def sideways(count, near=6, far=1):
    """A camera that moves to the right: the lower half is near, the upper half far; pixels a frame."""
    half, wall = HEIGHT // 2, texture()
    return [
        np.concatenate([wall[:half, far * n : far * n + WIDTH], wall[half:, near * n : near * n + WIDTH]])
        for n in range(count)
    ]


def turning(count, degrees=1.0):
    """A camera that only turns to the right, in front of one image."""
    image = cv2.resize(texture(width=2 * WIDTH), (WIDTH, HEIGHT))
    frames = []
    for n in range(count):
        angle = np.radians(degrees * n)
        R = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        homography = K @ R @ np.linalg.inv(K)
        frames.append(cv2.warpPerspective(image, homography, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))
    return frames


def test_a_camera_that_stands_keeps_its_first_frame():
    assert selected(still(5), Rule(), K) == [0]
    assert selected(still(5), Rule("difference")) == [0]


def test_a_camera_that_moves_keeps_frames_one_threshold_apart():
    # Half the corners move 6 pixels a frame and half 1; without rotation 2 or 3 pixels are left.
    kept = selected(sideways(12), Rule(), K)
    assert len(kept) >= 5 and kept[0] == 0


def test_a_camera_that_only_turns_is_kept_only_on_request():
    frames = turning(8)
    assert selected(frames, Rule(), K) == [0]
    assert len(selected(frames, Rule(keep_rotation=True))) >= 4


def test_a_larger_threshold_keeps_fewer_frames():
    frames = sideways(12)
    few, many = (selected(frames, Rule(threshold=share), K) for share in (0.05, 0.005))
    assert len(few) < len(many)


def test_the_fitted_rotation_explains_points_that_turn():
    rng = np.random.default_rng(0)
    points = rng.random((60, 2)) * [WIDTH, HEIGHT]
    axis, _ = cv2.Rodrigues(np.array([0.02, -0.05, 0.03]))
    after = turned(points, axis, K)
    after[:10] += 20  # a moving object
    found = fit_rotation(points, after, K)
    assert np.abs(found - axis).max() < 1e-3


def test_a_blank_video_keeps_its_first_frame():
    assert selected([np.full((HEIGHT, WIDTH), 90, np.uint8)] * 3, Rule(), K) == [0]


def test_another_place_is_kept():
    assert selected([texture(0)[:, :WIDTH], texture(1)[:, :WIDTH]], Rule(), K) == [0, 1]


@pytest.mark.parametrize(("brighter", "share"), [(5, 0.0), (10, 0.0), (11, 1.0), (200, 1.0), (-5, 0.0)])
def test_differences_do_not_wrap_around(brighter, share):
    first = np.full((8, 8), 50, np.uint8)
    second = np.full((8, 8), 50 + brighter, np.uint8)
    assert different_share(first, second) == different_share(second, first) == share


@pytest.fixture
def scenes(tmp_path):
    """Two scenes, one of them moving, with a camera file."""
    for name, frames in (("moves", sideways(12)), ("stands", still(6))):
        (tmp_path / name).mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / name / f"{number:03d}.png")
    (tmp_path / "cam.txt").write_text("120 120 79.5 59.5\n")
    return tmp_path


def test_each_scene_gets_the_published_list(scenes, capsys):
    main(["--data_path", str(scenes), "--workers", "1"])
    assert (scenes / "stands/frame_index.txt").read_text() == "0\n"
    kept = [int(line) for line in (scenes / "moves/frame_index.txt").read_text().split()]
    assert kept[0] == 0 and len(kept) >= 5
    assert "2 scenes are done; " in (said := capsys.readouterr().out) and "samples a second" in said


def test_a_run_that_was_stopped_goes_on(scenes, capsys):
    main(["--data_path", str(scenes), "--workers", "1"])
    (scenes / "stands/frame_index.txt").unlink()
    before = (scenes / "moves/frame_index.txt").stat().st_mtime_ns
    main(["--data_path", str(scenes), "--workers", "2"])
    assert "1 of 6 frames were kept now" in capsys.readouterr().out
    assert (scenes / "moves/frame_index.txt").stat().st_mtime_ns == before


def test_the_folder_dataset_reads_the_frames_that_were_kept(scenes):
    main(
        [
            "--data_path",
            str(scenes / "moves"),
            "--workers",
            "1",
            "--frames_txt",
            "--intrinsics",
            "120 120 79 59",
        ]
    )
    kept = (scenes / "moves/frames.txt").read_text().split()
    (scenes / "moves/cam.txt").write_text("120 120 79.5 59.5\n")
    dataset = Folder(scenes / "moves", part="all", height=64, width=96)
    assert dataset.scenes[0].frames == kept
    main(["--data_path", str(scenes / "moves"), "--workers", "1", "--overwrite", "--threshold", "0.9"])
    assert (scenes / "moves/frame_index.txt").read_text() == "0\n"


def test_a_list_by_another_rule_is_not_replaced_unasked(scenes):
    main(["--data_path", str(scenes), "--workers", "1"])
    with pytest.raises(InputError, match=r"was selected with rule flow, threshold 0.01; --overwrite selects"):
        main(["--data_path", str(scenes), "--workers", "1", "--rule", "difference"])
    (scenes / "moves/frame_index.yaml").unlink()
    with pytest.raises(InputError, match="was not written by this tool; --overwrite replaces it"):
        main(["--data_path", str(scenes), "--workers", "1"])


def test_missing_intrinsics_are_refused_with_three_ways_out(scenes):
    (scenes / "cam.txt").unlink()
    with pytest.raises(InputError, match=r"cam.txt, give --intrinsics, or count it with --keep_rotation"):
        main(["--data_path", str(scenes), "--workers", "1"])
    main(["--data_path", str(scenes), "--workers", "1", "--keep_rotation"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--threshold", "2"], r"--threshold is a share in \(0, 1\], got 2.0"),
        (["--rule", "difference", "--keep_rotation"], "--keep_rotation belongs to --rule flow; leave it out"),
    ],
)
def test_contradictory_flags_are_refused(scenes, words, sentence):
    with pytest.raises(InputError, match=sentence):
        main(["--data_path", str(scenes), *words])
