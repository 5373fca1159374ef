"""How networks are computed: the faster form is chosen once, and recomputed activations change nothing."""

import json

import pytest
import torch

from networks.hrnet import Hrnet
from tests import runs
from training import computing
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def probes(monkeypatch, tmp_path):
    """The forms that are timed, on a processor with bfloat16; each takes `seconds[form.bfloat16]`."""
    timed, seconds = [], {False: 2.0, True: 1.0}

    def time_form(model, batch, form):
        timed.append(form)
        return seconds[form.bfloat16]

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(computing, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(computing, "_seconds", time_form)
    return timed, seconds


def test_faster_form_is_taken_and_remembered(tiny_kitti, tmp_path, probes, capsys):
    timed, _ = probes
    words = runs.arguments(tiny_kitti, tmp_path, precision="auto", max_steps=1)
    for _ in range(2):
        trainer = runs.build(words)
        assert trainer.method.precision == torch.bfloat16
    assert [form.bfloat16 for form in timed] == [False, True]  # once
    kernels = [p for p in trainer.method.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    (kept,) = (tmp_path / "hub/parallax").glob("form_*.json")
    assert json.loads(kept.read_text())["seconds"] == [2.0, 1.0]
    trainer.train()
    assert "networks: bfloat16, channels_last; a step of float32, contiguous 2 s" in capsys.readouterr().err


def test_slower_bfloat16_is_not_taken(tiny_kitti, tmp_path, probes):
    probes[1][True] = 3.0
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, precision="auto"))
    assert trainer.method.precision == torch.float32


def test_close_times_are_taken_once_more(tiny_kitti, tmp_path, probes):
    probes[1][True] = 1.8
    runs.build(runs.arguments(tiny_kitti, tmp_path, precision="auto"))
    assert [form.bfloat16 for form in probes[0]] == [False, True, False, True]


def test_named_precision_is_not_timed(tiny_kitti, tmp_path, probes):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, precision="float32"))
    assert trainer.method.precision == torch.float32 and probes[0] == []


def test_probe_leaves_the_run_as_it_was(tiny_kitti, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    states = []
    for capable in (False, True):
        monkeypatch.setattr(computing, "has_bfloat16", lambda device, capable=capable: capable)
        trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, precision="auto"))
        states.append((trainer.method.state_dict(), torch.get_rng_state()))
    assert all(torch.equal(value, states[1][0][key]) for key, value in states[0][0].items())
    assert torch.equal(states[0][1], states[1][1])


def test_conv3d_kernels_keep_their_layout():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Conv2d(2, 2, 3))
    computing.apply_form(network, computing.Form(False, True))
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[0].weight.is_contiguous()


def test_checkpointed_hrnet_has_equal_gradients_and_statistics():
    torch.manual_seed(0)
    plain, thrifty = Hrnet(width=18), Hrnet(width=18)
    thrifty.load_state_dict(plain.state_dict())
    thrifty.encoder.gradient_checkpointing = True
    image = torch.rand(1, 3, 64, 64)
    for network in (plain, thrifty):
        sum(feature.square().mean() for feature in network(image)).backward()
    for (name, one), other in zip(plain.named_parameters(), thrifty.parameters()):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6 * one.grad.abs().max()), name
    for (name, one), other in zip(plain.named_buffers(), thrifty.buffers()):
        assert torch.equal(one, other), name


def test_gradient_checkpointing_reaches_the_network(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, encoder="hrnet18", gradient_checkpointing=True)
    assert runs.build(words).method.encoder.encoder.gradient_checkpointing
    with pytest.raises(InputError, match="--gradient_checkpointing needs a network that supports it"):
        runs.build(runs.arguments(tiny_kitti, tmp_path, gradient_checkpointing=True))
