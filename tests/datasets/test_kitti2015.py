"""KITTI 2015 on a drawn tree: disparity with the rectified focals, both frames, and broken files."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.kitti2015 import Kitti2015
from evaluation import Loading, evaluate
from tests.predictors import predictor_of
from tools import export_gt_depth
from tools.layouts._base import Plan
from tools.layouts.kitti2015 import Kitti2015Scenes
from tools.make_synthetic import make
from utils import InputError

HEIGHT, WIDTH = 64, 224
PLAN = {"sequences": 1, "frames": 3, "height": HEIGHT, "width": WIDTH, "seed": 0, "ext": "png"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Three scenes, 64 x 224."""
    root = tmp_path_factory.mktemp("kitti2015") / "scenes"
    make(Plan("kitti2015", root, **PLAN))
    return root


@pytest.fixture
def copy(scenes, tmp_path) -> Path:
    """The same, to be broken."""
    return Path(shutil.copytree(scenes, tmp_path / "scenes"))


def open_scenes(root: Path, **settings) -> Kitti2015:
    return Kitti2015(root, **{"height": HEIGHT, "width": WIDTH, **settings})


def drawn(root: Path) -> Kitti2015Scenes:
    return Kitti2015Scenes(Plan("kitti2015", root, **PLAN))


def test_scene_has_the_next_frame_and_the_right_camera(scenes):
    dataset = open_scenes(scenes, frame_ids=(0, 1, "s"))
    assert len(dataset) == 3 and dataset.name(1) == "000001_10"
    batch, rig = dataset[1], drawn(scenes)
    for frame, view in ((0, rig.view(0, 1)), (1, rig.view(0, 2)), ("s", rig.view(0, 1, camera=3))):
        assert np.array_equal(batch.images[frame][0].permute(1, 2, 0).numpy(), view.image)
    assert batch.T_source_from_target["s"][0, 0, 3] == pytest.approx(-rig.rig.baseline)
    assert torch.allclose(batch.intrinsics[0], torch.from_numpy(rig.rig.camera.intrinsics).float())


def test_depth_is_rectified_focal_times_baseline_over_disparity(copy):
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    values[3, 4], values[3, 5] = 256, 2560  # 1 and 10 pixels
    Image.fromarray(values).save(copy / "training/disp_occ_0/000000_10.png")
    dataset, rig = open_scenes(copy), drawn(copy).rig
    depth = dataset.depth(0)[0]
    expected = rig.camera.intrinsics[0, 0] * rig.baseline
    assert depth[3, 4:6] == pytest.approx([expected, expected / 10], rel=1e-6)
    assert np.count_nonzero(depth) == 2


def test_noc_ground_truth_leaves_out_occluded_pixels(scenes):
    every, both = (open_scenes(scenes, ground_truth=ground_truth).depth(0) for ground_truth in ("occ", "noc"))
    assert np.array_equal(both[both > 0], every[both > 0])
    assert 0.5 < (both > 0).sum() / (every > 0).sum() < 1
    assert open_scenes(scenes, ground_truth=None).depth(0) is None


def test_ground_truth_is_perfect_through_export_and_evaluation(copy):
    words = ["--data_path", str(copy), "--dataset", "kitti2015", "--workers", "1"]
    export_gt_depth.main(words)
    shutil.rmtree(copy / "training/disp_occ_0")
    dataset = open_scenes(copy)
    true = [drawn(copy).view(0, frame).depth for frame in range(3)]
    perfect = predictor_of(torch.from_numpy(np.where(depth > 0, depth, 1e3))[None, None] for depth in true)
    result = evaluate(perfect, dataset, loading=Loading(batch_size=1))[""]
    assert result.mean["abs_rel"] < 1e-3 and result.mean["a1"] == 1  # disparity comes in 1 / 256 pixels
    assert result.ratio_median == pytest.approx(1, abs=1e-3) and len(result.rows) == 3


def test_intrinsics_follow_images_that_were_made_smaller_on_disk(copy):
    before = open_scenes(copy)[0].intrinsics
    for path in copy.glob("training/image_2/*.png"):
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path)
    assert torch.allclose(open_scenes(copy)[0].intrinsics, before)


def lose_calibration(root):
    (root / "training/calib_cam_to_cam/000001.txt").unlink()


def lose_right_image(root):
    (root / "training/image_3/000002_10.png").unlink()


def lose_all_images(root):
    shutil.rmtree(root / "training/image_2")


@pytest.mark.parametrize(
    "damage, settings, words",
    [
        (lose_calibration, {}, "calibration file .*000001.txt; unpack data_scene_flow_calib.zip"),
        (lose_right_image, {"frame_ids": (0, "s")}, "no image at .*image_3/000002_10.png; 1 of 3 samples"),
        (lose_all_images, {}, "no images .*image_2/000000_10.png, ...; unpack data_scene_flow.zip"),
        (None, {"frame_ids": (0, -1, 1)}, "got -1; to train, take kitti"),
        (None, {"ground_truth": "nov"}, "did you mean 'noc'"),
        (None, {"part": "all"}, "train, val or test, got 'all'"),
    ],
)
def test_missing_files_are_named_at_opening(copy, damage, settings, words):
    if damage:
        damage(copy)
    with pytest.raises(InputError, match=words):
        open_scenes(copy, **settings)


def test_broken_disparity_and_swapped_cameras_are_named(copy):
    dataset = open_scenes(copy)
    path = copy / "training/disp_occ_0/000000_10.png"
    Image.new("L", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(InputError, match="not a disparity image: expected one 16-bit channel, got uint8"):
        dataset.depth(0)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read as a disparity image"):
        dataset.depth(0)
    calibration = copy / "training/calib_cam_to_cam/000001.txt"
    text = calibration.read_text()
    swapped = text.replace("P_rect_02", "P_rect").replace("P_rect_03", "P_rect_02")
    calibration.write_text(swapped.replace("P_rect:", "P_rect_03:"))
    with pytest.raises(InputError, match=r"000001\.txt: camera 3 must be to the right of camera 2"):
        open_scenes(copy)
    calibration.write_text(re.sub(r"P_rect_02: \S+", "P_rect_02: 0", text))
    with pytest.raises(InputError, match=r"000001\.txt: camera 2 must have a focal length, got 0"):
        open_scenes(copy)
    calibration.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"000001\.txt is not a text file of calibration; unpack data_scene"):
        open_scenes(copy)
