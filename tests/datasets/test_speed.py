"""Speed: means of an interpolated track, and refusals of invalid files."""

import numpy as np
import pytest

from datasets._speed import SceneSpeed, SpeedTrack, read_speed_csv, read_times, speed_of_motion
from utils import InputError


def track(times=(0.0, 1.0, 2.0), speeds=(4.0, 8.0, 8.0), **settings):
    return SpeedTrack(np.array(times), np.array(speeds), "speed.csv", **settings)


def test_the_mean_is_the_integral_over_the_interval():
    assert track().mean(0, 1) == pytest.approx(6)
    assert track().mean(0.5, 1.5) == pytest.approx((0.5 * 7 + 0.5 * 8) / 1)
    assert track().mean(0, 2) == pytest.approx(7)


def test_mean_speed_is_the_same_backwards():
    assert track().mean(1.5, 0.25) == pytest.approx(track().mean(0.25, 1.5))


def test_reversing_counts_as_driving():
    assert track(speeds=(-4.0, -8.0, -8.0)).mean(0, 1) == pytest.approx(6)


def test_a_file_is_read_with_or_without_names(tmp_path):
    for text in (
        "0,4\n1,8\n2,8\n",
        "seconds,metres_per_second\n0, 4\n1, 8\n2, 8\n",
        "# drive\ntime;m/s\n0;4\n1;8\n",
    ):
        (tmp_path / "speed.csv").write_text(text)
        assert read_speed_csv(tmp_path / "speed.csv").mean(0, 1) == pytest.approx(6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"speeds": (4.0, 8.0)}, "3 times and 2 speeds"),
        ({"times": (0.0,), "speeds": (4.0,)}, "at least two rows"),
        ({"times": (-1.0, 0.0, 1.0)}, "begin at -1 s"),
        ({"times": (0.0, 2.0, 1.0)}, "row 3: times must increase, but 1 s follows 2 s"),
        ({"speeds": (0.0, 0.0, 0.0)}, "every speed is 0"),
        ({"speeds": (80.0, 90.0, 100.0)}, r"median speed is 90 m/s \(324 km/h\).*another unit"),
        ({"speeds": (0.01, 0.02, 0.0)}, "median speed is 0.015 m/s"),
        ({"speeds": (4.0, np.nan, 8.0)}, "finite numbers"),
    ],
)
def test_invalid_track_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        track(**changes)


def test_other_bounds_may_be_given():
    assert track(speeds=(80.0, 90.0, 100.0), plausible=(0.1, 180)).mean(0, 1) == pytest.approx(85)


def test_frames_beyond_the_track_are_refused():
    with pytest.raises(InputError, match="covers 0 to 2 s and the frames 0 to 40 s"):
        track().check_covers(np.arange(41.0))
    with pytest.raises(InputError, match="needs two times"):
        track().mean(1, 1)


def test_gap_is_refused_only_if_it_has_frames():
    holes = track(times=(0.0, 0.5, 4.0, 4.5), speeds=(4.0, 4.0, 8.0, 8.0))
    holes.check_covers(np.array([4.0, 4.2, 4.4]))
    with pytest.raises(InputError, match=r"gap from 0\.5 to 4 s"):
        holes.check_covers(np.array([0.0, 0.2, 4.2]))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seconds,km/h\n0,4\n1,8\n", "column 'km/h' where metres_per_second is expected"),
        ("frame,speed\n0,4\n1,8\n", "column 'frame' where seconds is expected"),
        ("seconds,speed,yaw\n0,4,1\n", "has the columns seconds, speed, yaw"),
        ("0,4\n1,fast\n", "row 2: expected seconds and metres per second, got '1,fast'"),
        ("", "at least two rows, got 0"),
    ],
)
def test_invalid_file_is_refused(text, sentence, tmp_path):
    (tmp_path / "speed.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_speed_csv(tmp_path / "speed.csv")


def test_each_frame_has_one_time(tmp_path):
    path = tmp_path / "times.txt"
    path.write_text("0\n0.1\n0.25\n")
    assert read_times(path, 3).tolist() == [0, 0.1, 0.25]
    with pytest.raises(InputError, match="3 times for 4 frames"):
        read_times(path, 4)
    for text, sentence in (("-1\n0\n1\n", "at least 0 and increase"), ("a\nb\nc\n", "one time in seconds")):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_times(path, 3)


def test_speed_can_be_computed_from_poses():
    T = np.eye(4)
    T[:3, 3] = 0.3, 0, -0.4
    assert speed_of_motion(T, -0.1) == pytest.approx(5)
    with pytest.raises(InputError, match="time step"):
        speed_of_motion(T, 0)


# A scene.


@pytest.fixture
def scene(tmp_path):
    (tmp_path / "speed.csv").write_text("0,4\n0.5,8\n1,8\n")
    return tmp_path


def test_frames_get_mean_speed_and_time_step(scene):
    speed = SceneSpeed(scene, 3, fps=2)
    assert speed.motion(1, 0) == pytest.approx((6, -0.5))
    assert speed.motion(1, 2) == pytest.approx((8, 0.5))


def test_times_may_be_in_a_file_next_to_the_frames(scene):
    (scene / "times.txt").write_text("0\n0.25\n1\n")
    assert SceneSpeed(scene, 3).motion(0, 1) == pytest.approx((5, 0.25))


def test_a_scene_without_times_or_of_another_length_is_refused(scene):
    with pytest.raises(InputError, match=r"no times\.txt; write the seconds of each frame"):
        SceneSpeed(scene, 3)
    with pytest.raises(InputError, match=r"covers 0 to 1 s and the frames 0 to 9\.9 s"):
        SceneSpeed(scene, 100, fps=10)
    with pytest.raises(InputError, match="fps must be positive"):
        SceneSpeed(scene, 3, fps=0)
