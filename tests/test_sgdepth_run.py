"""SGDepth in a run: video with a labelled companion, masks, resuming, evaluation of both tasks."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests import runs
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def city(worlds, tmp_path_factory):
    plan = {"sequences": 3, "height": 96, "width": 160}
    root = worlds.copy(tmp_path_factory.mktemp("labelled") / "city", "cityscapes", **plan)
    for folder in list(root.glob("*/test")):  # the recording that is held out validates here
        folder.rename(folder.with_name("val"))
    return root


def words(data, city, log_dir, **settings):
    crop = "{height: 64, width: 96, shrink: 1.2}"
    return runs.arguments(
        data,
        log_dir,
        **{
            "method": "sgdepth",
            "encoder": "resnet18",
            "pose_model_type": "separate_resnet",
            "batch_size": 2,
            "max_steps": 6,
            "companion.name": "cityscapes",
            "companion.data_path": city,
            "companion.split": "fine",
            "companion.labels": "true",
            "companion.top_rows": 1,
            "companion.height": 96,
            "companion.width": 160,
            "augment.companion": f"{{jitter: 1.0, crop: {crop}}}",
            "losses.photometric.moving_objects": "{from_epoch: 0}",
            **settings,
        },
    )


def test_a_run_trains_both_tasks_and_resumes_with_its_overlaps(tiny_kitti, city, tmp_path):
    runs.train(words(tiny_kitti, city, tmp_path / "straight"))
    key = "loss_terms.photometric.moving_objects.observed"
    records = [r for r in runs.records(tmp_path / "straight") if "loss" in r]
    assert all({"photometric", "segmentation"} <= {k.rpartition("/")[2] for k in r} for r in records[:1])
    runs.train(words(tiny_kitti, city, tmp_path / "stopped", max_steps=2))
    runs.train([*words(tiny_kitti, city, tmp_path / "stopped"), "--resume", "auto"])
    one, two = runs.last(tmp_path / "straight"), runs.last(tmp_path / "stopped")
    assert one.training["step"] == 6 and key in one.weights
    for name, value in one.weights.items():
        assert torch.equal(value.nan_to_num(-1), two.weights[name].nan_to_num(-1)), name


def test_after_an_epoch_the_threshold_follows_its_overlaps(tiny_kitti, city, tmp_path):
    masked = "{from_epoch: 0, schedule: constant, share: 1.0}"
    settings = {"losses.photometric.moving_objects": masked, "max_steps": 8, "num_val": 1}
    runs.train(words(tiny_kitti, city, tmp_path, **settings))
    weights = runs.last(tmp_path).weights
    assert weights["loss_terms.photometric.moving_objects.threshold"] > 0
    assert weights["loss_terms.photometric.moving_objects.count"] == 0


def test_a_companion_of_another_size_is_refused_at_once(tiny_kitti, city, tmp_path):
    arguments = words(tiny_kitti, city, tmp_path, **{"augment.companion": "{}"})
    with pytest.raises(InputError, match="companion's images are 160x96 and the video's 96x64"):
        runs.build(arguments).rehearse()


def test_any_method_masks_by_label_files(tiny_folder, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for image in tiny_folder.glob("*.png"):
        Image.fromarray(np.full((64, 96), 26, np.uint8)).save(labels / image.name)  # all of it is a car
    masked = "{labels: files, schedule: always, from_epoch: 0}"
    trainer = runs.build(
        runs.arguments(
            tiny_folder, tmp_path, **{"label_files.path": labels, "losses.photometric.moving_objects": masked}
        )
    )
    terms = trainer.rehearse()
    assert terms["photometric"] == 0 and terms["smoothness"] > 0


def test_validation_measures_both_tasks_and_a_metric_selects(tiny_kitti, city, tmp_path, capsys):
    runs.train(words(tiny_kitti, city, tmp_path, max_steps=2, monitor="mean_iou", num_val=2))
    record = [r for r in runs.records(tmp_path) if "val/mean_iou" in r][-1]
    assert 0 <= record["val/mean_iou"] <= 1 and "val/abs_rel" in record
    best = runs.last(tmp_path).training["best"]
    assert best["metric"] == "mean_iou" and best["protocol"] == "Cityscapes"
    assert "best mean_iou" in capsys.readouterr().err


def test_an_unknown_metric_to_monitor_is_refused(tiny_kitti, city, tmp_path):
    with pytest.raises(InputError, match=r"--monitor mean_io is not measured here; did you mean 'mean_iou'"):
        runs.train(words(tiny_kitti, city, tmp_path, monitor="mean_io"))


def test_labels_without_validation_part_are_named(tiny_kitti, city, tmp_path, capsys):
    shutil.copytree(city, tmp_path / "city")
    shutil.rmtree(tmp_path / "city" / "gtFine" / "val")
    runs.train(words(tiny_kitti, tmp_path / "city", tmp_path / "run", max_steps=1))
    assert "segmentation is not validated: " in capsys.readouterr().out
