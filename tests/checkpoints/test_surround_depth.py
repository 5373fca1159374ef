"""A published SurroundDepth folder: recognised before Monodepth2's, complete, and a start for training."""

import json

import pytest
import torch

from checkpoints import load_checkpoint, load_optimizer, load_weights
from methods import build_method, load_method
from methods.metric_scale import dataset_to_evaluate
from predictor import load_predictor
from tests.goldens import Golden, state_dict, tensor
from utils import InputError

FILES = ("encoder", "depth", "pose_encoder", "pose")


@pytest.fixture(scope="module")
def published():
    """File name → content, as published for DDAD except for the image's height."""
    content = {name: state_dict(f"surrounddepth_{name}_resnet34") for name in FILES}
    content["encoder"] |= {"height": 384, "width": 640, "use_stereo": False}
    return content


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log") / "weights_1541"
    folder.mkdir()
    for name, content in published.items():
        torch.save(content, folder / f"{name}.pth")
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    entries = [
        (name, key, value)
        for name in FILES
        for key, value in published[name].items()
        if isinstance(value, torch.Tensor) and not key.endswith(buffers)
    ]
    wanted = {("pose", "net.3.bias"), ("depth", "decoder_cross.4.decoder.7.norm1.weight")}
    states = {
        number: {"step": 3, "exp_avg": torch.full_like(value, 0.5), "exp_avg_sq": torch.ones_like(value)}
        for number, (name, key, value) in enumerate(entries)
        if (name, key) in wanted
    }
    torch.save(
        {"state": states, "param_groups": [{"lr": 1e-5, "params": list(range(len(entries)))}]},
        folder / "adam.pth",
    )
    return folder


def test_height_determines_the_options_of_the_folder(folder):
    checkpoint = load_checkpoint(folder)
    assert checkpoint.layout == "surround_depth"
    options = checkpoint.options
    assert options["method"] == {
        "name": "surround_depth", "cameras": 6, "blocks": 8, "focal_scale": 715.0873,
    }  # fmt: skip
    assert options["dataset"] == {"name": "ddad"}
    assert (options["num_layers"], options["height"], options["width"]) == (34, 384, 640)
    assert (options["min_depth"], options["max_depth"], options["resize"]) == (0.1, 200.0, "lanczos")
    assert options["scales"] == [0, 1, 2, 3] and options["frame_ids"] == [0, -1, 1]
    assert len([key for key in checkpoint.weights if key.startswith("depth.")]) == 573


def test_opt_json_overrides_the_options_of_the_height(folder, tmp_path):
    for file in folder.glob("*.pth"):
        (tmp_path / file.name).symlink_to(file)
    recorded = {"joint_pose": True, "focal_scale": 500.0, "max_depth": 80.0, "dataset": "nusc", "height": 384}
    (tmp_path / "opt.json").write_text(json.dumps(recorded))
    options = load_checkpoint(tmp_path).options
    assert options["method"]["joint_pose"] is True and options["method"]["focal_scale"] == 500.0
    assert options["dataset"] == {"name": "nuscenes"} and options["max_depth"] == 80.0


def test_opt_json_with_metric_terms_makes_depth_metric(folder, tmp_path):
    assert load_predictor(folder, device="cpu").metric_scale is None
    for file in folder.glob("*.pth"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "opt.json").write_text(json.dumps({"spatial": True, "spatial_weight": 0.075}))
    assert load_checkpoint(tmp_path).options["losses"] == {"spatial": {"weight": 0.075}}
    assert load_predictor(tmp_path, device="cpu").metric_scale == 1.0


@pytest.fixture
def of_another_height(published, folder, tmp_path):
    """The same folder, of images 256 high."""
    for file in folder.glob("*.pth"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "encoder.pth").unlink()
    torch.save({**published["encoder"], "height": 256, "width": 448}, tmp_path / "encoder.pth")
    return tmp_path


def test_unknown_height_leaves_the_scale_of_depth_open(of_another_height):
    words = r"the model's max_depth and focal_scale, .* 384 \(ddad\) or 352 \(nuscenes\) .* is 256; write"
    with pytest.raises(InputError, match=words):
        load_method(of_another_height)
    with pytest.raises(InputError, match=words):
        load_predictor(of_another_height, device="cpu")
    opt_json = of_another_height / "opt.json"
    opt_json.write_text(json.dumps({"max_depth": 120.0}))
    example = r"""the model's focal_scale, .*such as ddad's {"focal_scale": 715.0873, "dataset": "ddad"} or"""
    with pytest.raises(InputError, match=example):
        load_method(of_another_height)
    opt_json.write_text(json.dumps({"max_depth": 120.0, "focal_scale": 400.0}))
    method, _ = load_method(of_another_height)
    assert (method.max_depth, method.focal_scale) == (120.0, 400.0)
    opt_json.write_text(json.dumps({"max_depth": 120.0, "focal": False}))
    assert load_checkpoint(of_another_height).missing is None


def test_opt_json_of_another_height_tells_the_dataset(of_another_height):
    opt_json = of_another_height / "opt.json"
    opt_json.write_text(json.dumps({"max_depth": 80.0, "focal_scale": 500.0}))  # only nuScenes'
    assert load_checkpoint(of_another_height).options["dataset"] == {"name": "nuscenes"}
    opt_json.write_text(json.dumps({"max_depth": 120.0, "focal_scale": 400.0}))
    options = load_checkpoint(of_another_height).options
    with pytest.raises(InputError, match=r'not name its dataset; .*--dataset.*"dataset": "ddad"'):
        dataset_to_evaluate(options)
    opt_json.write_text(json.dumps({"max_depth": 120.0, "focal_scale": 400.0, "dataset": "ddad"}))
    assert dataset_to_evaluate(load_checkpoint(of_another_height).options) == "ddad"
    assert dataset_to_evaluate({"method": "monodepth2"}) == "kitti"  # what Monodepth2 was published for


def test_training_starts_from_weights_of_another_height(of_another_height):
    checkpoint = load_checkpoint(of_another_height)
    assert checkpoint.missing and "focal_scale" not in checkpoint.options["method"]
    section = {**checkpoint.options["method"], "focal_scale": 400.0}
    method = build_method({**checkpoint.options, "method": section, "weights_init": "scratch"})
    assert "depth (573 tensors)" in load_weights(method, checkpoint.weights)


def test_prediction_is_the_published_one(folder):
    golden = Golden("surrounddepth_depth_resnet34")
    method, _ = load_method(folder)
    with torch.no_grad():
        logits = method.depth.logits(method.encoder(tensor(golden.inputs()["x"])))
        depth = method.predict_depth(torch.rand(6, 3, 64, 96), 715.0873 * torch.eye(3).expand(6, 3, 3))
    golden.close("logit_0", logits[0])
    assert depth.shape == (6, 1, 64, 96) and depth.min() > 0.0999 and depth.max() < 200.1


def test_training_continues_with_the_published_adam_state(folder):
    checkpoint = load_checkpoint(folder)
    section = {**checkpoint.options["method"], "joint_pose": True}
    method = build_method({**checkpoint.options, "method": section, "weights_init": "scratch"})
    report = load_weights(method, checkpoint.weights)
    assert report.startswith("loaded encoder (216 tensors), depth (573 tensors), pose_encoder (216 tensors)")
    optimizer = torch.optim.Adam(method.parameters(), 1e-4)
    states = checkpoint.training["optimizer_by_name"]
    assert load_optimizer(optimizer, method, states).startswith("loaded the optimiser state of 2 of")
    state = optimizer.state[method.depth.cross[4].blocks[7].norm1.weight]
    assert state["exp_avg"][0] == 0.5 and optimizer.param_groups[0]["lr"] == 1e-4
