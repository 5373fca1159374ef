"""DGP's JSON files: all forms that protobuf writes are read, and broken files are named."""

import copy
import json

import numpy as np
import pytest

from datasets._dgp import (
    microseconds,
    project_points,
    read_calibration,
    read_points,
    read_scene,
    rfc3339,
    scene_files,
)
from utils import InputError

FORWARD = {"qw": 0.5, "qx": -0.5, "qy": 0.5, "qz": -0.5}
UNIT = {"qw": 1, "qx": 0, "qy": 0, "qz": 0}


def pose(rotation=UNIT, x=0.0):
    return {"translation": {"x": x, "y": 0.25, "z": 1.6}, "rotation": rotation}


def scene_message():
    """One sample of a LiDAR and a camera: the example of the format's description."""
    place = pose(FORWARD, 1.5)
    return {
        "samples": [{"calibration_key": "cal0", "datum_keys": ["l0", "c0"]}],
        "data": [
            {
                "id": {"name": "LIDAR", "timestamp": "2020-01-01T00:00:00.100000Z"},
                "key": "l0",
                "datum": {"point_cloud": {"filename": "point_cloud/LIDAR/1.npz", "pose": pose()}},
            },
            {
                "id": {"name": "CAMERA_01", "timestamp": "2020-01-01T00:00:00.050000Z"},
                "key": "c0",
                "datum": {"image": {"filename": "rgb/CAMERA_01/1.png", "height": 12, "pose": place}},
            },
        ],
    }


def calibration_message():
    return {
        "names": ["LIDAR", "camera_01"],
        "intrinsics": [{}, {"fx": 50.5, "fy": 50, "cx": "32", "cy": 24, "k1": 0.1}],
        "extrinsics": [{"rotation": {"qw": 1}}, pose(FORWARD, 1.5)],
    }


def write(path, message):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(message))
    return path


@pytest.fixture
def scene(tmp_path):
    write(tmp_path / "000000/calibration/cal0.json", calibration_message())
    return write(tmp_path / "000000/scene_a.json", scene_message())


def test_scene_has_files_times_and_poses_of_each_sensor(scene):
    read = read_scene(scene, ["LIDAR", "CAMERA_01"])
    assert (read.name, len(read)) == ("000000", 1)
    assert read.stamps.tolist() == [[1577836800100000, 1577836800050000]]
    assert read.file(0, 1) == scene.parent / "rgb/CAMERA_01/1.png"
    assert read.sizes[0].tolist() == [[0, 0], [12, 0]]
    forward = read.world_from_sensor(0, 1)
    np.testing.assert_allclose(forward[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)
    assert forward[:3, 3].tolist() == [1.5, 0.25, np.float32(1.6)]
    calibration = read.calibration(0)
    assert calibration.K("CAMERA_01").tolist() == [[50.5, 0, 32], [0, 50, 24], [0, 0, 1]]
    np.testing.assert_allclose(calibration.extrinsics("CAMERA_01"), forward, atol=1e-7)
    assert calibration.extrinsics("LIDAR").tolist() == np.eye(4).tolist()


def test_variants_of_field_names_and_numbers_are_read_alike(scene):
    message = scene_message()
    sample, lidar = message["samples"][0], message["data"][0]
    message["samples"] = [
        {"calibrationKey": "cal0", "datumKeys": sample["datum_keys"], "somethingNew": {"a": 1}}
    ]
    lidar["datum"] = {"pointCloud": lidar["datum"]["point_cloud"]}
    message["data"][1]["datum"]["image"]["height"] = "12"
    message["data"][1]["id"]["name"] = "camera_01"
    plain = read_scene(scene, ["LIDAR", "CAMERA_01"])
    read = read_scene(write(scene, message), ["LIDAR", "CAMERA_01"])
    assert read.stamps.tolist() == plain.stamps.tolist() and read.files == plain.files
    assert read.sizes.tolist() == plain.sizes.tolist()
    assert read.calibration(0).K("CAMERA_01")[0, 0] == 50.5


def test_splits_are_named_by_number_or_word(tmp_path):
    splits = {"0": {"filenames": ["000000/a.json"]}, "VAL": {"filenames": ["000001/b.json"]}}
    parts = scene_files(write(tmp_path / "ddad.json", {"sceneSplits": splits}))
    assert parts == {"train": [tmp_path / "000000/a.json"], "val": [tmp_path / "000001/b.json"]}


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2464-11-12T01:04:09.936530Z", 15616458249936530),
        ("1970-01-01T00:00:01Z", 1000000),
        ("1970-01-01T00:00:01.5Z", 1500000),
        ("1970-01-01T00:00:01.123456789Z", 1123456),
        ("1970-01-01T01:00:01.5+01:00", 1500000),
        ("", 0),
    ],
)
def test_times_are_exact_microseconds(text, stamp):
    assert microseconds(text) == stamp
    assert microseconds(rfc3339(stamp)) == stamp


def test_sample_without_a_sensor_is_named(scene):
    message = scene_message()
    message["samples"][0]["datum_keys"] = ["l0"]
    read = read_scene(write(scene, message), ["LIDAR", "CAMERA_01"])
    assert read.missing([0]).tolist() == [False] and read.missing([0, 1]).tolist() == [True]


def test_points_are_filtered_like_the_library():
    K = np.array([[50, 0, 32], [0, 50, 24], [0, 0, 1]], np.float32)

    def hits(*points):
        rows, columns, depth = project_points(np.array(points, np.float64).T, np.eye(4), K, 48, 64)
        return list(zip(rows.tolist(), columns.tolist(), depth.tolist()))

    assert hits((0, 0, 5), (1, 1, 5)) == [(24, 32, 5), (34, 42, 5)]
    assert hits((0, 0, 9), (0, 0, 3)) == [(24, 32, 9), (24, 32, 3)]  # the last of them is kept
    assert hits((-3.29, 0, 5)) == [(24, 0, 5)]  # -0.9, truncated towards zero
    assert hits((-3.31, 0, 5), (3.2, 0, 5), (0, 0, -5), (0, 0, 0), (np.nan, 0, 5)) == []


@pytest.mark.parametrize("structured", [False, True])
def test_points_are_read_as_rows_or_as_fields(tmp_path, structured):
    data = np.arange(8.0).reshape(2, 4)
    if structured:
        fields = np.dtype([(name, "f4") for name in ("X", "Y", "Z", "INTENSITY")])
        data = np.array([tuple(row) for row in data], fields)
    np.savez_compressed(tmp_path / "points.npz", data=data)
    points = read_points(tmp_path / "points.npz")
    assert points.tolist() == [[0, 1, 2], [4, 5, 6]] and points.dtype == np.float64


def test_broken_points_are_named(tmp_path):
    path = tmp_path / "points.npz"
    with pytest.raises(InputError, match=r"no LiDAR points .*points\.npz; is the archive extracted whole"):
        read_points(path)
    np.savez_compressed(path, data=np.zeros((100, 4)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"points\.npz cannot be read as LiDAR points .*truncated"):
        read_points(path)
    np.savez(path, data=np.zeros(7))
    with pytest.raises(InputError, match=r"rows of x, y, z, \.\.\., got float64 \(7,\)"):
        read_points(path)
    np.savez(path, points=np.zeros((7, 4)))
    with pytest.raises(InputError, match="cannot be read as LiDAR points"):
        read_points(path)


def test_extrinsics_without_a_rotation_are_refused(scene):
    path = scene.parent / "calibration/cal0.json"
    message = calibration_message()
    message["extrinsics"][1]["rotation"] = {"qw": 0.5, "qx": 0.5}
    with pytest.raises(
        InputError, match=r"cal0\.json, CAMERA_01: the quaternion of a rotation must have length 1"
    ):
        read_calibration(write(path, message))
    message["names"].append("CAMERA_05")
    with pytest.raises(InputError, match="3 names, 2 intrinsics and 2 extrinsics"):
        read_calibration(write(path, message))


def test_broken_scenes_are_named(scene):
    message = scene_message()
    message["samples"][0]["datum_keys"].append("c9")
    with pytest.raises(InputError, match=r"scene_a\.json, sample 0: the file holds no datum c9"):
        read_scene(write(scene, message), ["LIDAR"])
    message = scene_message()
    message["data"][0]["id"]["timestamp"] = "yesterday"
    with pytest.raises(InputError, match=r"sample 0: expected a time .* got 'yesterday'"):
        read_scene(write(scene, message), ["LIDAR"])
    message = scene_message()
    message["data"][0]["id"]["name"] = "CAMERA_01"
    with pytest.raises(InputError, match="sample 0 has CAMERA_01 twice"):
        read_scene(write(scene, message), ["CAMERA_01"])
    scene.write_text(json.dumps(scene_message())[:100])
    with pytest.raises(InputError, match=r"scene_a\.json is not a JSON file .*truncated"):
        read_scene(scene, ["LIDAR"])
    with pytest.raises(InputError, match="lists no scene under scene_splits"):
        scene_files(write(scene, {"scene_splits": {}}))


def test_entries_of_one_key_with_other_poses_are_refused(scene):
    message = scene_message()
    message["data"].append(copy.deepcopy(message["data"][1]))
    sample = read_scene(write(scene, message), ["CAMERA_01"])
    (pose,) = (body["pose"] for body in message["data"][-1]["datum"].values())
    pose["translation"] = {"x": 2.0, "y": 0.0, "z": 0.0}
    with pytest.raises(InputError, match=r"scene_a\.json holds two different entries with the key c0"):
        read_scene(write(scene, message), ["CAMERA_01"])
    assert not np.allclose(sample.translations[0, 0], [2, 0, 0])


def test_a_sensor_calibrated_twice_is_refused(scene):
    calibration = calibration_message()
    for values in (calibration["names"], calibration["intrinsics"], calibration["extrinsics"]):
        values.append(copy.deepcopy(values[0]))
    with pytest.raises(InputError, match=r"cal0\.json has LIDAR twice; one of them must go"):
        read_calibration(write(scene.parent / "calibration/cal0.json", calibration))


@pytest.mark.parametrize("value", ["tall", ["a", "list"]])
def test_a_file_of_another_format_is_named(scene, value):
    message = scene_message()
    message["data"][1]["datum"]["image"]["height"] = value
    with pytest.raises(InputError, match=r"scene_a\.json is not in the DGP format .* extracted whole"):
        read_scene(write(scene, message), ["CAMERA_01"])
    with pytest.raises(InputError, match=r"scene_a\.json is not in the DGP format"):
        scene_files(write(scene, {"scene_splits": value}))
    calibration = calibration_message()
    calibration["intrinsics"][1]["fx"] = value
    with pytest.raises(InputError, match=r"cal0\.json is not in the DGP format"):
        read_calibration(write(scene.parent / "calibration/cal0.json", calibration))


def test_intrinsics_that_are_not_finite_are_refused(scene):
    calibration = calibration_message()
    calibration["intrinsics"][1]["cx"] = float("nan")
    with pytest.raises(InputError, match=r"cal0\.json, CAMERA_01: fx, fy, cx and cy are pixels, got .* nan"):
        read_calibration(write(scene.parent / "calibration/cal0.json", calibration))


def test_missing_pose_or_calibration_is_named_at_access(scene):
    message = scene_message()
    del message["data"][1]["datum"]["image"]["pose"]
    read = read_scene(write(scene, message), ["CAMERA_01"])
    with pytest.raises(InputError, match="sample 0, CAMERA_01: there is no pose"):
        read.world_from_sensor(0, 0)
    with pytest.raises(InputError, match=r"there is no camera LIDAR \(there are CAMERA_01\)"):
        read.calibration(0).K("LIDAR")
    (scene.parent / "calibration/cal0.json").unlink()
    with pytest.raises(InputError, match=r"there is no calibration .*cal0\.json; is the archive"):
        read_scene(scene, ["CAMERA_01"]).calibration(0)
    del message["samples"][0]["calibration_key"]
    with pytest.raises(InputError, match="no calibration_key"):
        read_scene(write(scene, message), ["CAMERA_01"]).calibration(0)
