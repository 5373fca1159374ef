"""test_simple.py on one frame set of a rig: a image grid, a cloud, every camera."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.image_files import image_size
from prediction.rig import scale_of
from test_simple import main
from tests.plys import read_ply
from tests.tiny_models import save_run
from utils import InputError

TINY = "timm/test_efficientnet"
RIG = {
    "method": {"name": "surround_depth", "blocks": 1, "focal_scale": 60.0},
    "encoder": TINY,
    "pose_encoder": TINY,
    "pose_model_type": "separate_resnet",
    "scales": [0],
    "dataset": {"name": "ddad", "masks": True},
    "min_depth": 1.0,
    "max_depth": 80.0,
}
METRIC = {**RIG, "losses": {"spatial": {"weight": 0.1}}}


@pytest.fixture(scope="module")
def metric_run(tmp_path_factory):
    """Its sigmoid output is 0.1 everywhere: depth is some 9 m at the focal scale."""
    return save_run(tmp_path_factory.mktemp("metric") / "run", disparity=0.1, **METRIC)


def words(run, data, *more):
    return ["--run", str(run), "--dataset", "ddad", "--data_path", str(data), "--device", "cpu", *more]


def test_frame_set_becomes_a_grid_a_cloud_and_camera_images(metric_run, tiny_ddad, tmp_path, capsys):
    main(words(metric_run, tiny_ddad, "--sample", "1", "--output", str(tmp_path), "--ply", "--save_npy"))
    (image_grid,) = tmp_path.glob("*_surround.png")
    assert image_size(image_grid) == (2 * 2 * 320 + 4, 3 * 480 + 8)
    depths = {path.name.split("_", 3)[3]: np.load(path) for path in tmp_path.glob("*_depth.npy")}
    assert len(depths) == 6 and len(list(tmp_path.glob("*_disp.png"))) == 6
    # The front camera's lens is longer, so the same answer is farther away.
    front, side = depths["front_depth.npy"].mean(), depths["back_left_depth.npy"].mean()
    assert front / side == pytest.approx(69.12 / 52.8, rel=1e-3)
    (cloud,) = tmp_path.glob("*.ply")
    header, points, _ = read_ply(cloud)
    assert "comment x forward, y left, z up" in header
    # The vehicle itself is left out: fewer points than pixels.
    assert 0 < len(points) < 6 * 64 * 96
    assert np.abs(points[:, 2]).max() < 30
    said = capsys.readouterr().out
    assert "depth is in metres" in said and "the points are in metres" in said


def test_depth_up_to_scale_is_aligned_by_the_ground_truth(tiny_ddad, tmp_path, capsys):
    run = save_run(tmp_path / "run", disparity=0.5, **RIG)
    main(words(run, tiny_ddad, "--output", str(tmp_path / "out"), "--ply"))
    assert "metres, by the median of the sample's ground truth" in capsys.readouterr().out
    (cloud,) = (tmp_path / "out").glob("*.ply")
    header, points, _ = read_ply(cloud)
    assert "comment x forward, y left, z up" in header
    assert 6 < np.median(np.linalg.norm(points, axis=1)) < 60  # 3.3 without the factor
    with pytest.raises(InputError, match="needs a model with metric scale"):
        main(words(run, tiny_ddad, "--pred_metric_depth"))


def test_empty_ground_truth_tells_no_factor():
    frame_set = SimpleNamespace(depth=lambda index: np.zeros((2, 4, 6), np.float32))
    with pytest.raises(InputError, match="has no ground truth to take it from"):
        scale_of(frame_set, 0, [np.ones((4, 6))] * 2)


def test_a_rig_predicts_without_the_masks_of_its_training(metric_run, tiny_ddad, tmp_path):
    bare = shutil.copytree(tiny_ddad, tmp_path / "bare", ignore=shutil.ignore_patterns("masks"))
    main(words(metric_run, bare, "--output", str(tmp_path / "out")))
    assert len(list((tmp_path / "out").glob("*_disp.png"))) == 6
    main(words(metric_run, bare, "--output", str(tmp_path / "out"), "--ply"))
    assert len(list((tmp_path / "out").glob("*.ply"))) == 1


def test_of_several_dataset_files_that_of_the_training_is_opened(tiny_ddad, tmp_path):
    data = shutil.copytree(tiny_ddad, tmp_path / "data")
    shutil.copy(data / "ddad.json", data / "other.json")
    trained = {**METRIC, "dataset": {"name": "ddad", "index": "other.json"}}
    main(words(save_run(tmp_path / "run", **trained), data, "--output", str(tmp_path / "out")))
    assert len(list((tmp_path / "out").glob("*_disp.png"))) == 6


@pytest.mark.parametrize("method", ["monodepth2", "bdedepth"])
def test_single_camera_model_trained_on_a_rig_is_metric(method, tiny_ddad, tmp_path, capsys):
    settings = {**METRIC, "method": method, "decoder": "depth_decoder", "dataset": "ddad"}
    run = save_run(tmp_path / "run", disparity=0.1, **settings)
    main(words(run, tiny_ddad, "--output", str(tmp_path / "out"), "--pred_metric_depth"))
    assert "depth is in metres" in capsys.readouterr().out


def test_model_of_two_cameras_reads_those_of_its_training(tiny_ddad, tmp_path):
    two = {"name": "ddad", "camera_names": ["front", "front_left"]}
    settings = {**RIG, "method": {**RIG["method"], "cameras": 2}, "dataset": two}
    main(words(save_run(tmp_path / "run", **settings), tiny_ddad, "--output", str(tmp_path / "out")))
    names = {path.stem.split("_", 3)[3] for path in (tmp_path / "out").glob("*_disp.png")}
    assert names == {"front_disp", "front_left_disp"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--sample", "77"), "there is no sample '77'; give a number from 0 to"),
        (("--image_path", "street.jpg"), "give either images, --image_path, or a sample"),
        (("--intrinsics", "1 1 1 1", "--ply"), "leave --intrinsics out"),
    ],
)
def test_contradictory_flags_are_refused(metric_run, tiny_ddad, more, sentence):
    with pytest.raises(InputError, match=sentence):
        main(words(metric_run, tiny_ddad, *more))


def test_rig_model_refuses_single_images_and_other_datasets(metric_run, tiny_kitti):
    image = next(tiny_kitti.rglob("*.png"))
    with pytest.raises(InputError, match="predicts 6 cameras of one frame set together"):
        main(["--run", str(metric_run), "--image_path", str(image), "--device", "cpu"])
    with pytest.raises(InputError, match="kitti has one camera; give its images"):
        main(["--run", str(metric_run), "--dataset", "kitti", "--device", "cpu"])
