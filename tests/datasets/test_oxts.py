"""KITTI's inertial unit: poses and speeds of the synthetic drive that wrote it."""

import numpy as np
import pytest

from datasets._oxts import OxtsDrive, camera_motion, read_oxts, read_timestamps, world_from_imu
from tools.layouts._base import Plan
from tools.layouts.kitti import KittiRig, oxts
from utils import InputError

FRAMES = 6
PLAN = Plan("kitti", None, 1, FRAMES, 64, 96, 0, "png")
WORLD = PLAN.world(0)
RIG = KittiRig(64, 96)
STAMPS = [f"2011-09-26 13:02:25.{100 * n:03d}000000" for n in range(FRAMES)]


@pytest.fixture
def drive(tmp_path):
    (tmp_path / "oxts/data").mkdir(parents=True)
    for frame in range(FRAMES):
        record = oxts(WORLD, RIG.rig_from_imu, frame / 10)
        (tmp_path / f"oxts/data/{frame:010d}.txt").write_text(record)
    (tmp_path / "oxts/timestamps.txt").write_text("\n".join(STAMPS) + "\n")
    return tmp_path


def imu_pose(time):
    return WORLD.ego_pose(time) @ RIG.rig_from_imu


def test_poses_are_those_of_the_drive(drive):
    found = OxtsDrive(drive)
    for frame in (1, 5):
        motion = np.linalg.inv(found.world_from_imu(0)) @ found.world_from_imu(frame)
        assert np.allclose(motion, np.linalg.inv(imu_pose(0)) @ imu_pose(frame / 10), atol=1e-3)


def test_a_cameras_motion_is_that_of_the_rig(drive):
    found = OxtsDrive(drive)
    camera_from_imu = RIG.rectified_from_velo @ RIG.velo_from_imu
    T = camera_motion(found.world_from_imu(2), found.world_from_imu(3), camera_from_imu)
    pose = [WORLD.ego_pose(frame / 10) @ RIG.rig_from_camera(0) for frame in (2, 3)]
    assert np.allclose(T, np.linalg.inv(pose[1]) @ pose[0], atol=1e-3)


@pytest.mark.parametrize("rule", ["velocity", "positions"])
def test_speed_times_time_is_the_distance(drive, rule):
    found = OxtsDrive(drive, rule)
    for target, source in ((2, 1), (2, 3), (1, 4)):
        distance = np.linalg.norm((imu_pose(source / 10) - imu_pose(target / 10))[:3, 3])
        step = found.time_step(target, source)
        assert step == pytest.approx((source - target) / 10, abs=1e-6)
        assert found.speed(target, source) * abs(step) == pytest.approx(distance, rel=0.01)


def test_the_first_frame_is_scaled_by_its_own_latitude(drive):
    record = read_oxts(drive / "oxts/data/0000000000.txt")
    equator = world_from_imu(record._replace(latitude=0.0, longitude=1.0), 0.0)
    assert equator[0, 3] == pytest.approx(6378137 * np.pi / 180) and equator[1, 3] == pytest.approx(
        0, abs=1e-6
    )


def test_seconds_count_from_the_first_stamp_over_midnight(tmp_path):
    path = tmp_path / "timestamps.txt"
    path.write_text("2011-09-26 23:59:59.500000000\n2011-09-27 00:00:00.250000000\n")
    assert read_timestamps(path).tolist() == pytest.approx([0, 0.75], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("yesterday\n", "line 1: expected a time"),
        ("2011-09-26 13:02:26.0\n2011-09-26 13:02:25.0\n", "must increase"),
    ],
)
def test_invalid_timestamps_are_refused(text, sentence, tmp_path):
    (tmp_path / "timestamps.txt").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_timestamps(tmp_path / "timestamps.txt")


def test_invalid_records_are_refused(drive):
    path = drive / "oxts/data/0000000001.txt"
    for text, sentence in (
        ("1 2 3", "30 finite numbers, got 3"),
        ("a b", "is 30 numbers"),
        ("nan " * 30, "finite"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_oxts(path)
    path.unlink()
    with pytest.raises(InputError, match=r"there is no file .*0000000001\.txt"):
        OxtsDrive(drive).speed(0, 2)
    with pytest.raises(InputError, match="6 times and none of frame 6"):
        OxtsDrive(drive).time_step(5, 6)
    with pytest.raises(InputError, match="did you mean 'positions'"):
        OxtsDrive(drive, "position")
