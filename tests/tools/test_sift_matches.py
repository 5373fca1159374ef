"""Matches between neighbouring cameras, their triangulated depth, and the files they are kept in."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets._derived import check_matches, matches_origin
from datasets.resizing import resize_intrinsics
from datasets.surround import RING, pose_from_quaternion
from matching.two_views import Features, fundamental, homogeneous, line_distances, match, sift_features
from tests.datasets.test_surround import Ring
from tests.goldens import FOLDER
from tools import _rig_matches
from tools._match_report import nearest_depth, report, usable
from tools._rig_matches import (
    RATIO,
    border_region,
    labels,
    match_paths,
    neighbours,
    outdated,
    read_grey,
    sample_matches,
    write_matches,
)
from tools.sift_matches import main
from utils import InputError

WIDTH, HEIGHT = 320, 192


@pytest.fixture(scope="module")
def golden():
    return np.load(FOLDER / "surrounddepth_match.npz")


@pytest.mark.parametrize(("dataset", "width", "columns"), [("nusc", 1600, 500), ("ddad", 1936, 600)])
def test_matches_and_depths_are_the_published_ones(golden, dataset, width, columns):
    stored = {key.split(".")[1]: golden[key] for key in golden.files if key.startswith(dataset)}
    source = Features(stored["kp_src"].astype(float), stored["des_src"].astype(np.float32))
    target = Features(stored["kp_tgt"].astype(float), stored["des_tgt"].astype(np.float32))
    source = source.at(source.points[:, 0] < columns)
    target = target.at(target.points[:, 0] > width - columns)
    a, b = match(source, target, RATIO)
    rows = labels(
        source.points[a], target.points[b], *(stored[key].astype(float) for key in ("K_src", "K_tgt", "T"))
    )
    np.testing.assert_allclose(rows[0], stored["match_src"], rtol=1e-6)
    np.testing.assert_allclose(rows[1], stored["match_tgt"], rtol=1e-6)


def test_point_seen_twice_has_its_depth_and_no_line_distance():
    rng = np.random.default_rng(1)
    points = rng.uniform([-4, -2, 4], [4, 2, 30], (50, 3))
    T = pose_from_quaternion((np.cos(0.2), 0, np.sin(0.2), 0), (0.9, 0.1, -0.2), "pose")
    K = np.array([[100.0, 0, 60], [0, 110, 40], [0, 0, 1]])
    other = points @ T[:3, :3].T + T[:3, 3]
    source, target = ((p @ K.T)[:, :2] / p[:, 2:] for p in (points, other))
    rows = labels(source, target, K, K, T)
    np.testing.assert_allclose(rows[0][:, 2], points[:, 2])
    np.testing.assert_allclose(rows[1][:, 2], other[:, 2])
    np.testing.assert_allclose(np.concatenate([rows[0][:, 4:], rows[1][:, 4:]]), 0, atol=1e-9)
    assert usable(rows[0].astype(np.float32)).all()
    normal = homogeneous(source) @ np.linalg.inv(K).T @ T[:3, :3].T
    line = np.cross(T[:3, 3], normal) @ np.linalg.inv(K)  # of each place, in the target's pixels
    aside = 3 * line[:, :2] / np.hypot(*line[:, :2].T)[:, None]
    _, off = line_distances(source, target + aside, fundamental(K, K, T[:3, :3], T[:3, 3]))
    np.testing.assert_allclose(off, 3)
    assert not usable(np.column_stack([rows[0][:, :5], off])).any()


def test_neighbours_are_those_of_the_ring():
    assert neighbours(RING) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
    assert neighbours(["front", "front_left", "back"]) == [(0, 1)]
    assert neighbours(["front", "back"]) == []


def test_region_is_the_overlap_without_the_ego_mask():
    own = np.zeros((8, 20), bool)
    own[6:] = True
    region = border_region((8, 20), {"left"}, 0.25, own)
    assert region[:6, :5].all() and not region[:, 5:].any() and not region[6:].any()
    assert border_region((8, 20), {"left", "right"}, 0.25)[0].tolist() == [255] * 5 + [0] * 10 + [255] * 5


def test_pixel_that_contains_a_feature_decides_on_the_region(wall):
    """OpenCV asks the nearest pixel instead; a region of narrow stripes tells both apart."""
    grey = read_grey(wall.paths("000", 0)[0])
    region = np.zeros_like(grey)
    region[:, ::3] = 255
    whole, chosen = (sift_features(grey, 0.01, 8, region=r) for r in (np.full_like(grey, 255), region))
    inside = region[whole.points[:, 1].astype(int), whole.points[:, 0].astype(int)] > 0
    assert inside.sum() > 20
    assert np.array_equal(chosen.points, whole.points[inside])
    assert np.array_equal(chosen.descriptors, whole.descriptors[inside])


def test_nearest_lidar_point_within_the_radius_is_taken():
    depth = np.zeros((20, 20), np.float32)
    depth[10, 12], depth[10, 9] = 5, 7
    known = nearest_depth(depth, np.array([10.6, 9.0, 2.0]), np.array([10.0, 10.0, 2.0]))
    assert known.tolist() == [5, 7, 0]


class Wall(Ring):
    """The front and the front-left camera before a textured wall 8 m ahead of the vehicle, with its depth."""

    overlap = 0.5

    def __init__(self, data_path, **settings):
        super().__init__(data_path, camera_names=("front", "front_left"), **settings)
        self.samples = ["000", "001"]

    def intrinsics(self, line, camera, height, width):
        return np.array([[160.0, 0, (width - 1) / 2], [0, 160.0, (height - 1) / 2], [0, 0, 1]])

    def rig_from_camera(self, line):
        forward = pose_from_quaternion((0.5, -0.5, 0.5, -0.5), (0, 0, 0), "forward")
        poses = []
        for side, degrees in ((0.0, 0), (0.8, 20)):
            turn = np.radians(degrees) / 2
            pose = pose_from_quaternion((np.cos(turn), 0, 0, np.sin(turn)), (1, side, 1.5), "yaw") @ forward
            poses.append(pose)
        return np.stack(poses)

    def match_path(self, line, camera):
        return self.matches / f"{self.camera_names[camera]}_{line}.npy"

    def image_size(self, line, camera):
        return HEIGHT, WIDTH

    def depth_from_raw(self, index):
        return np.stack([wall_points(self, camera)[1] for camera in range(2)]).astype(np.float32)


def wall_points(rig, camera):
    """Where the rays of a camera meet x = 9 on the vehicle: (H, W, 3) and their depth (H, W)."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    K = rig.intrinsics(None, camera, HEIGHT, WIDTH)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T
    pose = rig.rig_from_camera(None)[camera]
    directions = rays @ pose[:3, :3].T
    depth = (9 - pose[0, 3]) / directions[..., 0]
    return pose[:3, 3] + depth[..., None] * directions, depth


@pytest.fixture
def wall(tmp_path):
    for name in ("front_000", "front_left_000"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    rig = Wall(tmp_path)
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 1, 300, 600, generator=generator)
    texture = torch.nn.functional.interpolate(texture, (900, 1800), mode="bicubic")[0, 0].numpy()
    for camera, name in enumerate(rig.camera_names):
        points, _ = wall_points(rig, camera)
        places = ((points[..., 1:] + (12, 4)) * 70).astype(np.float32)
        image = cv2.remap(texture, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
        for line in rig.samples:
            pixels = (image.clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{name}_{line}.png")
    rig.matches = tmp_path / "matches"
    return rig


def test_two_cameras_in_front_of_a_wall_find_its_distance(wall):
    rows = sample_matches(wall, 0)
    for camera in range(2):
        good = rows[camera][usable(rows[camera])]
        ground_truth = wall_points(wall, camera)[1]
        known = nearest_depth(ground_truth, good[:, 0], good[:, 1])
        assert len(good) > 15 and np.median(np.abs(good[:, 2] - known) / known) < 0.02
    assert len(rows[0]) == len(rows[1])


def test_matches_are_in_pixels_of_the_recorded_size(wall, monkeypatch):
    found, K = sample_matches(wall, 0), wall.intrinsics(None, 0, HEIGHT, WIDTH)
    larger = resize_intrinsics(K, (HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH))
    monkeypatch.setattr(wall, "image_size", lambda *_: (2 * HEIGHT, 2 * WIDTH))
    monkeypatch.setattr(wall, "intrinsics", lambda line, camera, *size: {HEIGHT: K}.get(size[0], larger))
    for rows, of_recording in zip(found, sample_matches(wall, 0), strict=True):
        np.testing.assert_allclose(of_recording[:, :2] + 0.5, 2 * (rows[:, :2] + 0.5), rtol=1e-5)
        np.testing.assert_allclose(of_recording[:, 2:4], rows[:, 2:4], rtol=1e-3)
        np.testing.assert_allclose(of_recording[:, 4:], 2 * rows[:, 4:], rtol=1e-3, atol=1e-4)


def test_complete_samples_are_kept_and_others_made(wall):
    assert write_matches(wall, range(2)) == 2
    paths = [path for index in range(2) for path in match_paths(wall, index)]
    assert all(np.load(path).shape[1] == 6 for path in paths)
    before = [path.stat().st_mtime_ns for path in paths]
    paths[3].unlink()
    assert write_matches(wall, range(2)) == 1
    after = [path.stat().st_mtime_ns for path in paths]
    assert before[:2] == after[:2] and paths[3].is_file()
    assert write_matches(wall, range(2)) == 0


def test_match_file_carries_its_origin(wall):
    write_matches(wall, [0])
    made = matches_origin(match_paths(wall, 0)[0])
    assert set(made["sources"]) == {"front_000.png", "front_left_000.png"}
    assert made["settings"]["tool"] == "sift_matches" and outdated(wall, 0) is None


def test_changed_image_is_matched_again(wall):
    write_matches(wall, range(2))
    image = Image.open(wall.paths("001", 0)[1]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(wall.paths("001", 0)[1])
    assert outdated(wall, 0) is None and outdated(wall, 1) == "front_left_001.png has changed"
    assert write_matches(wall, range(2)) == 1 and outdated(wall, 1) is None


def test_changed_calibration_or_setting_is_matched_again(wall, monkeypatch):
    write_matches(wall, range(2))
    assert outdated(wall, 0, published_grey=True) == "published_grey was false and is true"
    moved = wall.rig_from_camera(None) + np.eye(4)[[0]] * 0.01
    monkeypatch.setattr(wall, "rig_from_camera", lambda line: moved)
    assert outdated(wall, 0).startswith("extrinsics was")
    assert write_matches(wall, range(2)) == 2


def test_training_refuses_matches_of_other_data(wall, tmp_path):
    write_matches(wall, range(2))
    opened = Wall(tmp_path, matches=True)
    assert opened[1].points["matches"].shape == (2, 1024, 6)
    path = wall.paths("001", 0)[1]
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert opened[1].points["matches"].shape == (2, 1024, 6)  # a file is checked once
    with pytest.raises(
        InputError, match=r"made from other data: front_left_001\.png has changed; run tools/"
    ):
        Wall(tmp_path, matches=True)[1]


def test_matches_fit_fewer_cameras_but_no_other_calibration(wall, tmp_path):
    write_matches(wall, [0])
    path, K = match_paths(wall, 0)[1], np.stack([wall.intrinsics(None, 1, HEIGHT, WIDTH)])
    rig = wall.rig_from_camera(None)[1:]
    check_matches(path, tmp_path, ["front_left"], K, rig)
    for K_now, rig_now, what in ((1.01 * K, rig, "intrinsics"), (K, rig + 0.01, "extrinsics")):
        with pytest.raises(
            InputError, match=f"the {what} of front_left have changed; run tools/sift_matches"
        ):
            check_matches(path, tmp_path, ["front_left"], K_now, rig_now)


def test_file_of_another_tool_is_kept(wall):
    for path in match_paths(wall, 0):
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.zeros((0, 6), np.float32))
    assert write_matches(wall, [0]) == 0


def test_report_compares_matches_with_the_lidar(wall, tmp_path):
    write_matches(wall, range(2))
    text = report(wall, range(2), 5, tmp_path / "report.json")
    cameras = json.loads((tmp_path / "report.json").read_text())["cameras"]
    assert cameras["front"]["usable"] > 15 and cameras["front"]["median_relative_error"] < 0.02
    assert "front_left" in text and "%" in text


def test_each_pair_compares_the_borders_that_overlap(tiny_ddad, monkeypatch):
    rig = build_dataset({"dataset": "ddad", "data_path": tiny_ddad}, frame_ids=(0,))
    pairs = []
    monkeypatch.setattr(_rig_matches, "match", lambda *pair: pairs.append(pair[:2]) or match(*pair))
    sample_matches(rig, 0)
    _, width = rig.image_size(rig.samples[0], 0)
    assert len(pairs) == 6 and all(len(source.points) and len(target.points) for source, target in pairs)
    assert max(source.points[:, 0].max() for source, _ in pairs) < rig.overlap * width
    assert min(target.points[:, 0].min() for _, target in pairs) > (1 - rig.overlap) * width


def test_real_pair_has_the_printed_number_of_matches(shared_data):
    """The counts equal the published tool's: all matches, and those within 1 and 10 pixels of both lines."""
    section = {"name": "ddad", "camera_names": ["back", "back_right"]}
    options = {"dataset": section, "data_path": shared_data / "ddad_like"}
    rig = build_dataset(options, part="val", frame_ids=(0,))
    for rows in sample_matches(rig, 0, published_grey=True):
        counts = [len(rows), usable(rows).sum(), usable(rows, 10.0).sum()]
        np.testing.assert_allclose(counts, [507, 152, 438], rtol=0.02)  # OpenCV 4.11; others come close


def test_ego_mask_of_another_size_leaves_out_its_pixels(wall):
    for camera in range(2):
        mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
        mask[HEIGHT // 4 :] = 255 * camera  # the lower half of the second camera's image
        Image.fromarray(mask).save(wall.mask_path("000", camera))
    anywhere = sample_matches(wall, 0)
    wall.masks = True
    _, front_left = sample_matches(wall, 0)
    assert anywhere[1][:, 1].max() > HEIGHT / 2 + 20 and len(front_left) > 5
    assert front_left[:, 1].max() < HEIGHT / 2


def test_published_grey_weighs_red_as_blue(tmp_path):
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "red.png")
    assert read_grey(tmp_path / "red.png")[0, 0] == 60  # 0.299 x 200
    assert read_grey(tmp_path / "red.png", published=True)[0, 0] == 23  # 0.114 x 200


@pytest.mark.parametrize("length", [40, 0])
def test_truncated_image_is_named(wall, length):
    path = wall.paths("000", 0)[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"front_left_000\.png (cannot be read|is an empty file)"):
        write_matches(wall, range(2))
    assert not any(path.exists() for path in match_paths(wall, 0))


def test_images_without_features_have_no_match(wall):
    for path in wall.paths("000", 0):
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    assert [rows.shape for rows in sample_matches(wall, 0)] == [(0, 6), (0, 6)]
    write_matches(wall, [0])
    assert "-" in report(wall, [0], 1, wall.matches / "report.json")


def test_broken_match_file_is_named_by_the_report(wall, tmp_path):
    write_matches(wall, range(2))
    path = match_paths(wall, 1)[0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"front_001\.npy cannot be read as matches .* remove it"):
        report(wall, range(2), 5, tmp_path / "report.json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--dataset", "kitti"), "kitti has one camera; matches need a rig"),
        (("--set", "camera_names=[front,back]"), "no two of the cameras front, back are neighbours"),
        (("--out", __file__), "npy cannot be written: Not a directory"),
    ],
)
def test_data_that_cannot_be_matched_is_refused(tiny_ddad, words, sentence):
    with pytest.raises(InputError, match=sentence):
        main(["--data_path", str(tiny_ddad), "--workers", "1", *words])
