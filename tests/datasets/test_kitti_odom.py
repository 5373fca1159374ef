"""KITTI odometry on a drawn tree: images, calibration, stereo, poses, and broken files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.kitti_odom import KittiOdom
from utils import InputError

P2 = "60 0 47 4 0 61 23 0 0 0 1 0"
P3 = "60 0 46 -30 0 61 22 0 0 0 1 0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sequence 9 with four frames of both cameras, its calibration and poses; lists."""
    sequence = tmp_path / "sequences/09"
    for side, camera in enumerate((2, 3)):
        (sequence / f"image_{camera}").mkdir(parents=True)
        for frame in range(4):
            suffix = "png" if frame % 2 else "jpg"
            image = Image.new("RGB", (96, 48), (40 * frame + 20 * side,) * 3)
            image.save(sequence / f"image_{camera}/{frame:06d}.{suffix}")
    (sequence / "calib.txt").write_text(f"P0: {P2}\nP1: {P2}\nP2: {P2}\nP3: {P3}\nTr: {P2}\n")
    (tmp_path / "poses").mkdir()
    rows = [f"1 0 0 0 0 1 0 0 0 0 1 {frame * 0.5:e}\n" for frame in range(4)]
    (tmp_path / "poses/09.txt").write_text("".join(rows))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train_files.txt").write_text("9 1 l\n9 2 r\n")
    (tmp_path / "lists/test_files_09.txt").write_text("9 0 l\n9 1 l\n9 2 l\n")
    return tmp_path


def open_odom(root: Path, **settings) -> KittiOdom:
    return KittiOdom(root, **{"split": str(root / "lists"), "height": 32, "width": 64, **settings})


def test_a_sample_holds_neighbours_and_the_stereo_partner(root):
    sample = open_odom(root, frame_ids=(0, -1, 1, "s"))[1]
    greys = {frame: image[0, 0, 5, 5].item() for frame, image in sample.images.items()}
    assert greys == {0: 100, -1: 60, 1: 140, "s": 80}
    assert sample.T_source_from_target["s"][0, 0, 3] == pytest.approx(0.1)


def test_each_camera_has_the_matrix_of_its_sequence(root):
    dataset = open_odom(root)
    left, right = (dataset.intrinsics(line, 0, 48, 96) for line in dataset.samples)
    assert np.array_equal(left, [[60, 0, 47], [0, 61, 23], [0, 0, 1]]) and right[0, 2] == 46
    assert dataset[0].intrinsics[0, 0, 0] == pytest.approx(60 * 64 / 96)


def test_fixed_intrinsics_need_no_calibration(root):
    (root / "sequences/09/calib.txt").unlink()
    K = open_odom(root, intrinsics="fixed")[0].intrinsics[0]
    assert torch.allclose(K, torch.tensor([[0.58 * 64, 0, 32], [0, 1.92 * 32, 16], [0, 0, 1]]))


def test_test_sequences_are_parts_of_the_split(root):
    dataset = open_odom(root, part="test_09", frame_ids=(0, 1))
    assert len(dataset) == 3 and dataset.name(2) == "9 2 l" and dataset.depth(0) is None


def test_poses_are_world_from_camera(root):
    poses = open_odom(root).poses(9)
    assert poses.shape == (4, 4, 4) and poses[3, 2, 3] == 1.5
    assert np.array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (4, 1)))


def test_missing_or_broken_files_are_named(root):
    dataset = open_odom(root)
    with pytest.raises(InputError, match=r"poses/11.txt; poses are published for sequences 00 to 10"):
        dataset.poses(11)
    poses = root / "poses/09.txt"
    poses.write_text(poses.read_text() + "1 2 3\n")
    with pytest.raises(InputError, match=r"09.txt, line 5: expected 12 numbers, got '1 2 3'"):
        dataset.poses(9)
    (root / "sequences/09/calib.txt").write_text(f"P2: {P2}\n")
    with pytest.raises(InputError, match=r"calib.txt has no entry 'P3'"):
        open_odom(root)
    (root / "sequences/09/calib.txt").unlink()
    with pytest.raises(InputError, match=r"no calibration file .*09/calib.txt; --dataset.intrinsics fixed"):
        open_odom(root)
    (root / "sequences/09/image_2/000002.jpg").unlink()
    with pytest.raises(InputError, match=r"line 1: no image at .*image_2/000002.*; 1 of 2 samples"):
        open_odom(root)


def test_a_split_of_drives_belongs_to_the_raw_dataset(root):
    (root / "lists/train_files.txt").write_text("2011_09_26/2011_09_26_drive_0001_sync 1 l\n")
    with pytest.raises(InputError, match=r"line 1: expected '<sequence> <frame> <l or r>'.*dataset 'kitti'"):
        open_odom(root)


def test_intrinsics_follow_smaller_copies_of_kittis_images(root):
    kitti = "707.0912 0 601.8873 0 0 707.0912 183.1104 0 0 0 1 0"
    (root / "sequences/09/calib.txt").write_text(f"P2: {kitti}\nP3: {kitti}\n")
    dataset = open_odom(root)
    K = dataset.intrinsics(dataset.samples[0], 0, 185, 613)
    assert K[0, 0] == pytest.approx(707.0912 / 2) and K[0, 2] == pytest.approx((601.8873 + 0.5) / 2 - 0.5)
    assert dataset.intrinsics(dataset.samples[0], 0, 370, 1226)[0, 0] == 707.0912


def test_intrinsics_of_another_image_size_are_refused(root):
    for camera in (2, 3):
        for path in (root / f"sequences/09/image_{camera}").iterdir():
            Image.open(path).resize((48, 24)).save(path)
    with pytest.raises(InputError, match=r"09/calib.txt: .* for 48x24 images belong to an image of"):
        open_odom(root)
