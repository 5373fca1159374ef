"""PackNet-SfM's files: recognised by keys and shapes, not by their config, and written back."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from checkpoints import load_checkpoint, load_optimizer, write_packnet
from checkpoints._record import Checkpoint
from checkpoints.packnet import PACKNET
from networks import NETWORKS, build_encoder
from tests.goldens import FOLDER
from utils import InputError

WHERE = Path("model.ckpt")
PREFIX = "model.depth_net."
# Case → our name, version, dropout of its depth network.
PACKNETS = {
    "packnet01_1A": ("packnet", "1A", 0.0),
    "packnet01_1A_dropout": ("packnet", "1A", 0.5),
    "packnet01_1B": ("packnet", "1B", 0.0),
    "packnetslim01_1A": ("packnet_slim", "1A", 0.0),
    "packnetsan01_1A_rgb": ("packnet_san", "1A", 0.0),
    "packnetsan01_1A_dropout": ("packnet_san", "1A", 0.5),
}


def entries(case: str, prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    """The published state dict as zeros that need no memory."""
    listed = json.loads((FOLDER / f"packnet_{case}.keys.json").read_text())
    return {
        f"{prefix}{key}": torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for key, shape, dtype in listed
    }


def read(state: dict, **content) -> Checkpoint:
    return PACKNET.read({"state_dict": state, **content}, WHERE)


def shapes(weights: dict[str, torch.Tensor]) -> dict[str, tuple]:
    return {key: tuple(value.shape) for key, value in weights.items()}


@pytest.mark.parametrize("case", PACKNETS)
def test_keys_and_shapes_determine_the_packnet(case):
    name, version, dropout = PACKNETS[case]
    checkpoint = read(entries(case))
    options = checkpoint.options
    assert options["depth_network"] == {"name": name, "version": version, "dropout": dropout}
    assert (options["min_depth"], options["max_depth"]) == (0.5, float("inf"))
    with torch.device("meta"):
        network = NETWORKS.get(name)(version=version, dropout=dropout)
    expected = {f"depth.{key}": tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes(checkpoint.weights) == expected and checkpoint.ignored == []


def test_a_depth_resnet_is_encoder_and_decoder():
    checkpoint = read(entries("depthresnet18"))
    options = checkpoint.options
    assert "depth_network" not in options and options["num_layers"] == 18
    assert (options["min_depth"], options["max_depth"]) == (0.1, 100.0)
    encoder = build_encoder("resnet18")
    pair = torch.nn.ModuleDict(
        {"encoder": encoder, "depth": NETWORKS.get("depth_decoder")(encoder.num_channels)}
    )
    assert shapes(checkpoint.weights) == shapes(pair.state_dict())
    assert sorted(checkpoint.ignored) == ["encoder.encoder.fc.bias", "encoder.encoder.fc.weight"]


def test_ray_surfaces_and_pose_networks_are_recognised():
    state = {**entries("raysurfaceresnet18"), **entries("poseresnet18", "model.pose_net.")}
    checkpoint = read(state)
    assert checkpoint.options["depth_network"] == {"name": "ray_surface", "num_layers": 18}
    assert checkpoint.options["pose_model_type"] == "packnet_pose_resnet"
    assert checkpoint.options["pose_encoder"] == "resnet18"
    parts = {"depth": NETWORKS.get("ray_surface")(), "pose": NETWORKS.get("packnet_pose_resnet")()}
    assert shapes(checkpoint.weights) == shapes(torch.nn.ModuleDict(parts).state_dict())
    steps = read(entries("selfsup_step", ""))
    assert steps.options["pose_model_type"] == "packnet_pose"
    assert steps.options["frame_ids"] == [0, -1, 1]
    assert "pose_model_type" not in read(entries("packnet01_1A")).options


def test_files_without_classifier_or_dropout_names_are_read():
    without = {key: value for key, value in entries("depthresnet18").items() if ".fc." not in key}
    assert shapes(read(without).weights) == shapes(read(entries("depthresnet18")).weights)
    renamed = read(entries("packnetsan01_1A_rgb"), config={"model": {"depth_net": {"dropout": 0.5}}})
    assert renamed.options["depth_network"]["dropout"] == 0.5
    assert shapes(renamed.weights) == shapes(read(entries("packnetsan01_1A_dropout")).weights)


def test_names_of_the_first_release_are_read():
    pairs = json.loads((FOLDER / "packnet_backwards_keys.json").read_text())
    full = entries("selfsup_step", "")
    old = {}
    for key, value in full.items():
        key = key.removeprefix("model.").replace("depth_net.", "disp_network.", 1)
        old[key.replace("pose_net.", "pose_network.", 1)] = value
    replaced = {new.removeprefix("model."): key for key, new in pairs}
    for key in list(old):
        plain = key.replace("disp_network.", "depth_net.").replace("pose_network.", "pose_net.")
        if plain in replaced:
            old[replaced[plain]] = old.pop(key)
    assert set(old) >= {key for key, _ in pairs}
    assert PACKNET.recognise({"state_dict": old})
    assert shapes(read(old).weights) == shapes(read(full).weights)


CONFIG = {
    "model": {
        "name": "SemiSupCompletionModel",
        "depth_net": {"name": "PackNetSlimEnc01", "version": "1A", "dropout": 0.5},
    },
    "datasets": {
        "augmentation": {"image_shape": (), "crop_train_borders": (-352, 0, 0.5, 1216)},
        "train": {"dataset": ["KITTI"]},
    },
    "prepared": True,
}


def test_a_saved_config_node_is_read_without_its_package(tmp_path, monkeypatch):
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    for name, value in {"yacs": types.ModuleType("yacs"), "yacs.config": module}.items():
        monkeypatch.setitem(sys.modules, name, value)

    def node(values):
        if not isinstance(values, dict):
            return values
        made = module.CfgNode({key: node(value) for key, value in values.items()})
        made.__dict__["__immutable__"] = True  # as yacs keeps it
        return made

    content = {"config": node(CONFIG), "epoch": 3, "state_dict": entries("packnetsan01_1A_dropout")}
    file = tmp_path / "PackNetSAN01_HR_sup_K.ckpt"
    torch.save({**content, "scheduler": {"last_epoch": 3}}, file)
    monkeypatch.undo()
    checkpoint = load_checkpoint(file)
    options = checkpoint.options
    assert checkpoint.layout == "packnet"
    # The class that the config names was never published.
    assert options["depth_network"] == {"name": "packnet_san", "version": "1A", "dropout": 0.5}
    assert (options["height"], options["width"]) == (352, 1216)
    assert options["dataset"] == {"name": "kitti"}
    assert options["losses"] == {"supervised_depth": {"weight": 0.9}}
    assert checkpoint.ignored == ["epoch", "scheduler"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"datasets": {"augmentation": {"image_shape": (192, 640)}}}, {"height": 192, "width": 640}),
        ({"datasets": {"augmentation": {"image_shape": "large"}}}, {}),
        ({"datasets": {"test": {"dataset": ["DGP"]}}}, {"dataset": {"name": "ddad"}}),
        ({"model": {"name": "VelSupModel"}}, {"losses": {"velocity": {"weight": 0.1}}}),
        ({"model": {"name": "SelfSupModel"}}, {}),
        ({"model": "SelfSupModel"}, {}),
        ("no config", {}),
    ],
)
def test_config_adds_options_that_shapes_do_not_determine(config, expected):
    options = read(entries("packnet01_1A"), config=config).options
    found = {key: options[key] for key in ("height", "width", "dataset", "losses") if key in options}
    assert found == expected


def test_optimiser_state_is_matched_by_name():
    state = entries("selfsup_step", "")
    # Two groups, depth first; the saved state dict may list the pose network first.
    listed = [key for key in state if "depth_net" in key] + [key for key in state if "pose_net" in key]
    number = {key: index for index, key in enumerate(listed)}
    chosen = {"model.depth_net.conv2.0.conv3.bias": 0.25, "model.pose_net.conv3.0.bias": 0.5}
    adam = {
        "state": {
            number[key]: {"step": 2, "exp_avg": torch.full(state[key].shape, value)}
            for key, value in chosen.items()
        },
        "param_groups": [
            {"lr": 1e-4, "params": [number[key] for key in listed if part in key]}
            for part in ("depth_net", "pose_net")
        ],
    }
    swapped = dict(sorted(state.items(), key=lambda item: "depth_net" in item[0]))
    checkpoint = read(swapped, optimizer=adam)
    states = checkpoint.training["optimizer_by_name"]
    assert states["depth.encoder.conv2.0.conv3.bias"]["exp_avg"].unique().item() == 0.25
    assert states["pose.conv3.0.bias"]["exp_avg"].unique().item() == 0.5
    model = torch.nn.ModuleDict({"pose": NETWORKS.get("packnet_pose")()})
    report = load_optimizer(torch.optim.Adam(model.parameters()), model, states)
    assert report == "loaded the optimiser state of 1 of 30 parameters"
    other = read(state, optimizer={"state": {}, "param_groups": [{"params": [0, 1]}]})
    assert other.training is None and other.ignored[0].startswith("optimizer (its parameters")


@pytest.mark.parametrize("case", [*PACKNETS, "depthresnet18", "raysurfaceresnet18"])
@pytest.mark.parametrize("pose", ["posenet", "poseresnet18"])
def test_written_files_have_the_published_entries(tmp_path, case, pose):
    state = {**entries(case), **entries(pose, "model.pose_net.")}
    config = {"datasets": {"augmentation": {"image_shape": (192, 640)}}}
    checkpoint = read(state, config=config)
    write_packnet(tmp_path / "ours.ckpt", checkpoint)
    written = torch.load(tmp_path / "ours.ckpt", weights_only=True)
    assert shapes(written["state_dict"]) == shapes(state)
    assert set(written) == {"config", "epoch", "state_dict"} and written["config"]["prepared"] is True
    again = load_checkpoint(tmp_path / "ours.ckpt")
    assert again.options == checkpoint.options and shapes(again.weights) == shapes(checkpoint.weights)


def test_the_written_config_names_the_published_classes(tmp_path):
    state = {**entries("packnetsan01_1A_dropout"), **entries("poseresnet18", "model.pose_net.")}
    write_packnet(tmp_path / "ours.ckpt", read(state))
    model = torch.load(tmp_path / "ours.ckpt", weights_only=True)["config"]["model"]
    assert model["depth_net"] == {"name": "PackNetSAN01", "version": "1A", "dropout": 0.5}
    assert model["pose_net"] == {"name": "PoseResNet", "version": "18pt", "dropout": 0.0}


def test_other_networks_are_not_written(tmp_path):
    weights = {"encoder.encoder.conv1.weight": torch.zeros(1), "pose.net.0.weight": torch.zeros(1)}
    with pytest.raises(InputError, match=r"this model has pose\.net\.0\.weight; export it as a release"):
        write_packnet(tmp_path / "ours.ckpt", Checkpoint(weights, {}))
    assert not (tmp_path / "ours.ckpt").exists()


def narrow(state: dict[str, torch.Tensor], key: str, *shape: int) -> dict[str, torch.Tensor]:
    return {**state, f"{PREFIX}{key}": torch.zeros(()).expand(shape)}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {f"{PREFIX}dense.weight": torch.zeros(1)},
            "is not one of PackNet01, .* RaySurfaceResNet; .* dense.weight; give a file",
        ),
        (narrow(entries("packnet01_1A"), "pre_calc.conv_base.weight", 48, 3, 5, 5), "this one with 48"),
        (narrow(entries("packnet01_1A"), "iconv5.conv_base.weight", 512, 512, 3, 3), "here 512"),
        (
            {**entries("packnet01_1A"), "model.pose_net.dense.weight": torch.zeros(1)},
            "neither a PoseNet nor a PoseResNet; its first entries are dense.weight",
        ),
    ],
)
def test_unknown_networks_are_named(state, words):
    with pytest.raises(InputError, match=words):
        read(state)


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        (["depth_net.pre_calc.conv_base.weight"], True),
        (["disp_network.pre_calc.conv_base.weight"], True),
        (["depth_net.encoder.encoder.conv1.weight", "pose_net.decoder.net.0.weight"], False),  # SC-Depth
        (["DepthEncoder.conv1.weight"], False),  # FeatDepth
    ],
)
def test_only_its_own_files_are_recognised(keys, known):
    assert PACKNET.recognise({"state_dict": dict.fromkeys(keys, torch.zeros(1))}) is known
