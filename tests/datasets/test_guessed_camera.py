"""Guessed and learned intrinsics: EXIF, the motion of a recording, or an assumption."""

import math

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from datasets import _guessed_camera
from datasets._guessed_camera import exif_focal, guess_camera
from datasets.folder import Folder
from datasets.synthetic import Camera, Room, World
from intrinsics import centred
from layers import warp
from matching import focal
from methods._cameras import LearnedCameras, learned_cameras
from notices import collect_notices
from structures import Batch
from tools.layouts._base import looking_ahead, save_image
from utils import InputError

HEIGHT, WIDTH, FOCAL = 96, 160, 120.0


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    """Fewer pairs than for a person's recording: the tests are about the way, not the last percent."""
    monkeypatch.setattr(focal, "TARGETS", 4)
    _guessed_camera._from_motion.cache_clear()


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Frames of a hand-held camera that turns in a room; no file tells its focal length."""
    folder, room = tmp_path_factory.mktemp("walk"), Room(11, 2.0)
    camera = Camera(centred(FOCAL, HEIGHT, WIDTH), WIDTH, HEIGHT)
    for n in range(18):
        pose = room.ego_pose(n / 15) @ looking_ahead(0, 0, 0)
        save_image(folder / f"{n:03d}.png", room.render(camera, pose, n / 15).image)
    return folder


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    """Frames of a camera that moves straight ahead without turning."""
    folder, world = tmp_path_factory.mktemp("ahead"), World(3, 3.0)
    camera = Camera(centred(FOCAL, HEIGHT, WIDTH), WIDTH, HEIGHT)
    start = world.ego_pose(0) @ looking_ahead(0, 0, 1.65)
    for n in range(10):
        pose = start.copy()
        pose[:3, 3] += 0.5 * n * start[:3, 2]
        save_image(folder / f"{n:03d}.png", world.render(camera, pose, 0.0).image)
    return folder


def open_folder(path, **settings):
    return Folder(path, height=32, width=64, **{"part": "all", **settings})


def photograph(path, tags, size=(40, 30)):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(tags)
    Image.effect_noise(size, 60).convert("RGB").save(path, exif=exif)
    return path


def test_the_35_mm_equivalent_is_relative_to_the_diagonal(tmp_path):
    path = photograph(tmp_path / "a.jpg", {ExifTags.Base.FocalLengthIn35mmFilm: 26})
    assert exif_focal(path, 30, 40) == pytest.approx(26 * 50 / math.hypot(36, 24))


def test_the_resolution_of_the_sensor_gives_the_focal_length(tmp_path):
    tags = {
        ExifTags.Base.FocalLength: 5.0,
        ExifTags.Base.FocalPlaneXResolution: 4000.0,  # pixels a centimetre
        ExifTags.Base.FocalPlaneResolutionUnit: 3,
        ExifTags.Base.ExifImageWidth: 4000,
        ExifTags.Base.ExifImageHeight: 3000,
    }
    path = photograph(tmp_path / "a.jpg", tags)
    assert exif_focal(path, 30, 40) == pytest.approx(5 * 400 * 40 / 4000)


@pytest.mark.parametrize(
    "tags", [{}, {ExifTags.Base.FocalLengthIn35mmFilm: 0}, {ExifTags.Base.FocalLength: 5.0}]
)
def test_exif_data_without_a_focal_length_gives_none(tmp_path, tags):
    assert exif_focal(photograph(tmp_path / "a.jpg", tags), 30, 40) is None


def test_exif_data_come_before_the_motion(tmp_path):
    for n in range(4):
        photograph(tmp_path / f"{n}.jpg", {ExifTags.Base.FocalLengthIn35mmFilm: 26})
    with collect_notices() as said:
        scene = open_folder(tmp_path, intrinsics="guess").scenes[0]
    assert scene.source == "EXIF" and "from the focal length in their EXIF data" in said[0]
    assert scene.intrinsics[0, 0] == pytest.approx(26 * 50 / math.hypot(36, 24))


def test_a_second_of_motion_gives_the_focal_length(walk):
    with collect_notices() as said:
        dataset = open_folder(walk, intrinsics="guess")
    assert "from the motion between the frames" in said[0]
    assert dataset.scenes[0].intrinsics[0, 0] == pytest.approx(FOCAL, rel=0.08)  # assumed: 15 % off
    record = dataset.camera_record()["."]
    assert record["source"] == "motion" and not record["learned"] and record["size"] == [HEIGHT, WIDTH]


def test_a_straight_path_leaves_60_degrees_and_says_why(ahead):
    with collect_notices() as said:
        scene = open_folder(ahead, intrinsics="guess").scenes[0]
    assert scene.source == "60 degrees" and "the motion does not determine the focal length" in said[0]
    assert scene.intrinsics[0, 0] == pytest.approx(80 / math.tan(math.radians(30)))


def test_a_straight_path_is_not_learned(ahead):
    with (
        collect_notices(),
        pytest.raises(InputError, match=r"learn: no motion in .* without turning; give"),
    ):
        open_folder(ahead, intrinsics="learn", part="train", val_fraction=0)


def test_what_is_learned_begins_at_the_file_of_the_user(walk, tmp_path):
    for path in walk.glob("*.png"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cam.txt").write_text("100 100 79.5 47.5")
    with collect_notices() as said:
        dataset = open_folder(tmp_path, intrinsics="learn", part="train", val_fraction=0)
    assert (
        "are learned and begin at '100 100 79.5 47.5' (file); the motion between the frames gives fx"
        in said[0]
    )
    assert dataset[0].extra["camera_id"].tolist() == [0]
    record = dataset.camera_record()["."]
    share, error = record["motion"]
    assert record["learned"] and share * WIDTH == pytest.approx(FOCAL, rel=0.08) and 0 < error < 0.06


# ------------------------------------------------------------------------------------------ parameters


def a_batch(**more):
    K = torch.tensor([[[100.0, 0, 31.5], [0, 90.0, 15.5], [0, 0, 1]]]).repeat(2, 1, 1)
    images = {0: torch.zeros(2, 3, 32, 64)}
    return Batch(images, K, torch.arange(2), extra={"camera_id": torch.tensor([0, 1])}, **more)


def test_parameters_scale_the_focal_length_and_move_the_middle():
    cameras = LearnedCameras([True, False])
    with torch.no_grad():
        cameras.log_focal.fill_(math.log(1.1))
        cameras.centre.copy_(torch.tensor([[10.0, -10.0], [30.0, 30.0]]))
    K = cameras(a_batch()).intrinsics
    expected = torch.tensor([[110, 0, 31.5 + 6.4], [0, 99, 15.5 - 3.2], [0, 0, 1]])
    assert torch.allclose(K[0], expected, atol=1e-4)
    assert torch.equal(K[1], a_batch().intrinsics[1])  # of a camera that is not learned


def test_gradients_reach_only_the_cameras_that_are_learned():
    cameras = LearnedCameras([True, False])
    cameras(a_batch()).intrinsics.sum().backward()
    assert cameras.log_focal.grad[0] != 0 and cameras.log_focal.grad[1] == 0
    assert (cameras.centre.grad[0] != 0).all() and (cameras.centre.grad[1] == 0).all()


def test_the_focal_length_of_the_motion_is_a_loss_of_its_own():
    cameras = LearnedCameras([True, True, False], [(0.1, 0.05), (0.0, math.inf), (0.2, 0.05)])
    with torch.no_grad():
        cameras.log_focal.copy_(torch.tensor([0.05, 0.3, 0.0]))
    loss = cameras.loss()
    # One standard error from the first camera's; the second has none, and the third is not learned.
    assert loss.item() == pytest.approx(1e-3 * 0.5 / 2)
    loss.backward()
    assert cameras.log_focal.grad.tolist() == pytest.approx([-1e-3 / 0.05 / 2, 0, 0])


def test_a_standard_error_near_0_counts_as_half_a_percent():
    cameras = LearnedCameras([True, True], [(0.005, 1e-9), (0.005, 0.005)])
    assert cameras.loss().item() == pytest.approx(1e-3 * 0.5)


@pytest.fixture(scope="module")
def turning_pairs():
    """Targets, sources, depths and motions of a camera that turns in a room, three frames apart."""
    room, camera = Room(11, 2.0), Camera(centred(FOCAL, HEIGHT, WIDTH), WIDTH, HEIGHT)
    found = []
    for n in (0, 4, 8, 12):
        poses = [room.ego_pose(time / 15) @ looking_ahead(0, 0, 0) for time in (n, n + 3)]
        target, source = (room.render(camera, pose, n / 15) for pose in poses)
        images = [torch.from_numpy(view.image.copy()).permute(2, 0, 1) / 255 for view in (target, source)]
        motion = torch.from_numpy(np.linalg.inv(poses[1]) @ poses[0]).float()
        found.append((*images, torch.from_numpy(target.depth.copy()).float()[None], motion))
    return [torch.stack(values) for values in zip(*found)]


def photometric_loss(cameras, turning_pairs, start):
    """The mean difference of the warped sources from the targets, at the learned intrinsics; and those."""
    target, source, depth, motion = turning_pairs
    K = torch.from_numpy(centred(FOCAL * start, HEIGHT, WIDTH)).float().repeat(len(target), 1, 1)
    ids = torch.zeros(len(target), dtype=torch.long)
    batch = cameras(Batch({0: target, 1: source}, K, ids, extra={"camera_id": ids}))
    return (warp(source, depth, batch.intrinsics, motion) - target).abs().mean(), batch.intrinsics[0]


def test_the_gradient_of_the_focal_length_is_the_difference(turning_pairs):
    cameras, step, losses = LearnedCameras([True]), 2e-3, []
    photometric_loss(cameras, turning_pairs, 1.05)[0].backward()
    for change in (step, -step):
        with torch.no_grad():
            cameras.log_focal.fill_(change)
            losses.append(photometric_loss(cameras, turning_pairs, 1.05)[0].item())
    assert cameras.log_focal.grad.item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.03)


def test_true_depth_and_motion_teach_the_focal_length(turning_pairs):
    cameras = LearnedCameras([True])
    optimizer = torch.optim.Adam(cameras.parameters(), 5e-3)
    for _ in range(80):
        loss, K = photometric_loss(cameras, turning_pairs, 1.08)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert K[0, 0].item() == pytest.approx(FOCAL, rel=0.01)


def test_a_record_holds_the_present_intrinsics():
    record = {
        "walk.mp4": {"number": 0, "size": [64, 128], "intrinsics": "200 180 63.5 31.5",
                     "start": "200 180 63.5 31.5", "source": "motion", "learned": True,
                     "motion": [1.7, 0.01]},
        "given": {"number": 1, "size": [64, 128], "intrinsics": "150 150 63.5 31.5",
                  "start": "150 150 63.5 31.5", "source": "60 degrees", "learned": False},
    }  # fmt: skip
    cameras = learned_cameras(record)
    with torch.no_grad():
        cameras.log_focal.fill_(math.log(1.5))
    now = cameras.record(record)
    assert (
        now["walk.mp4"]["intrinsics"] == "300 270 63.5 31.5"
        and now["walk.mp4"]["start"] == "200 180 63.5 31.5"
    )
    assert now["given"] == record["given"] and now["walk.mp4"]["motion"] == [1.7, 0.01]
    assert cameras.motion.tolist() == [pytest.approx([math.log(1.7 * 128 / 200), 0.01]), [0, math.inf]]
    assert learned_cameras({"given": record["given"]}) is None and learned_cameras(None) is None


def test_frames_that_cannot_be_read_leave_60_degrees(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.jpg").write_bytes(b"no image")
    guess = guess_camera(tmp_path, [f"{n}.jpg" for n in range(4)], [range(4)], (30, 40))
    assert guess.source == "60 degrees" and np.isfinite(guess.K).all()
