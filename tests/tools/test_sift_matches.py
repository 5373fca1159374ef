"""Matches between neighbouring cameras, their triangulated depth, and the files they are kept in."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets.resizing import resize_intrinsics
from datasets.surround import RING, pose_from_quaternion
from tests.datasets.test_surround import Ring
from tests.goldens import FOLDER, uniform
from tools import sift_matches
from tools.sift_matches import (
    Features,
    describe,
    edge_region,
    epipolar_distances,
    homogeneous,
    labels,
    main,
    match,
    match_paths,
    nearest_depth,
    nearest_two,
    neighbours,
    read_grey,
    report,
    sample_matches,
    triangulate,
    usable,
    write_matches,
)
from utils import InputError

WIDTH, HEIGHT = 320, 192


@pytest.fixture(scope="module")
def golden():
    return np.load(FOLDER / "surrounddepth_match.npz")


@pytest.mark.parametrize(("dataset", "width", "columns"), [("nusc", 1600, 500), ("ddad", 1936, 600)])
def test_matches_and_their_depths_are_the_published_ones(golden, dataset, width, columns):
    stored = {key.split(".")[1]: golden[key] for key in golden.files if key.startswith(dataset)}
    source = Features(stored["kp_src"].astype(float), stored["des_src"].astype(np.float32))
    target = Features(stored["kp_tgt"].astype(float), stored["des_tgt"].astype(np.float32))
    source = source.at(source.places[:, 0] < columns)
    target = target.at(target.places[:, 0] > width - columns)
    a, b = match(source, target)
    rows = labels(
        source.places[a], target.places[b], *(stored[key].astype(float) for key in ("K_src", "K_tgt", "T"))
    )
    np.testing.assert_allclose(rows[0], stored["match_src"], rtol=1e-6)
    np.testing.assert_allclose(rows[1], stored["match_tgt"], rtol=1e-6)


def test_triangulated_depth_is_the_published_one(golden):
    first = (np.array([0, 0, 1], np.float32) + uniform("A:sd:mt:a", (40, 3), -0.3, 0.3)).astype(np.float32)
    second = (np.array([0.1, 0, 1], np.float32) + uniform("A:sd:mt:b", (40, 3), -0.3, 0.3)).astype(np.float32)
    scale = first[:, 2:].astype(float)
    depth, angle = triangulate(first / scale, second.astype(float), np.array([-1.2, 0.3, 0.4]))
    np.testing.assert_allclose(depth, golden["triangulate_depth"], rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(angle, golden["triangulate_angle"], rtol=1e-5)


def test_comparing_in_blocks_finds_what_comparing_one_by_one_finds():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (count, 128)).astype(np.float32) for count in (700, 40))
    b[7] = b[3]  # a tie: the first counts
    nearest, first, second = nearest_two(a, b)
    distances = np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(2))
    assert (nearest == distances.argmin(1)).all()
    np.testing.assert_allclose(np.stack([first, second], 1), np.sort(distances, 1)[:, :2], rtol=1e-6)


def test_a_place_described_twice_is_matched_once():
    target = np.eye(8, 128, dtype=np.float32) * 100
    source = target[[0, 0, 1]].copy()
    source[0, 20] = 30  # the first description of the place is the worse one
    places = np.array([[5.0, 5], [5, 5], [9, 9]])
    found = match(Features(places, source), Features(np.zeros((8, 2)), target))
    assert found[0].tolist() == [1, 2] and found[1].tolist() == [0, 1]
    assert len(match(Features(np.zeros((0, 2)), source[:0]), Features(np.zeros((8, 2)), target))[0]) == 0


def test_a_point_seen_by_both_cameras_lies_on_both_epipolar_lines_at_its_depth():
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
    _, off = epipolar_distances(source, target + aside, K, K, T)
    np.testing.assert_allclose(off, 3)
    assert not usable(np.column_stack([rows[0][:, :5], off])).any()


def test_neighbours_are_those_of_the_ring():
    assert neighbours(RING) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
    assert neighbours(["front", "front_left", "back"]) == [(0, 1)]
    assert neighbours(["front", "back"]) == []


def test_features_are_sought_where_a_neighbour_looks_and_not_on_the_vehicle_itself():
    own = np.zeros((8, 20), bool)
    own[6:] = True
    region = edge_region((8, 20), {"left"}, 0.25, own)
    assert region[:6, :5].all() and not region[:, 5:].any() and not region[6:].any()
    assert edge_region((8, 20), {"left", "right"}, 0.25)[0].tolist() == [255] * 5 + [0] * 10 + [255] * 5


def test_a_feature_counts_where_the_pixel_that_holds_its_place_is_in_the_region(wall):
    """OpenCV asks the nearest pixel instead; a region of narrow stripes tells both apart."""
    grey = read_grey(wall.paths("000", 0)[0])
    region = np.zeros_like(grey)
    region[:, ::3] = 255
    whole, chosen = describe(grey, np.full_like(grey, 255)), describe(grey, region)
    inside = region[whole.places[:, 1].astype(int), whole.places[:, 0].astype(int)] > 0
    assert inside.sum() > 20
    assert np.array_equal(chosen.places, whole.places[inside])
    assert np.array_equal(chosen.descriptors, whole.descriptors[inside])


def test_the_nearest_lidar_point_within_reach_counts():
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

    def intrinsics(self, sample, camera, height, width):
        return np.array([[160.0, 0, (width - 1) / 2], [0, 160.0, (height - 1) / 2], [0, 0, 1]])

    def rig_from_camera(self, sample):
        forward = pose_from_quaternion((0.5, -0.5, 0.5, -0.5), (0, 0, 0), "forward")
        poses = []
        for side, degrees in ((0.0, 0), (0.8, 20)):
            turn = np.radians(degrees) / 2
            pose = pose_from_quaternion((np.cos(turn), 0, 0, np.sin(turn)), (1, side, 1.5), "yaw") @ forward
            poses.append(pose)
        return np.stack(poses)

    def match_path(self, sample, camera):
        return self.matches / f"{self.camera_names[camera]}_{sample}.npy"

    def image_size(self, sample, camera):
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
        for sample in rig.samples:
            pixels = (image.clip(0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{name}_{sample}.png")
    rig.matches = tmp_path / "matches"
    return rig


def test_two_cameras_before_a_wall_find_its_distance(wall):
    rows = sample_matches(wall, 0)
    for camera in range(2):
        good = rows[camera][usable(rows[camera])]
        ground_truth = wall_points(wall, camera)[1]
        known = nearest_depth(ground_truth, good[:, 0], good[:, 1])
        assert len(good) > 15 and np.median(np.abs(good[:, 2] - known) / known) < 0.02
    assert len(rows[0]) == len(rows[1])


def test_places_are_pixels_of_the_recording_where_images_on_disk_were_made_smaller(wall, monkeypatch):
    found, K = sample_matches(wall, 0), wall.intrinsics(None, 0, HEIGHT, WIDTH)
    larger = resize_intrinsics(K, (HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH))
    monkeypatch.setattr(wall, "image_size", lambda *_: (2 * HEIGHT, 2 * WIDTH))
    monkeypatch.setattr(wall, "intrinsics", lambda sample, camera, *size: {HEIGHT: K}.get(size[0], larger))
    for rows, of_recording in zip(found, sample_matches(wall, 0), strict=True):
        np.testing.assert_allclose(of_recording[:, :2] + 0.5, 2 * (rows[:, :2] + 0.5), rtol=1e-5)
        np.testing.assert_allclose(of_recording[:, 2:4], rows[:, 2:4], rtol=1e-3)
        np.testing.assert_allclose(of_recording[:, 4:], 2 * rows[:, 4:], rtol=1e-3, atol=1e-4)


def test_what_is_there_is_not_made_again_and_what_is_half_there_is(wall):
    assert write_matches(wall, range(2)) == 2
    paths = [path for index in range(2) for path in match_paths(wall, index)]
    assert all(np.load(path).shape[1] == 6 for path in paths)
    before = [path.stat().st_mtime_ns for path in paths]
    paths[3].unlink()
    assert write_matches(wall, range(2)) == 1
    after = [path.stat().st_mtime_ns for path in paths]
    assert before[:2] == after[:2] and paths[3].is_file()
    assert write_matches(wall, range(2)) == 0


def test_the_report_holds_matches_against_the_lidar(wall, tmp_path):
    write_matches(wall, range(2))
    text = report(wall, range(2), 5, tmp_path / "report.json")
    cameras = json.loads((tmp_path / "report.json").read_text())["cameras"]
    assert cameras["front"]["usable"] > 15 and cameras["front"]["median_relative_error"] < 0.02
    assert "front_left" in text and "%" in text


def test_each_pair_compares_the_edges_that_overlap(tiny_ddad, monkeypatch):
    rig = build_dataset({"dataset": "ddad", "data_path": tiny_ddad}, frame_ids=(0,))
    pairs = []
    monkeypatch.setattr(sift_matches, "match", lambda *pair: pairs.append(pair) or match(*pair))
    sample_matches(rig, 0)
    _, width = rig.image_size(rig.samples[0], 0)
    assert len(pairs) == 6 and all(len(source.places) and len(target.places) for source, target in pairs)
    assert max(source.places[:, 0].max() for source, _ in pairs) < rig.overlap * width
    assert min(target.places[:, 0].min() for _, target in pairs) > (1 - rig.overlap) * width


def test_a_pair_of_the_real_scene_has_the_printed_matches(shared_data):
    """As many as the published tool finds there, and as many within 1 and 10 pixels of both lines."""
    section = {"name": "ddad", "camera_names": ["back", "back_right"]}
    options = {"dataset": section, "data_path": shared_data / "ddad_like"}
    rig = build_dataset(options, part="val", frame_ids=(0,))
    for rows in sample_matches(rig, 0, published_grey=True):
        counts = [len(rows), usable(rows).sum(), usable(rows, 10.0).sum()]
        np.testing.assert_allclose(counts, [507, 152, 438], rtol=0.02)  # OpenCV 4.11; others come close


def test_nothing_on_the_vehicle_itself_is_matched_whatever_the_size_of_its_mask(wall):
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
def test_a_truncated_image_is_named(wall, length):
    path = wall.paths("000", 0)[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"front_left_000\.png cannot be read"):
        write_matches(wall, range(2))
    assert not any(path.exists() for path in match_paths(wall, 0))


def test_images_without_a_feature_have_no_match(wall):
    for path in wall.paths("000", 0):
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    assert [rows.shape for rows in sample_matches(wall, 0)] == [(0, 6), (0, 6)]
    write_matches(wall, [0])
    assert "-" in report(wall, [0], 1, wall.matches / "report.json")


def test_a_broken_file_of_matches_is_named_by_the_report(wall, tmp_path):
    write_matches(wall, range(2))
    path = match_paths(wall, 1)[0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"front_001\.npy cannot be read as matches .* make it again"):
        report(wall, range(2), 5, tmp_path / "report.json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--dataset", "kitti"), "kitti has one camera; matches are those of a rig"),
        (("--set", "camera_names=[front,back]"), "among front, back there are no neighbours"),
        (("--out", __file__), "test_sift_matches.py cannot be written"),
    ],
)
def test_what_cannot_be_matched_is_refused(tiny_ddad, words, sentence):
    with pytest.raises(InputError, match=sentence):
        main(["--data_path", str(tiny_ddad), "--workers", "1", *words])
