"""An opt.json of the published SGDepth means here what it meant there."""

import json

import pytest

from options import effective, parse, read_config
from published_configs import is_sgdepth, sgdepth
from utils import InputError

# The published scripts: what differs from the defaults.
FULL = {"masking_enable": True, "masking_from_epoch": 15, "masking_linear_increase": True}
ONLY_DEPTH = {
    "depth_training_batch_size": 12,
    "segmentation_training_loaders": "",
    "train_depth_grad_scale": 1.0,
    "train_segmentation_grad_scale": 0.0,
}
ZHOU = {"depth_training_loaders": "kitti_zhou_train", "train_batches_per_epoch": 7293}
RECORD = {
    "model_split_pos": 1, "model_load": None, "experiment_class": "sgdepth_eccv_test",
    "model_name": "zhou_full", "depth_validation_loaders": "kitti_kitti_validation",
}  # fmt: skip


def settings_of(words):
    return effective(parse(words))


def write(tmp_path, **changes):
    path = tmp_path / "opt.json"
    path.write_text(json.dumps({**RECORD, **ZHOU, **changes}))
    return str(path)


def test_the_published_full_run_is_our_config(tmp_path, capsys):
    theirs = settings_of(["--config", write(tmp_path, **FULL)])
    ours = settings_of(["--config", "configs/sgdepth.yaml"])
    assert "config of the published SGDepth" in capsys.readouterr().err
    # Named apart: how often it is saved, how many processes read, and two details of the published terms.
    details = {"noise": 0.0, "image_resize": "bilinear"}
    for settings in (theirs, ours):
        for name in ("model_name", "save_frequency", "num_workers"):
            settings.pop(name)
    photometric = theirs["losses"]["photometric"]
    assert photometric.pop("noise") == details["noise"]
    assert theirs["losses"].pop("smoothness") == {"image_resize": "bilinear"}
    moving = photometric["moving_objects"]
    assert moving.pop("share") == 0.1  # read only by the schedule `constant`
    assert ours["losses"]["photometric"]["moving_objects"].pop("labels") == "predicted"
    assert theirs["method"].pop("name") == ours["method"].pop("name") == "sgdepth"
    assert {k: v for k, v in theirs.items() if ours.get(k) != v} == {
        k: v for k, v in theirs.items() if k == "pose_encoder"
    }


def test_only_depth_has_no_companion(tmp_path):
    options = read_config(write(tmp_path, **ONLY_DEPTH))
    assert "companion" not in options and options["losses"]["segmentation"] == {"weight": 0}
    assert options["batch_size"] == 12
    assert options["method"]["depth_gradient"] == 1.0


def test_masking_without_linear_increase_is_a_constant_share(tmp_path):
    options = read_config(write(tmp_path, masking_enable=True, moving_mask_percent=0.3))
    moving = options["losses"]["photometric"]["moving_objects"]
    assert (moving["schedule"], moving["share"]) == ("constant", 0.3)


def test_without_the_automask_both_sources_are_averaged(tmp_path):
    options = read_config(write(tmp_path, depth_disable_automasking=True))
    assert options["disable_automasking"] and options["avg_reprojection"]


def test_what_is_left_out_is_named():
    changes = {**RECORD, "depth_training_loaders": "kitti_kitti_train", "segmentation_training_batch_size": 2}
    notes = "; ".join(sgdepth(changes)[1])
    for words in (
        "multiplies by the learning rate itself",
        "the list of kitti_kitti_train is not published",
        "segmentation_training_batch_size 2 is left out",
        "model_load (--load_weights_folder",
        "depth_validation_loaders",
    ):
        assert words in notes


def test_an_unknown_option_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="model_split_poss"):
        parse(["--config", write(tmp_path, model_split_poss=1)])


def test_other_settings_are_not_taken_for_sgdepth():
    assert is_sgdepth(RECORD) and not is_sgdepth({"method": "sgdepth", "height": 192})


def test_a_companion_named_none_is_left_out(tmp_path):
    assert parse(["--config", "configs/sgdepth.yaml", "--companion", "none"]).companion == {}
    path = tmp_path / "without.yaml"
    path.write_text("companion: none\n")
    assert parse(["--config", "configs/sgdepth.yaml", str(path)]).companion == {}
    assert parse(["--config", "configs/sgdepth.yaml"]).companion["name"] == "cityscapes"
