import sys

import pytest
import torch
from safetensors.torch import save_file

from checkpoints import load_weights
from networks import build_depth, planar
from networks.dpt import Dpt
from utils import InputError

TINY = {"encoder": "test_vit", "width": 8}
IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
LORA = {**TINY, "lora_rank": 2}


def trained(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


def with_factors(network):
    """The network with LoRA factors as after some training."""
    draw = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=draw)
    return network.eval()


@pytest.mark.parametrize("encoder", ["test_vit", "test_convnext", "resnet10t"])
def test_a_vit_and_a_convnet_give_disparities(encoder):
    depth = build_depth("", scales=(0, 2), network={"name": "dpt", "encoder": encoder, "width": 8})["depth"]
    with torch.no_grad():
        maps = depth(IMAGE)
    assert {scale: tuple(map_.shape) for scale, map_ in maps.items()} == {
        0: (1, 1, 64, 96),
        2: (1, 1, 16, 24),
    }
    assert all(map_.min() > 0 and map_.max() < 1 for map_ in maps.values())


def test_relative_inverse_depth_is_a_disparity_without_sigmoid():
    depth = Dpt(**TINY, relative=0.01).eval()
    last = depth.decoder.heads["0"].conv3
    torch.nn.init.zeros_(last.weight)
    for bias, disparity in ((7.0, 0.07), (-3.0, 0.0), (500.0, 1.0)):
        torch.nn.init.constant_(last.bias, bias)
        with torch.no_grad():
            assert torch.allclose(depth(IMAGE)[0], torch.tensor(disparity))


def test_frozen_parts_keep_weights_and_statistics():
    depth = Dpt(encoder="resnet10t", width=8, frozen=["encoder"])
    assert trained(depth) == {
        name for name in trained(Dpt(encoder="resnet10t", width=8)) if "decoder." in name
    }
    before = {key: value.clone() for key, value in depth.state_dict().items()}
    depth.train()(IMAGE)[0].sum().backward()
    assert depth.decoder.training and all(torch.equal(v, before[k]) for k, v in depth.state_dict().items())
    assert trained(Dpt(**TINY, frozen="decoder")) < trained(Dpt(**TINY))
    with pytest.raises(InputError, match="frozen: this network has no part 'encodr'; try encoder, decoder"):
        Dpt(**TINY, frozen=["encodr"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"encoder": "test_convnext", "lora_rank": 2},
            "for the attention of a transformer, .* leave it at 0",
        ),
        ({"lora_rank": -1}, "lora_rank must be at least 0, got -1"),
        ({"lora_alpha": 4.0}, "lora_alpha must be above 0 and needs a lora_rank, got 4"),
        ({"relative": 0.0}, "relative must be above 0, got 0.0; try 0.01, or none"),
        ({"tokens": {"bloks": [1]}}, "tokens has no setting 'bloks'; did you mean 'blocks'"),
        ({"tokens": {"pretrained": True}}, "tokens has no setting 'pretrained'"),
        (
            {"encoder": "resnet18", "tokens": {"norm": True}},
            "tokens are settings of a ViT, which resnet18 is not",
        ),
        (
            {"encoder": "resnet18", "pretrained": True, "weights": "x"},
            "weights of a file are for timm models",
        ),
        ({"pretrained": True, "weights": "missing.pth"}, "there is no file or folder missing.pth"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Dpt(**{**TINY, **settings})


def test_lora_without_its_package_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="lora_rank needs the package peft; type pip install peft"):
        Dpt(**LORA)


# ------------------------------------------------------------------------------------- weights of a file


def test_an_encoder_starts_from_the_weights_of_a_file(tmp_path):
    source = Dpt(**TINY).encoder.encoder
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    for weights in (tmp_path / "model.safetensors", tmp_path):
        found = Dpt(**TINY, pretrained=True, weights=str(weights)).encoder.encoder
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in found.state_dict().items())


def test_a_file_that_lacks_weights_is_refused(tmp_path):
    state = Dpt(**TINY).encoder.encoder.state_dict()
    del state["blocks.1.attn.qkv.weight"]
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"it lacks 1 of its weights, such as blocks\.1\.attn\.qkv\.weight"):
        Dpt(**TINY, pretrained=True, weights=str(tmp_path / "a.pth"))
    state["blocks.1.attn.qkv.weight"] = torch.zeros(3, 3)
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"b\.pth does not fit the timm model 'test_vit'"):
        Dpt(**TINY, pretrained=True, weights=str(tmp_path / "b.pth"))
    torch.save({"depth." + key: value for key, value in Dpt(**TINY).state_dict().items()}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="holds a whole depth network; start from it with --load_weights_f"):
        Dpt(**TINY, pretrained=True, weights=str(tmp_path / "c.pth"))


# -------------------------------------------------------------------------------------------------- LoRA


class Model(torch.nn.Module):
    """The depth network as a checkpoint names it."""

    def __init__(self, depth):
        super().__init__()
        self.depth = depth


@pytest.fixture(scope="module", autouse=True)
def needs_peft():
    pytest.importorskip("peft")


def test_only_the_factors_and_the_new_parts_are_trained():
    names = trained(Dpt(**LORA))
    assert {name for name in names if name.startswith("encoder.encoder.")} == {
        f"encoder.encoder.blocks.{block}.attn.{layer}.lora_{factor}.default.weight"
        for block in range(6)
        for layer in ("qkv", "proj")
        for factor in "AB"
    }
    assert {name for name in names if not name.startswith("encoder.encoder.")} == {
        name for name in trained(Dpt(**TINY)) if not name.startswith("encoder.encoder.")
    }


def test_weights_without_factors_start_an_adapted_network():
    plain, adapted = Dpt(**TINY).eval(), Dpt(**LORA).eval()
    load_weights(Model(adapted), Model(plain).state_dict())
    with torch.no_grad():
        assert torch.allclose(adapted(IMAGE)[0], plain(IMAGE)[0], atol=1e-6)


def test_an_adapted_network_loads_again_or_merged():
    adapted = with_factors(Dpt(**LORA, lora_alpha=3.0))
    with torch.no_grad():
        expected = adapted(IMAGE)[0]
        others = {
            "the same": Dpt(**LORA, lora_alpha=3.0),
            "another rank": Dpt(**{**LORA, "lora_rank": 3}),
            "another alpha": Dpt(**LORA),
            "plain": Dpt(**TINY),
        }
        for name, other in others.items():
            load_weights(Model(other), Model(adapted).state_dict())
            assert torch.allclose(other.eval()(IMAGE)[0], expected, atol=1e-5), name
    kept = others["the same"].state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in adapted.state_dict().items())


def test_the_form_for_export_has_merged_factors():
    adapted = with_factors(Dpt(**LORA))
    with torch.no_grad():
        expected = adapted(IMAGE)[0]
        with planar(adapted):
            assert not any("lora" in name for name, _ in adapted.encoder.planar.named_modules())
            assert torch.allclose(adapted(IMAGE)[0], expected, atol=1e-5)
        assert torch.equal(adapted(IMAGE)[0], expected)  # the network itself keeps its factors
