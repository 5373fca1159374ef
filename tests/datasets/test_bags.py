"""Recordings of ROS 1 and 2: frames, times, camera and speed; what is missing is one sentence."""

import numpy as np
import pytest

from datasets.folder import Folder
from datasets.video import extract_video
from notices import collect_notices
from tests.datasets.test_video_frames import scene
from tools import extract_bag
from utils import InputError

rosbags = pytest.importorskip("rosbags")
from rosbags.rosbag1 import Writer as Writer1  # noqa: E402
from rosbags.rosbag2 import StoragePlugin  # noqa: E402
from rosbags.rosbag2 import Writer as Writer2  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

START = 1_700_000_000
K = [100.0, 0, 63.5, 0, 100.0, 35.5, 0, 0, 1]


class Recording:
    """Messages of a bag, of ROS 1 or 2."""

    def __init__(self, ros: int) -> None:
        self.ros, self.store = ros, get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_HUMBLE)
        self.messages = []

    def make(self, name, *values):
        return self.store.types[name](*values)

    def header(self, time):
        seconds, rest = divmod(time, 1)
        stamp = self.make("builtin_interfaces/msg/Time", START + int(seconds), round(1e9 * rest))
        return self.make("std_msgs/msg/Header", *([0] if self.ros == 1 else []), stamp, "camera")

    def add(self, topic, kind, time, *values):
        message = self.make(kind, self.header(time), *values)
        self.messages.append((topic, kind, round(1e9 * (START + time)), message))

    def image(self, n, topic="/cam/image_raw", encoding="rgb8"):
        frame = scene(0, n)
        data = np.ascontiguousarray(frame[..., 0] if encoding == "mono8" else frame).ravel()
        step = len(data) // 72
        self.add(topic, "sensor_msgs/msg/Image", 0.1 * n, 72, 128, encoding, 0, step, data)

    def info(self, topic="/cam/camera_info"):
        P = [90.0, 0, 60, 0, 0, 90.0, 30, 0, 0, 0, 1, 0]
        roi = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        numbers = [np.array(v, np.float64) for v in ([0.1, 0, 0, 0, 0], K, np.eye(3).ravel(), P)]
        self.add(topic, "sensor_msgs/msg/CameraInfo", 0, 72, 128, "plumb_bob", *numbers, 0, 0, roi)

    def odometry(self, time, speed):
        make, zero = self.make, (0.0, 0.0, 0.0)
        pose = make("geometry_msgs/msg/Pose", make("geometry_msgs/msg/Point", *zero),
                    make("geometry_msgs/msg/Quaternion", *zero, 1.0))  # fmt: skip
        vector = "geometry_msgs/msg/Vector3"
        twist = make("geometry_msgs/msg/Twist", make(vector, speed, 0.0, 0.0), make(vector, *zero))
        posed = make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36))
        turned = make("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36))
        self.add("/odom", "nav_msgs/msg/Odometry", time, "base", posed, turned)

    def fix(self, time, north):
        status = self.make("sensor_msgs/msg/NavSatStatus", 0, 1)
        latitude = 48.0 + np.degrees(north / 6378137.0)
        self.add("/gps", "sensor_msgs/msg/NavSatFix", time, status, latitude, 11.0, 0.0, np.zeros(9), 0)

    def acceleration(self, time):
        make, vector = self.make, "geometry_msgs/msg/Vector3"
        turning = make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0), np.zeros(9)
        turned, moved = make(vector, 0.0, 0.0, 0.1), make(vector, 0.2, 0.0, 9.81)
        self.add("/imu", "sensor_msgs/msg/Imu", time, *turning, turned, np.zeros(9), moved, np.zeros(9))

    def write(self, path):
        writer = (
            Writer1(path) if self.ros == 1 else Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP)
        )
        serialize = self.store.serialize_ros1 if self.ros == 1 else self.store.serialize_cdr
        with writer as bag:
            known = {}
            for topic, kind, stamp, message in self.messages:
                if topic not in known:
                    known[topic] = bag.add_connection(topic, kind, typestore=self.store)
                bag.write(known[topic], stamp, serialize(message, kind))
        return path


def a_drive(ros):
    recording = Recording(ros)
    for n in range(8):
        recording.image(n)
    return recording


@pytest.mark.parametrize("ros", [1, 2])
def test_a_recording_is_a_scene_with_camera_and_speed(tmp_path, ros):
    drive = a_drive(ros)
    drive.info()
    for time in (-0.1, 0.2, 0.5, 0.8):
        drive.odometry(time, 3.0 + time)
    path = drive.write(tmp_path / ("drive.bag" if ros == 1 else "drive"))
    with collect_notices() as said:
        dataset = Folder(path, height=32, width=64, part="all", frame_ids=[0, 1], speed=True)
    assert len(dataset) == 7 and any("the camera is that of /cam/camera_info" in line for line in said)
    assert dataset.scenes[0].camera is not None  # with its distortion
    batch = dataset[2]
    assert batch.speed[1].item() == pytest.approx(3.25, abs=1e-3)
    assert batch.time_step[1].item() == pytest.approx(0.1, abs=1e-4)


def test_one_mcap_file_is_enough(tmp_path):
    a_drive(2).write(tmp_path / "drive")
    (file,) = (tmp_path / "drive").glob("*.mcap")
    file = file.rename(tmp_path / "one.mcap")
    folder = extract_video(file)
    assert len(list(folder.glob("*.jpg"))) == 8 and not (folder / "speed.csv").exists()


def test_gps_gives_the_speed(tmp_path):
    drive = a_drive(1)
    for n in range(-2, 10):
        drive.fix(0.1 * n, 0.5 * n)  # 5 m/s
    folder = extract_video(drive.write(tmp_path / "drive.bag"))
    speeds = np.loadtxt(folder / "speed.csv", delimiter=",", skiprows=1)[:, 1]
    assert np.allclose(speeds, 5, rtol=1e-3)


@pytest.mark.parametrize("ros", [1, 2])
def test_an_imu_gives_no_speed_and_it_is_said(tmp_path, ros):
    drive = a_drive(ros)
    for n in range(20):
        drive.acceleration(0.05 * n)
    path = drive.write(tmp_path / ("drive.bag" if ros == 1 else "drive"))
    with collect_notices() as said:
        folder = extract_video(path)
    assert not (folder / "speed.csv").exists()
    assert any("speed.csv is not written: the acceleration of its IMU" in line for line in said)


def test_without_an_imu_none_is_mentioned(tmp_path):
    with collect_notices() as said:
        extract_video(a_drive(1).write(tmp_path / "drive.bag"))
    assert any(line.endswith("speed.csv is not written") for line in said)


def test_a_recording_without_camera_info_is_one_sentence(tmp_path):
    path = a_drive(1).write(tmp_path / "drive.bag")
    with collect_notices() as said, pytest.raises(InputError, match="there are no intrinsics for"):
        Folder(path, height=32, width=64)
    assert any(
        "has no camera info for /cam/image_raw; write 'fx fy cx cy' into cam.txt" in line for line in said
    )


def test_a_rectified_topic_has_the_camera_after_rectification(tmp_path):
    drive = Recording(1)
    for n in range(4):
        drive.image(n, "/cam/image_rect", "mono8")
    drive.info()
    scene = Folder(drive.write(tmp_path / "a.bag"), height=32, width=64, val_fraction=0).scenes[0]
    assert scene.camera is None and scene.intrinsics[0].tolist() == [90, 0, 60]


def test_several_image_topics_are_listed_and_one_is_chosen(tmp_path, capsys):
    drive = a_drive(1)
    drive.image(1, "/left/image_raw")
    path = drive.write(tmp_path / "drive.bag")
    with pytest.raises(
        InputError, match=r"several image topics \(/cam/image_raw, /left/image_raw\); choose one"
    ):
        extract_video(path)
    extract_bag.main(["--bag", str(path), "--topic", "/cam/image_raw", "--out", str(tmp_path / "out")])
    assert "wrote 8 frames" in capsys.readouterr().out
    with pytest.raises(InputError, match="has no image topic /right"):
        extract_bag.main(["--bag", str(path), "--topic", "/right", "--out", str(tmp_path / "other")])


def test_another_file_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.bag").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.bag cannot be read as a recording of ROS"):
        extract_video(tmp_path / "a.bag")
    drive = Recording(1)
    drive.odometry(0, 1.0)
    with pytest.raises(InputError, match=r"has no topic with images \(topics: /odom\)"):
        extract_video(drive.write(tmp_path / "b.bag"))
