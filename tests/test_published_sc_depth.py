"""A config of the published SC-Depth means here what it meant there."""

import pytest

from options import parse
from utils import InputError

COMMON = "num_epochs = 100\nepoch_size = 1000\nlr = 1e-4\nresnet_layers = 18\n"


def options_of(folder, text):
    path = folder / "published.txt"
    path.write_text(text)
    return parse(["--config", str(path)])


def test_v1_on_kitti(tmp_path, capsys):
    text = COMMON + "exp_name = kitti_scv1\ndataset_name = kitti\nmodel_version = v1\nbatch_size = 4\n"
    options = options_of(tmp_path, text)
    assert options.method == {"name": "sc_depth", "version": "v1", "published": True}
    assert (options.height, options.width, options.batch_size, options.num_epochs) == (256, 832, 4, 100)
    assert options.losses == {
        "pairwise": {"weight": 1.0, "geometry_weight": 0.1},
        "depth_smoothness": {"weight": 0.1},
    }
    assert (options.scales, options.decoder, options.scheduler) == ([0], "depth_decoder_bilinear", "constant")
    assert options.augment["jitter"] == 0.0 and options.model_name == "kitti_scv1"
    assert (options.steps_per_epoch, options.sample_with_replacement) == (1000, True)
    said = capsys.readouterr().err
    assert "a config of the published SC-Depth: its random scaling" in said
    assert "--dataset testing_tree --dataset.benchmark kitti evaluates with its crop" in said


def test_v2_with_a_bare_flag(tmp_path):
    text = (
        COMMON
        + "dataset_name = bonn\nmodel_version = v2\nbatch_size = 8\nuse_frame_index\nrot_t_weight = 0.5\n"
    )
    options = options_of(tmp_path, text)
    assert options.losses["rotation"] == {"consistency_weight": 1.0, "triplet_weight": 0.5}
    assert options.dataset["name"] == "folder" and options.dataset["depth_scale"] == 1000.0
    assert options.dataset["frame_index"] is True and options.monitor is None


def test_v3_reads_pseudo_depth_ten_frames_apart(tmp_path):
    text = (
        COMMON + "dataset_name = tum\nmodel_version = v3\nbatch_size = 8\nskip_frames = 10\nno_min_optimize\n"
    )
    options = options_of(tmp_path, text)
    assert options.dataset["pseudo_depth"] is True and options.dataset["stride"] == 10
    assert options.losses["pairwise"]["reduction"] == "mean" and "depth_smoothness" not in options.losses
    assert options.losses["edge_ranking"] == {"weight": 0.1}


def test_five_frames_are_two_on_each_side(tmp_path):
    options = options_of(tmp_path, COMMON + "model_version = v1\nsequence_length = 5\n")
    assert options.frame_ids == [0, -2, -1, 1, 2]


def test_geometry_without_photometric_error_is_its_own_term(tmp_path):
    options = options_of(tmp_path, COMMON + "model_version = v1\nphoto_weight = 0\n")
    assert options.losses["pairwise"] == {"weight": 0.0}
    assert options.losses["geometry_consistency"]["weight"] == 0.1


def test_an_unknown_key_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="unknown option 'photo_wait'"):
        options_of(tmp_path, COMMON + "model_version = v1\nphoto_wait = 3\n")


def test_epoch_size_and_validation_by_photometric_loss(tmp_path):
    options = options_of(tmp_path, COMMON.replace("1000", "50") + "model_version = v1\nval_mode = photo\n")
    assert (options.steps_per_epoch, options.sample_with_replacement, options.monitor) == (50, True, "loss")
    assert parse(["--epoch_size", "7", "--dataset_dir", "x"]).steps_per_epoch == 7
