"""SC-Depth's files: recognised, complete, and read without running their pickles."""

from argparse import Namespace

import pytest
import torch

from checkpoints import load_checkpoint, load_weights
from methods import build_method, load_method
from tests.scdepth_goldens import ScDepthGolden, state_dict
from utils import InputError


def lightning(folder, case, state=None, **hparams):
    """A file as Lightning 1.7 writes it."""
    path = folder / "epoch=99-val_loss=0.1411.ckpt"
    content = {
        "epoch": 99, "global_step": 1000, "pytorch-lightning_version": "1.7.3", "loops": {"fit_loop": {}},
        "state_dict": state or state_dict(case), "hparams_name": "kwargs",
        "hyper_parameters": {"hparams": Namespace(resnet_layers=18, lr=1e-4, **hparams)},
        "datamodule_hparams_name": "kwargs", "datamodule_hyper_parameters": {"hparams": Namespace()},
    }  # fmt: skip
    torch.save(content, path)
    return path


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_each_version_is_recognised_from_its_keys(tmp_path, version):
    path = lightning(tmp_path, f"scdepth_step_{version}", model_version=version, dataset_name="nyu")
    checkpoint = load_checkpoint(path)
    options = checkpoint.options
    assert checkpoint.layout == "sc_depth"
    assert options["method"] == {"name": "sc_depth", "version": version}
    assert (options["num_layers"], options["scales"], options["pose_encoder"]) == (18, [0], "resnet18")
    assert (options["height"], options["width"], options["decoder"]) == (256, 320, "depth_decoder_bilinear")
    networks = {key.split(".")[0] for key in checkpoint.weights}
    rectifier = {"rectifier"} if version == "v2" else set()
    assert networks == {"encoder", "depth", "pose_encoder", "pose"} | rectifier
    assert "depth_net.encoder.encoder.fc.weight" in checkpoint.ignored
    assert "depth_net.decoder.dispconvs.3.conv.bias" in checkpoint.ignored


def published_networks():
    """A V1 state dict whose depth network is the recorded one."""
    return {
        f"{network}_net.{key}": value
        for network in ("depth", "pose")
        for key, value in state_dict(f"scdepth_{network}net18").items()
    }


def test_a_published_file_predicts_the_published_depth(tmp_path):
    golden = ScDepthGolden("scdepth_depthnet18")
    golden.prefix = "B/scdepth_depthnet18"
    method, _ = load_method(lightning(tmp_path, "", published_networks(), dataset_name="kitti"))
    with torch.no_grad():
        golden.close("depth", method.eval().predict_depth(golden.image("image")))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_training_continues_from_each_version(tmp_path, version):
    checkpoint = load_checkpoint(lightning(tmp_path, f"scdepth_step_{version}", model_version=version))
    method = build_method({**checkpoint.options, "weights_init": "scratch"})
    report = load_weights(method, checkpoint.weights)
    assert report.startswith("loaded encoder (120 tensors), depth (22 tensors), pose_encoder (120 tensors)")
    assert "left aside" not in report


def test_an_older_file_without_options_of_v3_is_v1(tmp_path):
    checkpoint = load_checkpoint(lightning(tmp_path, "scdepth_step_v1", num_gpus=1))
    assert checkpoint.options["method"]["version"] == "v1" and "height" not in checkpoint.options


def test_rotation_comes_first_in_our_pose_network(tmp_path):
    checkpoint = load_checkpoint(lightning(tmp_path, "scdepth_step_v1"))
    theirs = state_dict("scdepth_step_v1")["pose_net.decoder.convs_pose.2.bias"]
    assert torch.equal(checkpoint.weights["pose.net.3.bias"], theirs[[3, 4, 5, 0, 1, 2]])


@pytest.fixture
def sfmlearner(tmp_path):
    """SC-SfMLearner's two files, from the keys of SC-Depth's networks."""
    depth, pose = {}, {}
    for key, value in state_dict("scdepth_depthnet18").items():
        name, _, rest = key.removeprefix("decoder.").partition(".")
        number, _, leaf = rest.partition(".")
        first = {"upconvs0": 0, "upconvs1": 1}.get(name)
        if key.startswith("encoder."):
            depth[key] = value
        elif first is not None:
            depth[f"decoder.decoder.{2 * int(number) + first}.{leaf}"] = value
        else:
            depth[f"decoder.decoder.{10 + int(number)}.{leaf}"] = value
    for key, value in state_dict("scdepth_posenet18").items():
        key = key.replace("decoder.conv_squeeze", "decoder.net.0")
        for number in range(3):
            key = key.replace(f"decoder.convs_pose.{number}", f"decoder.net.{number + 1}")
        pose[key] = value
    for name, state in (("dispnet", depth), ("exp_pose", pose)):
        torch.save({"epoch": 200, "state_dict": state}, tmp_path / f"{name}_model_best.pth.tar")
    return tmp_path


@pytest.mark.parametrize("name", ["dispnet", "exp_pose"])
def test_both_files_of_sc_sfmlearner_are_read_together(sfmlearner, name):
    checkpoint = load_checkpoint(sfmlearner / f"{name}_model_best.pth.tar")
    assert {key.split(".")[0] for key in checkpoint.weights} == {"encoder", "depth", "pose_encoder", "pose"}
    assert checkpoint.options["decoder"] == "depth_decoder" and checkpoint.options["scales"] == [0]
    assert checkpoint.options["method"] == {"name": "sc_depth", "version": "v1"}
    assert not any(".fc." in key for key in checkpoint.weights)


def test_depth_file_without_pose_file_predicts_depth(sfmlearner):
    (sfmlearner / "exp_pose_model_best.pth.tar").unlink()
    checkpoint = load_checkpoint(sfmlearner / "dispnet_model_best.pth.tar")
    assert {key.split(".")[0] for key in checkpoint.weights} == {"encoder", "depth"}
    method, _ = load_method(sfmlearner / "dispnet_model_best.pth.tar")
    depth = method.predict_depth(torch.rand(1, 3, 64, 96))
    assert depth.min() >= 0.0999 and depth.max() <= 100.01


def test_pose_file_without_depth_file_is_refused(sfmlearner):
    (sfmlearner / "dispnet_model_best.pth.tar").unlink()
    with pytest.raises(InputError, match=r"only the pose network; .*dispnet_model_best.pth.tar"):
        load_checkpoint(sfmlearner / "exp_pose_model_best.pth.tar")


class Malicious:
    def __reduce__(self):
        return eval, ("1/0",)


def test_file_that_runs_code_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "callbacks": Malicious()}, path)
    with pytest.raises(InputError, match="nothing of it ran"):
        load_checkpoint(path)
