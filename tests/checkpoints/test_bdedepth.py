"""BDEdepth's published file: recognition, options from keys and shapes, and complete weights."""

import json

import pytest
import torch

from checkpoints import load_checkpoint, load_weights
from methods import build_method, load_method
from tests import goldens
from utils import InputError

POSE = {"pose_encoder": "pose_encoder", "pose": "pose"}


def entries(name: str) -> list:
    return json.loads((goldens.FOLDER / f"bdedepth_{name}.keys.json").read_text())


def hollow(name: str) -> dict[str, torch.Tensor]:
    """The right keys and shapes; each tensor is one zero repeated, a few bytes."""
    return {
        key: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for key, shape, kind in entries(name)
    }


def published(path, backbone="hrnet18", scales="", make=hollow, **extra):
    names = {"encoder": f"{backbone}_encoder", "depth": f"{backbone}_depth{scales}", **POSE}
    content = {network: make(name) for network, name in names.items()}
    torch.save({**content, "height": 64, "width": 96, "use_stereo": False, **extra}, path)
    return path


@pytest.mark.parametrize("backbone", ["hrnet18", "resnet18"])
@pytest.mark.parametrize("scales", ["", "_4scales"])
def test_keys_and_shapes_determine_the_options(tmp_path, backbone, scales):
    checkpoint = load_checkpoint(published(tmp_path / "model19.pth", backbone, scales))
    assert checkpoint.layout == "bdedepth"
    options = checkpoint.options
    assert (options["method"], options["encoder"], options["pose_encoder"]) == (
        "bdedepth",
        backbone,
        "resnet18",
    )
    assert options["scales"] == ([0, 1, 2, 3] if scales else [0])
    assert (options["height"], options["width"], options["frame_ids"]) == (64, 96, [0, -1, 1])
    assert options["pose_model_type"] == "separate_resnet" and options["pose_model_input"] == "pairs"
    method = build_method({**options, "weights_init": "scratch"})
    report = load_weights(method, checkpoint.weights)
    assert report.startswith("loaded encoder (") and "left aside" not in report


@pytest.mark.parametrize("backbone", ["hrnet18", "resnet18"])
def test_file_of_two_networks_predicts_as_published(tmp_path, backbone):
    path = published(
        tmp_path / "kitti.pth", backbone, make=lambda name: goldens.state_dict(f"bdedepth_{name}")
    )
    content = torch.load(path, weights_only=True)
    torch.save({key: content[key] for key in ("encoder", "depth")}, path)
    golden = goldens.Golden(f"bdedepth_{backbone}")
    method, options = load_method(path)
    image = goldens.tensor(golden.inputs()["x"])
    with torch.no_grad():
        golden.close("disp_0", method.predict_disparities(image).disparities[0])
    assert "height" not in options and not hasattr(method, "pose")
    with pytest.raises(InputError, match="no pose network"):
        method.predict_pose(image, image)


def test_published_optimiser_state_matches_the_parameters(tmp_path):
    names = {"encoder": "resnet18_encoder", "depth": "resnet18_depth", **POSE}
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [
        (f"{network}.{key}", shape)
        for network, name in names.items()
        for key, shape, _ in entries(name)
        if not key.endswith(buffers)
    ]
    state = {
        number: {
            "step": torch.tensor(7.0),
            **{k: torch.zeros(()).expand(shape) for k in ("exp_avg", "exp_avg_sq")},
        }
        for number, (key, shape) in enumerate(parameters)
        if ".fc." not in key
    }
    adam = {"state": state, "param_groups": [{"lr": 1e-5, "params": list(range(len(parameters)))}]}
    scheduler = {"last_epoch": 3, "milestones": {15: 1}}
    path = published(tmp_path / "ckpt.pth", "resnet18", optimizer=adam, lr_scheduler=scheduler, epoch=3)
    checkpoint = load_checkpoint(path)
    states = checkpoint.training["optimizer_by_name"]
    assert set(states) == {key for key, _ in parameters if ".fc." not in key}
    assert states["encoder.conv1.weight"]["exp_avg"].shape == (64, 3, 7, 7)  # the context's
    assert {"lr_scheduler", "epoch", "encoder.encoder.fc.bias"} <= set(checkpoint.ignored)


def test_unknown_encoder_is_refused(tmp_path):
    path = published(tmp_path / "x.pth")
    content = torch.load(path, weights_only=True)
    content["encoder"] = {"stem.weight": torch.zeros(1)}
    torch.save(content, path)
    with pytest.raises(InputError, match=r"x\.pth: its encoder is neither an HRNet nor a ResNet"):
        load_checkpoint(path)
