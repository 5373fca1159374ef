"""Checkpoints from wrappers and related systems: read, or refused in a sentence that says what they are."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from checkpoints import (
    Checkpoint,
    decoder_scales,
    export_weights,
    load_checkpoint,
    save_checkpoint,
    write_monodepth2_folder,
)
from checkpoints._checksum import checksum
from checkpoints._wrappers import without_wrappers
from methods import build_method
from tests.checkpoints.test_checkpoints import DEPTH_18, POSE_18, hollow, published
from utils import InputError

NETWORKS = {**DEPTH_18, **POSE_18}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The weights of a Monodepth2 folder without any wrapper."""
    return load_checkpoint(published(tmp_path_factory.mktemp("plain"), **NETWORKS))


def renamed(names, rename):
    return {name: {rename(key): v for key, v in hollow(golden).items()} for name, golden in names.items()}


def assert_as_plain(checkpoint, plain):
    assert checkpoint.layout == "monodepth2"
    assert {key: v.shape for key, v in checkpoint.weights.items()} == {
        key: v.shape for key, v in plain.weights.items()
    }
    for key in ("num_layers", "scales", "height", "width", "pose_model_type"):
        assert checkpoint.options[key] == plain.options[key], key


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.module.{key}",
        lambda key: key.replace("encoder.layer1", "encoder._orig_mod.layer1"),
        lambda key: f"_fsdp_wrapped_module.{key}",
        lambda key: f"model.{key}",
        lambda key: f"net.module.{key}",
        lambda key: f"_forward_module.{key}",
        lambda key: f"ema.module.{key}",
        lambda key: f"model_ema.{key}",
    ],
)
def test_prefixes_of_wrappers_are_removed(tmp_path, plain, rename):
    assert_as_plain(load_checkpoint(published(tmp_path, **renamed(NETWORKS, rename))), plain)


def test_a_file_may_repeat_the_name_of_its_network(tmp_path, plain):
    files = {name: {f"{name}.{key}": v for key, v in hollow(g).items()} for name, g in NETWORKS.items()}
    assert_as_plain(load_checkpoint(published(tmp_path, **files)), plain)


def test_counters_of_a_profiler_are_ignored_and_listed(tmp_path, plain):
    files = {name: hollow(golden) for name, golden in NETWORKS.items()}
    files["encoder"]["encoder.layer1.0.total_ops"] = torch.zeros(1, dtype=torch.float64)
    files["depth"]["total_params"] = torch.zeros(1)
    checkpoint = load_checkpoint(published(tmp_path, **files))
    assert_as_plain(checkpoint, plain)
    assert {"encoder.encoder.layer1.0.total_ops", "depth.total_params"} <= set(checkpoint.ignored)


def test_state_dicts_nested_in_each_file_are_found(tmp_path, plain):
    folder = published(tmp_path, **NETWORKS)
    for name in NETWORKS:
        state = torch.load(folder / f"{name}.pth")
        size = {key: state.pop(key) for key in ("height", "width") if key in state}
        torch.save({"state_dict": state, "epoch": 3, **size}, folder / f"{name}.pth")
    assert_as_plain(load_checkpoint(folder), plain)


def flat(prefix=""):
    states = {name: hollow(golden) for name, golden in NETWORKS.items()}
    return {f"{prefix}{name}.{key}": v for name, state in states.items() for key, v in state.items()}


SIZE = {"height": 192, "width": 640}


@pytest.mark.parametrize(
    "content",
    [
        lambda: {**{name: hollow(golden) for name, golden in NETWORKS.items()}, **SIZE},
        lambda: {**flat(), **SIZE},
        lambda: {"state_dict": flat(), "epoch": 19, **SIZE},
        lambda: {"model": flat("module."), **SIZE},
        lambda: {"state_dict": flat("model."), "pytorch-lightning_version": "2.1", **SIZE},
        lambda: {"model": {name: hollow(golden) for name, golden in NETWORKS.items()}, **SIZE},
        lambda: {**flat("net."), **SIZE},
        lambda: {"state_dict": flat("models."), **SIZE},
        lambda: {"checkpoint": {"state_dict": flat("network.")}, **SIZE},
    ],
    ids=[
        "networks",
        "flat",
        "state_dict",
        "model",
        "lightning",
        "nested networks",
        "net",
        "models",
        "twice nested",
    ],
)
def test_one_file_of_all_networks_is_read(tmp_path, plain, content):
    torch.save(content(), tmp_path / "all.pth")
    assert_as_plain(load_checkpoint(tmp_path / "all.pth"), plain)


def test_a_network_with_modules_of_these_names_keeps_them():
    state = {"module.weight": torch.zeros(1), "weight": torch.ones(1)}
    assert without_wrappers(state)[0].keys() == state.keys()


@pytest.mark.parametrize("one, other", [("encoder", "depth"), ("encoder", "pose_encoder"), ("depth", "pose")])
def test_swapped_files_are_named(tmp_path, one, other):
    folder = published(tmp_path, **NETWORKS)
    (folder / f"{one}.pth").rename(folder / "x")
    (folder / f"{other}.pth").rename(folder / f"{one}.pth")
    (folder / "x").rename(folder / f"{other}.pth")
    with pytest.raises(InputError, match=rf"{one}\.pth and {other}\.pth are swapped, rename them"):
        load_checkpoint(folder)


RELATIVES = {
    "MonoViT": ("encoder", "mhca_stages.0.mhca_blks.0.cpe.proj.weight"),
    "Lite-Mono": ("encoder", "stages.0.0.ddwconv.weight"),
    "DIFFNet": ("encoder", "encoder.stage2.0.branches.0.0.conv1.weight"),
    "ManyDepth": ("encoder", "reduce_conv.0.weight"),
    "HR-Depth": ("depth", "decoder.4.conv_se.weight"),
    "the depth decoder of DIFFNet": ("depth", "convs.72.ca.fc.0.weight"),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_a_checkpoint_of_a_related_system_is_named(tmp_path, name):
    file, key = RELATIVES[name]
    folder = published(tmp_path, **{**DEPTH_18, file: {f"module.{key}": torch.zeros(1)}})
    with pytest.raises(InputError, match=rf"{file}\.pth holds .*{name}.*--ext_disp_to_eval"):
        load_checkpoint(folder)
    torch.save({"state_dict": {key: torch.zeros(1)}}, tmp_path / "one.pth")
    with pytest.raises(InputError, match=rf"one\.pth holds .* and looks like .*{name}"):
        load_checkpoint(tmp_path / "one.pth")


def test_files_without_a_model_are_described(tmp_path):
    torch.save({"state": {}, "param_groups": []}, tmp_path / "adam.pth")
    with pytest.raises(InputError, match="looks like the state of an optimiser"):
        load_checkpoint(tmp_path / "adam.pth")
    state = {key.removeprefix("encoder."): value for key, value in hollow("encoder_resnet50").items()}
    torch.save(state, tmp_path / "resnet50.pth")
    with pytest.raises(InputError, match="looks like a torchvision ResNet-50 classifier"):
        load_checkpoint(tmp_path / "resnet50.pth")


def test_a_file_of_a_later_pickle_protocol_is_named(tmp_path):
    torch.save({"state_dict": hollow("encoder_resnet18")}, tmp_path / "new.pth", pickle_protocol=4)
    with pytest.raises(InputError, match=r"new\.pth was saved with pickle protocol 4, .* without pickle_pro"):
        load_checkpoint(tmp_path / "new.pth")


def test_a_decoder_without_disparity_convolutions_has_no_scales():
    assert decoder_scales({}, "depth.") is None
    wrapped = {f"module.{key}": value for key, value in hollow("depth_resnet18").items()}
    assert decoder_scales(wrapped, "") is None


@pytest.mark.parametrize("recorded", ["null", "absent"])
def test_our_monodepth2_folder_is_read_back(tmp_path, recorded):
    options = {
        "method": "monodepth2", "num_layers": None, "height": 64, "width": 96, "use_stereo": False,
        "frame_ids": [0, -1, 1], "weights_init": "scratch", "max_depth": 80.0,
    }  # fmt: skip
    weights = build_method({**options, "num_layers": 18}).state_dict()
    write_monodepth2_folder(tmp_path, Checkpoint(weights, options))
    written = json.loads((tmp_path / "opt.json").read_text())
    assert written["num_layers"] == 18 and None not in written.values()
    if recorded == "null":  # folders written before version 0.3
        (tmp_path / "opt.json").write_text(json.dumps({**written, "num_layers": None}))
    loaded = load_checkpoint(tmp_path)
    assert (loaded.options["num_layers"], loaded.options["max_depth"]) == (18, 80.0)


# Checksums.


def a_checkpoint():
    weights = {"encoder.a": torch.arange(6.0).reshape(2, 3), "depth.b": torch.ones(3, dtype=torch.bfloat16)}
    training = {"step": 3, "seen": {2, 1}, "rng": (1, [2.5, None]), "optimizer": {"exp_avg": torch.ones(64)}}
    return Checkpoint(weights, {"method": "monodepth2", "scales": (0, 1)}, training=training)


def flip_a_bit(path, pattern):
    data = bytearray(path.read_bytes())
    data[data.index(pattern) + len(pattern) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["weights", "optimiser"])
def test_one_flipped_bit_is_found(tmp_path, part):
    path = tmp_path / "last.pt"
    save_checkpoint(path, a_checkpoint())
    assert load_checkpoint(path).training["step"] == 3
    values = {"weights": torch.arange(6.0), "optimiser": torch.ones(64)}[part]
    flip_a_bit(path, values.numpy().tobytes())
    with pytest.raises(InputError, match=r"last\.pt is damaged: its content does not match the checksum"):
        load_checkpoint(path)


def test_a_flipped_bit_of_a_release_is_found(tmp_path):
    path = tmp_path / "release.safetensors"
    export_weights(path, a_checkpoint())
    assert torch.equal(load_checkpoint(path).weights["encoder.a"], torch.arange(6.0).reshape(2, 3))
    flip_a_bit(path, torch.arange(6.0).numpy().tobytes())
    with pytest.raises(InputError, match=r"release\.safetensors is damaged"):
        load_checkpoint(path)


def test_a_file_without_a_checksum_is_read(tmp_path):
    saved = a_checkpoint()
    torch.save({"parallax": 1, "weights": saved.weights, "options": saved.options}, tmp_path / "old.pt")
    assert load_checkpoint(tmp_path / "old.pt").weights.keys() == saved.weights.keys()


def test_the_checksum_tells_values_shapes_and_types_apart():
    tensor = nn.Conv2d(3, 4, 3).weight.detach()
    assert checksum(tensor) == checksum(tensor.contiguous(memory_format=torch.channels_last))
    different = [
        tensor,
        tensor.flatten(),
        tensor.double(),
        -tensor,
        [tensor],
        1,
        1.0,
        True,
        "1",
        None,
        {1: 2},
    ]
    assert len({checksum(value) for value in different}) == len(different)
