"""Recordings of ROS 1 and 2 as a folder of frames, through the package rosbags; ROS itself is not needed.

    image topic    000000.jpg, ..., with cuts, repeats and times.txt as of a video (datasets/_video_frames.py)
    camera info    camera_info.yaml, which training reads with its lens distortion
    odometry, GPS  speed.csv: |twist|, or the distance of two positions over their time

Times are those of the message headers, else those of the recording, from the first image on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets._video_frames import FrameFilter
from utils import InputError, to_yaml

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO, ODOMETRY, GPS = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry", "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
TOOL = "tools/extract_bag.py"
QUALITY = 95
EARTH = 6378137.0  # metres, radius of the equator
MOST_GAP = 0.5  # seconds between an end of the images and the nearest measurement of speed
CODES = {  # encoding → channels, and the conversion to OpenCV's order
    "bgr8": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
    "8UC3": (3, None),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2BGR),
}


def write_bag(bag: Path, folder: Path, topic: str | None = None) -> list[str]:
    """Write the frames of a recording, their times, the camera and the speed into a folder.

    Args:
        bag: see `datasets.video.is_bag`.
        folder: an existing folder.
        topic: the topic of the images; not needed if there is only one.

    Returns:
        What was found, in words.

    Raises:
        InputError: the package is missing, the recording cannot be read, it has no or several image topics,
            or the images are encoded in an unknown way.
    """
    with _opened(bag) as reader:
        image = _image_topic(bag, reader, topic)
        chosen, start = FrameFilter(), None
        for stamp, message in _messages(reader, image.topic):
            start = stamp if start is None else start
            frame = _decoded(bag, image, message)
            number = chosen.number(frame, stamp - start)
            if number is not None and not cv2.imwrite(
                str(folder / f"{number:06d}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            ):
                raise InputError(f"the frames of {bag} cannot be written to {folder}; is the disk full?")
        if start is None:
            raise InputError(f"{bag}: the topic {image.topic} holds no image")
        (folder / "times.txt").write_text("".join(f"{time:.6f}\n" for time in chosen.times))
        found = [_write_camera(reader, image.topic, folder), *chosen.report()]
        return [*found, _write_speed(reader, folder, start, chosen.times[-1])]


@contextlib.contextmanager
def _opened(bag: Path) -> Iterator[Any]:
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise InputError(
            f'{bag} needs the package rosbags: pip install rosbags, or pip install ".[ros]" in the checkout'
        ) from None
    kind = Stores.ROS1_NOETIC if bag.suffix == ".bag" else Stores.ROS2_HUMBLE
    try:
        with AnyReader([bag], default_typestore=get_typestore(kind)) as reader:
            yield reader
    except (AnyReaderError, OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{bag} cannot be read as a recording of ROS ({reason}); is it complete?") from None


def _image_topic(bag: Path, reader: Any, topic: str | None) -> Any:
    """The connection of the images."""
    found = {c.topic: c for c in reader.connections if c.msgtype in IMAGES}
    listed = ", ".join(sorted(found))
    if not found:
        topics = ", ".join(sorted({c.topic for c in reader.connections})) or "none"
        raise InputError(f"{bag} has no topic with images (topics: {topics})")
    if topic is not None and topic not in found:
        raise InputError(f"{bag} has no image topic {topic} (image topics: {listed})")
    if topic is None and len(found) > 1:
        raise InputError(
            f"{bag} has several image topics ({listed}); choose one: python {TOOL} --bag {bag} "
            f"--topic {sorted(found)[0]} --out FOLDER"
        )
    return found[topic or listed]


def _messages(reader: Any, topic: str) -> Iterator[tuple[float, Any]]:
    """Seconds and message of each message of a topic."""
    chosen = [c for c in reader.connections if c.topic == topic]
    for connection, recorded, raw in reader.messages(chosen):
        message = reader.deserialize(raw, connection.msgtype)
        stamp = message.header.stamp
        header = stamp.sec + 1e-9 * stamp.nanosec
        yield header or 1e-9 * recorded, message


def _decoded(bag: Path, image: Any, message: Any) -> np.ndarray:
    """(h, w, 3) uint8 in OpenCV's order of colours."""
    data = np.frombuffer(bytes(message.data), np.uint8)
    if image.msgtype == IMAGES[1]:
        frame = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if frame is None:
            raise InputError(f"{bag}, {image.topic}: the format '{message.format}' is unknown to OpenCV")
        return frame
    height, width, encoding = message.height, message.width, message.encoding
    if encoding in ("mono16", "16UC1"):  # the upper eight bits are the image
        order = ">u2" if message.is_bigendian else "<u2"
        rows = data.reshape(height, message.step)[:, : 2 * width].copy().view(order)
        return cv2.cvtColor((rows >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if encoding not in CODES:
        raise InputError(
            f"{bag}, {image.topic}: images are encoded as '{encoding}', and {', '.join(CODES)} and mono16 "
            "are read"
        )
    channels, code = CODES[encoding]
    rows = data.reshape(height, message.step)[:, : channels * width].reshape(height, width, channels)
    return rows.copy() if code is None else cv2.cvtColor(np.ascontiguousarray(rows), code)


def _write_camera(reader: Any, topic: str, folder: Path) -> str:
    """Write camera_info.yaml from the camera info next to the image topic, or the only one."""
    infos = sorted({c.topic for c in reader.connections if c.msgtype == INFO})
    places = [topic.rsplit("/", depth)[0] + "/camera_info" for depth in (1, 2)]
    name = next((place for place in places if place in infos), infos[0] if len(infos) == 1 else None)
    message = next((message for _, message in _messages(reader, name)), None) if name else None
    K = [] if message is None else [*map(float, getattr(message, "k", getattr(message, "K", [])))]
    if not any(K):
        return (
            f"the recording has no camera info for {topic}; write 'fx fy cx cy' into cam.txt, or give "
            "--dataset.intrinsics guess"
        )
    distortion = [*map(float, getattr(message, "d", getattr(message, "D", [])))]
    content: dict[str, Any] = {"image_width": int(message.width), "image_height": int(message.height)}
    if "rect" in topic.rsplit("/", 1)[-1]:  # image_proc has removed the distortion
        projection = [*map(float, getattr(message, "p", getattr(message, "P", [])))]
        K, distortion = [*projection[0:3], *projection[4:7], *projection[8:11]], []
    content |= {"camera_matrix": K, "distortion_coefficients": distortion}
    content["distortion_model"] = message.distortion_model or "plumb_bob"
    (folder / "camera_info.yaml").write_text(to_yaml(content))
    return f"the camera is that of {name}"


def _write_speed(reader: Any, folder: Path, start: float, end: float) -> str:
    """Write speed.csv from odometry, else from GPS."""
    for kind, speeds in ((ODOMETRY, _of_odometry), (GPS, _of_gps)):
        topics = sorted({c.topic for c in reader.connections if c.msgtype == kind})
        if not topics:
            continue
        times, values = speeds([(time - start, m) for time, m in _messages(reader, topics[0])])
        if len(times) < 2 or times[0] > MOST_GAP or times[-1] < end - MOST_GAP:
            return f"{topics[0]} does not cover the images; speed.csv is not written"
        inside = times[(times > 0) & (times < end)]
        grid = np.array([0.0, *inside, end])
        rows = "".join(f"{t:.6f},{v:.6f}\n" for t, v in zip(grid, np.interp(grid, times, values)))
        (folder / "speed.csv").write_text("seconds,metres_per_second\n" + rows)
        return f"the speed is that of {topics[0]}; --dataset.speed true reads it"
    found = "the recording has neither odometry nor GPS; speed.csv is not written"
    if any(c.msgtype == IMU for c in reader.connections):
        found += ": the acceleration of its IMU tells only how the speed changes"
    return found


def _of_odometry(messages: list[tuple[float, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Times and speeds of nav_msgs/Odometry."""
    linear = [message.twist.twist.linear for _, message in messages]
    speeds = [math.sqrt(v.x**2 + v.y**2 + v.z**2) for v in linear]
    return _increasing(np.array([time for time, _ in messages]), np.array(speeds))


def _of_gps(messages: list[tuple[float, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Times and speeds of sensor_msgs/NavSatFix; a speed belongs to the middle between two positions."""
    fixes = [(time, m.latitude, m.longitude) for time, m in messages if m.status.status >= 0]
    times, latitude, longitude = np.array(fixes, np.float64).reshape(-1, 3).T
    times, place = _increasing(times, np.radians(np.stack([latitude, longitude], 1)))
    if len(times) < 2:
        return times, np.zeros(len(times))
    north, east = (EARTH * np.diff(place, axis=0)).T
    speeds = np.hypot(north, east * np.cos(place[:-1, 0])) / np.diff(times)
    return (times[1:] + times[:-1]) / 2, speeds


def _increasing(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of time, each time once."""
    times, first = np.unique(times, return_index=True)
    return times, values[first]
