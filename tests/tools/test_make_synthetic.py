"""The synthetic world on disk: every listed file is there and agrees with its calibration."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from cameras import KannalaBrandt, read_camera
from datasets._speed import read_speed_csv, read_times
from datasets.synthetic import World, rotation
from datasets.synthetic._street import CAR
from tools import _synthetic_sets
from tools.layouts._base import Plan, looking_ahead
from tools.layouts.kitti import KittiRaw, KittiRig
from tools.make_synthetic import main, make
from utils import InputError

SMALL = ["--sequences", "2", "--frames", "4", "--height", "64", "--width", "208", "--workers", "1"]


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    out = tmp_path_factory.mktemp("kitti") / "out"
    main(["--out", str(out), *SMALL])
    return out


def read_calibration(path) -> dict[str, np.ndarray]:
    """Key to numbers, as pykitti reads these files: lines of `key: v v v`; other values are left out."""
    values = {}
    for line in path.read_text().splitlines():
        key, text = line.split(":", 1)
        try:
            values[key] = np.array([float(x) for x in text.split()])
        except ValueError:
            continue
    return values


def rigid(values: dict[str, np.ndarray]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = values["R"].reshape(3, 3), values["T"]
    return matrix


def test_every_frame_that_a_split_lists_has_its_neighbours(kitti):
    for name, count in (("train", 4), ("val", 1), ("test", 1)):
        lines = (kitti / f"splits/{name}_files.txt").read_text().splitlines()
        assert len(lines) >= count
        for line in lines:
            folder, frame, side = line.split()
            for i in (-1, 0, 1):
                camera = {"l": 2, "r": 3}[side]
                assert (kitti / folder / f"image_0{camera}/data/{int(frame) + i:010d}.png").is_file()


def test_evaluation_drives_are_not_trained_on(kitti):
    drives = {}
    for name in ("train", "val", "test"):
        lines = (kitti / f"splits/{name}_files.txt").read_text().splitlines()
        drives[name] = {line.split()[0] for line in lines}
    assert not drives["train"] & (drives["val"] | drives["test"])


def test_the_files_of_a_drive_are_those_of_kitti_raw(kitti):
    drive = kitti / "2011_09_26/2011_09_26_drive_0001_sync"
    for folder, ending in (
        ("image_02/data", "png"),
        ("image_03/data", "png"),
        ("velodyne_points/data", "bin"),
        ("oxts/data", "txt"),
        ("proj_depth/groundtruth/image_02", "png"),
        ("proj_depth/groundtruth/image_03", "png"),
        ("semantics/image_02", "png"),
    ):
        names = sorted(path.name for path in (drive / folder).iterdir())
        assert names == [f"{i:010d}.{ending}" for i in range(4)]
    assert cv2.imread(str(drive / "image_02/data/0000000000.png")).shape == (64, 208, 3)
    assert len((drive / "poses.txt").read_text().splitlines()) == 4
    assert len((drive / "oxts/timestamps.txt").read_text().splitlines()) == 4
    assert (kitti / "gallery.png").is_file()


def test_lidar_points_project_onto_their_depth(kitti):
    cameras = read_calibration(kitti / "2011_09_26/calib_cam_to_cam.txt")
    camera_from_velo = rigid(read_calibration(kitti / "2011_09_26/calib_velo_to_cam.txt"))
    rectify = np.eye(4)
    rectify[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
    projection = cameras["P_rect_02"].reshape(3, 4) @ rectify @ camera_from_velo
    width, height = cameras["S_rect_02"].astype(int)
    assert (height, width) == (64, 208)
    np.testing.assert_allclose(rectify @ rectify.T, np.eye(4), atol=1e-9)

    drive = kitti / "2011_09_26/2011_09_26_drive_0001_sync"
    points = np.fromfile(drive / "velodyne_points/data/0000000001.bin", np.float32).reshape(-1, 4)
    u, v, depth = projection @ np.c_[points[:, :3], np.ones(len(points))].T
    ahead = depth > 1
    u, v, depth = (u / depth)[ahead].round().astype(int), (v / depth)[ahead].round().astype(int), depth[ahead]
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    ground_truth = cv2.imread(
        str(drive / "proj_depth/groundtruth/image_02/0000000001.png"), cv2.IMREAD_UNCHANGED
    )
    assert ground_truth.dtype == np.uint16
    ground_truth = ground_truth[v[inside], u[inside]] / 256
    error = np.abs(ground_truth - depth[inside]) / depth[inside]
    assert inside.sum() > 1000
    assert np.median(error) < 0.02


def test_stereo_cameras_differ_only_in_the_baseline(kitti):
    cameras = read_calibration(kitti / "2011_09_26/calib_cam_to_cam.txt")
    left, right = (cameras[f"P_rect_0{n}"].reshape(3, 4) for n in (2, 3))
    np.testing.assert_allclose(left[:, :3], right[:, :3])
    np.testing.assert_allclose((left - right)[:, 3], (left[0, 0] * 0.54, 0, 0), atol=1e-6)
    assert left[0, 0] == pytest.approx(0.58 * 208)


def test_inertial_packets_give_kitti_positions_and_speed(kitti):
    drive = kitti / "2011_09_26/2011_09_26_drive_0002_sync"
    packets = np.array([np.loadtxt(path) for path in sorted((drive / "oxts/data").iterdir())])
    assert packets.shape == (4, 30)
    latitude, longitude, altitude, roll, pitch, yaw = packets[:, :6].T
    shrink = np.cos(np.radians(latitude[0]))
    x = shrink * np.radians(longitude) * 6378137.0
    y = shrink * 6378137.0 * np.log(np.tan(np.pi * (90 + latitude) / 360))
    positions = np.stack([x, y, altitude], 1)

    imu_to_velo = rigid(read_calibration(kitti / "2011_09_26/calib_imu_to_velo.txt"))
    rig = KittiRig(64, 208)
    np.testing.assert_allclose(imu_to_velo, rig.velo_from_imu, atol=1e-9)
    world = World(1, 0.4)
    ground_truth = np.array([world.ego_pose(i / 10) @ rig.rig_from_imu for i in range(4)])
    np.testing.assert_allclose(
        positions - positions[0], ground_truth[:, :3, 3] - ground_truth[0, :3, 3], atol=1e-4
    )
    for i in range(4):
        rebuilt = rotation(yaw[i], pitch[i], roll[i])
        np.testing.assert_allclose(rebuilt[:3, :3], ground_truth[i, :3, :3], atol=1e-9)
    forward = packets[:, 8]
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1) * 10
    np.testing.assert_allclose((forward[1:] + forward[:-1]) / 2, steps, rtol=0.03)


def test_number_of_workers_does_not_change_the_bytes(tmp_path, kitti):
    plan = Plan("kitti", tmp_path / "again", 2, 4, 64, 208, 0, "png")
    make(plan, workers=2)
    files = sorted(path.relative_to(kitti) for path in kitti.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(plan.out) for path in plan.out.rglob("*") if path.is_file())
    for file in files:
        assert (kitti / file).read_bytes() == (plan.out / file).read_bytes(), file


def test_odometry_has_poses_and_every_camera(tmp_path):
    main(["--layout", "kitti_odom", "--out", str(tmp_path / "odom"), "--ext", "jpg", *SMALL])
    poses = np.loadtxt(tmp_path / "odom/poses/00.txt").reshape(4, 3, 4)
    np.testing.assert_allclose(poses[0], np.eye(4)[:3], atol=1e-9)
    assert poses[3, 2, 3] > 1  # metres forward, along the camera's z axis
    calibration = read_calibration(tmp_path / "odom/sequences/01/calib.txt")
    assert set(calibration) == {"P0", "P1", "P2", "P3", "Tr"}
    assert (tmp_path / "odom/sequences/01/image_3/000003.jpg").is_file()
    assert (tmp_path / "odom/splits/test_files_01.txt").read_text().splitlines()[0] == "1 0 l"


def test_scene_folders_hold_images_and_an_intrinsics_file(tmp_path):
    main(["--layout", "folder", "--out", str(tmp_path / "scenes"), "--ext", "jpg", *SMALL])
    scene = tmp_path / "scenes/training/scene_000"
    assert sorted(path.name for path in scene.glob("*.jpg")) == [f"{i:06d}.jpg" for i in range(4)]
    K = np.loadtxt(scene / "cam.txt")
    assert K.shape == (3, 3) and K[0, 0] == pytest.approx(0.58 * 208)
    assert (tmp_path / "scenes/training/train.txt").read_text() == "scene_000\n"
    assert (tmp_path / "scenes/training/val.txt").read_text() == "scene_001\n"
    for kind in ("semantics", "moving"):
        values = np.array(Image.open(tmp_path / f"scenes/ground_truth/{kind}/scene_001/000003.png"))
        assert values.shape == (64, 208)


def test_dense_traffic_has_a_car_ahead_and_oncoming_cars():
    usual = [len(World(seed, 1.0).street.movers) for seed in (0, 5)]
    dense = [World(seed, 1.0, "dense").street.movers for seed in (0, 5)]
    assert usual == [3, 0] and [len(movers) for movers in dense] == [7, 6]
    assert all(
        [mover.follows for mover in movers] == [True] + [False] * (len(movers) - 1) for movers in dense
    )


def test_queues_are_dense_traffic_or_cars_that_stand():
    def standing(seed, traffic):
        solids = World(seed, 1.0, traffic).street.solids
        return sum(solid.label == CAR and solid.mover < 0 for solid in solids)

    moving = [len(World(seed, 1.0, "queues").street.movers) for seed in (2, 5, 7)]
    more = [standing(seed, "queues") - standing(seed, "usual") for seed in (2, 5, 7)]
    assert moving == [0, 8, 0] and more == [78, 0, 78]


def test_an_unknown_kind_of_traffic_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no traffic 'denze'; did you mean 'dense'"):
        make(Plan("folder", tmp_path / "scenes", 1, 3, 32, 64, 0, "png", traffic="denze"))


@pytest.mark.parametrize("frames", [3, 4])
def test_the_shortest_sequence_leaves_no_list_empty(frames, tmp_path):
    KittiRaw(Plan("kitti", tmp_path, 1, frames, 32, 96, 0, "png")).write_splits()
    for name in ("train", "val", "test"):
        assert (tmp_path / f"splits/{name}_files.txt").read_text()


def test_a_lone_sequence_is_cut_in_time(tmp_path):
    plan = Plan("kitti", tmp_path, 1, 10, 32, 96, 0, "png")
    KittiRaw(plan).write_splits()
    frames = {
        name: [
            int(line.split()[1]) for line in (tmp_path / f"splits/{name}_files.txt").read_text().splitlines()
        ]
        for name in ("train", "val", "test")
    }
    assert max(frames["train"]) < min(frames["val"] + frames["test"])


DGP_FIELDS = {  # message → what the DGP library asks of it, and what it knows besides; all else it refuses
    "dataset": ({"scene_splits"}, {"metadata"}),
    "scene": ({"samples", "data"}, {"name", "log", "description", "ontologies", "metadata"}),
    "sample": ({"datum_keys", "calibration_key"}, {"id", "metadata"}),
    "id": ({"name", "timestamp"}, {"log", "index"}),
    "datum": ({"id", "key", "datum"}, {"next_key", "prev_key"}),
    "image": ({"filename", "pose"}, {"height", "width", "channels", "annotations", "metadata"}),
    "point_cloud": ({"filename", "pose"}, {"point_format", "point_fields", "annotations", "metadata"}),
    "calibration": ({"names", "intrinsics", "extrinsics"}, set()),
    "pose": ({"translation", "rotation"}, {"reference_coordinate_system"}),
    "intrinsics": (set(), {"fx", "fy", "cx", "cy", "skew"}),
}


def message(kind: str, fields: dict) -> dict:
    """The same fields, which are those that the DGP library takes."""
    wanted, known = DGP_FIELDS[kind]
    assert wanted <= set(fields) <= wanted | known, kind
    if kind == "pose":
        assert set(fields["translation"]) == set("xyz")
        turn = np.array([fields["rotation"][f"q{axis}"] for axis in "wxyz"], np.float32)
        assert abs(np.linalg.norm(turn) - 1) < 1e-3
    return fields


def test_ddad_tree_has_exactly_the_fields_of_dgp(tmp_path):
    main(["--layout", "ddad", "--out", str(tmp_path), *SMALL])
    dataset = message("dataset", json.loads((tmp_path / "ddad.json").read_text()))
    files = [tmp_path / file for split in dataset["scene_splits"].values() for file in split["filenames"]]
    calibrations = {}
    for file in files:
        scene, folder = message("scene", json.loads(file.read_text())), file.parent
        listed = [key for sample in scene["samples"] for key in sample["datum_keys"]]
        data = {datum["key"]: message("datum", datum) for datum in scene["data"]}
        assert len(listed) == len(data) == len(scene["data"]) and set(listed) == set(data)
        for sample in scene["samples"]:
            own = [data[key]["id"] for key in sample["datum_keys"]]
            key = message("sample", sample)["calibration_key"]
            calibration = message("calibration", json.loads((folder / f"calibration/{key}.json").read_text()))
            assert calibrations.setdefault(key, calibration) == calibration  # stems are global to the library
            assert set(calibration["names"]) == {place["name"] for place in own} and len(own) == 7
            assert [message("pose", pose) for pose in calibration["extrinsics"]]
            assert [message("intrinsics", K) for K in calibration["intrinsics"]]
            assert len({place["timestamp"] for place in own if place["name"] != "LIDAR"}) == 1
        for datum in data.values():
            message("id", datum["id"])
            ((kind, body),) = datum["datum"].items()
            message("pose", message(kind, body)["pose"])
            path = folder / body["filename"]
            assert path.is_file()
            if kind == "point_cloud":
                points = np.load(path, allow_pickle=False)
                assert points.files == ["data"] and points["data"].dtype == np.float64
                assert points["data"].shape[1] == len(body["point_format"]) == 4
    assert len(files) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--layout", "kiti"], "there is no layout 'kiti'; did you mean 'kitti'"),
        (["--ext", "bmp"], "--ext is png or jpg, got 'bmp'"),
        (["--frames", "2"], "--frames must be at least 3, got 2"),
        (["--height", "0"], "--height must be at least 32, got 0"),
        (["--gallery", "image grid.gif"], "--gallery is a .png or .jpg file, got image grid.gif"),
        (["--sequences", "0"], "--sequences must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(tmp_path, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        main(["--out", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_not_changed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        main(["--out", str(tmp_path), *SMALL])
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("made", ["gt_depths", "matches"])
def test_files_made_from_earlier_images_are_removed(tmp_path, made):
    (tmp_path / made).mkdir()
    main(["--out", str(tmp_path), *SMALL, "--overwrite"])
    (tmp_path / made / "test.npz").write_text("of the former images")
    with pytest.raises(InputError, match=f"{made} was made from the images of an earlier world; remove"):
        main(["--out", str(tmp_path), *SMALL, "--overwrite"])


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_synthetic_sets, "save_image", full)
    with pytest.raises(InputError, match="the disk is full"):
        main(["--out", str(tmp_path / "out"), *SMALL])


def test_a_fisheye_folder_has_its_camera_times_and_speed(tmp_path):
    main(["--layout", "folder", "--camera", "fisheye", "--out", str(tmp_path / "out"), *SMALL])
    scene = tmp_path / "out/training/scene_000"
    camera = read_camera(scene / "camera.yaml")
    assert isinstance(camera, KannalaBrandt)
    K = np.loadtxt(scene / "cam.txt")
    assert np.allclose(camera.nearest_pinhole(64, 208)[0].numpy(), K, atol=1e-4)
    times = read_times(scene / "times.txt", 4)
    track = read_speed_csv(scene / "speed.csv")
    track.check_covers(times)
    world = World(0, 0.4)
    poses = [world.ego_pose(time) @ looking_ahead(0, 0, 1.65) for time in times]
    distance = np.linalg.norm((poses[2] - poses[1])[:3, 3])
    assert track.mean(times[1], times[2]) * 0.1 == pytest.approx(distance, rel=0.01)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--camera", "fish"], "there is no camera 'fish'; did you mean 'fisheye'"),
        (["--camera", "fisheye", "--layout", "kitti"], "the layout kitti is a pinhole's"),
    ],
)
def test_a_camera_that_a_layout_does_not_have_is_refused(more, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        main(["--layout", "folder", "--out", str(tmp_path / "out"), *more])
