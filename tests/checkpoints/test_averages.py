"""Averaged weights in a file are read instead of those of the last step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from checkpoints import load_checkpoint, plain_weights
from tests.checkpoints.test_checkpoints import DEPTH_18, POSE_18, hollow, published

NETWORKS = {**DEPTH_18, **POSE_18}
SIZE = {"height": 192, "width": 640}


def flat(value: float, prefix: str = "") -> dict[str, torch.Tensor]:
    """One state dict of all networks whose entries have one value."""
    tensors = {
        f"{prefix}{name}.{key}": entry
        for name, golden in NETWORKS.items()
        for key, entry in hollow(golden).items()
        if isinstance(entry, torch.Tensor)
    }
    return {key: torch.full_like(entry, value) for key, entry in tensors.items()}


def networks(value: float, suffix: str = "") -> dict[str, dict[str, torch.Tensor]]:
    return {
        f"{name}{suffix}": {
            key.removeprefix(f"{name}."): v for key, v in flat(value).items() if key.startswith(f"{name}.")
        }
        for name in NETWORKS
    }


LAST, MEAN = 1.0, 3.0
COUNTERS = {"initted": torch.tensor(True), "step": torch.tensor(7), "ema.num_updates": torch.tensor(7)}


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (lambda: {"state_dict": flat(LAST), "state_dict_ema": flat(MEAN)}, "state_dict_ema"),
        (lambda: {"model": flat(LAST), "model_ema": flat(MEAN, "module.")}, "model_ema"),
        (lambda: {"model": flat(LAST), "ema": {"module": flat(MEAN), "decay": 0.999}}, "ema"),
        (lambda: {"ema_state_dict": flat(MEAN, "module."), "epoch": 3}, "ema_state_dict"),
        (lambda: {"net": flat(LAST), "swa_model": flat(MEAN, "_orig_mod.")}, "swa_model"),
        (lambda: {**flat(LAST, "model."), **flat(MEAN, "ema.")}, "ema"),
        (lambda: {**flat(LAST, "online_model."), **flat(MEAN, "ema_model."), **COUNTERS}, "ema_model"),
        (lambda: {**flat(MEAN, "ema_model."), **COUNTERS}, "ema_model"),
        (lambda: {"state_dict": {**flat(LAST, "model."), **flat(MEAN, "model_ema.")}}, "model_ema"),
        (lambda: {**networks(LAST), **networks(MEAN, "_ema")}, "encoder_ema, depth_ema"),
    ],
)
def test_the_averages_of_a_file_are_read(tmp_path, capsys, content, entry):
    path = tmp_path / "all.pth"
    torch.save({**content(), **SIZE}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.layout == "monodepth2" and (checkpoint.options["height"]) == 192
    assert all((value == MEAN).all() for value in checkpoint.weights.values())
    assert checkpoint.weights.keys() >= {"encoder.encoder.conv1.weight", "depth.decoder.0.conv.conv.weight"}
    assert f"note: {path} holds averaged weights, in {entry}" in capsys.readouterr().err


def test_each_file_of_a_folder_may_hold_averages(tmp_path):
    folder = published(tmp_path, **NETWORKS)
    for name in NETWORKS:
        state = torch.load(folder / f"{name}.pth")
        size = {key: state.pop(key) for key in list(state) if not isinstance(state[key], torch.Tensor)}
        mean = {f"module.{key}": torch.full_like(value, MEAN) for key, value in state.items()}
        averaged = {"n_averaged": torch.tensor(4), **mean}
        torch.save({"model": state, "swa_state_dict": averaged, **size}, folder / f"{name}.pth")
    checkpoint = load_checkpoint(folder)
    assert all((value == MEAN).all() for value in checkpoint.weights.values())
    assert checkpoint.options["height"] == 192


def test_torchs_averaged_model_is_read_without_its_names(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    averaged = AveragedModel(model, multi_avg_fn=None)
    averaged.update_parameters(model)
    torch.save(averaged.state_dict(), tmp_path / "swa.pth")
    assert plain_weights(tmp_path / "swa.pth").keys() == model.state_dict().keys()


def test_a_module_called_ema_is_not_an_average(tmp_path):
    """EMA is the name of an attention module, too: its entries average no other ones."""
    state = {"ema.conv.weight": torch.ones(2), "conv1.weight": torch.ones(3)}
    torch.save(state, tmp_path / "attention.pth")
    assert plain_weights(tmp_path / "attention.pth").keys() == state.keys()


def test_settings_called_ema_are_not_weights(tmp_path):
    torch.save({"state_dict": flat(LAST), "ema": {"decay": 0.9}, **SIZE}, tmp_path / "all.pth")
    assert all((value == LAST).all() for value in load_checkpoint(tmp_path / "all.pth").weights.values())
