"""HRNet: the recorded features, its ImageNet files, and its own checks."""

import pytest
import torch

from networks import build_encoder
from networks.grid_decoder import GridDecoder
from networks.hrnet import OFFICIAL, Hrnet
from tests.goldens import Golden, state_dict, tensor
from utils import InputError


@pytest.fixture(scope="module")
def golden():
    return Golden("bdedepth_hrnet18")


@pytest.fixture(scope="module")
def weights():
    return {key: value.float() for key, value in state_dict("bdedepth_hrnet18_encoder").items()}


@pytest.fixture
def published(weights):
    encoder = Hrnet(18, context=True)
    encoder.load_state_dict(weights)
    return encoder


def test_keys_and_size_are_the_published_ones(published):
    assert len(published.state_dict()) == 1836
    assert sum(p.numel() for p in published.parameters()) == 9_564_116


def test_features_and_logits_are_the_published_ones(golden, published):
    inputs = golden.inputs()
    decoders = {
        "": GridDecoder(published.num_channels),
        "four_": GridDecoder(published.num_channels, range(4)),
    }
    for prefix, decoder in decoders.items():
        suffix = "_4scales" if prefix else ""
        decoder.load_state_dict(state_dict(f"bdedepth_hrnet18_depth{suffix}"))
    with torch.no_grad():
        for mode in ("", "train_"):
            features = published.train(bool(mode))(tensor(inputs["xt" if mode else "x"]))
            for k, feature in enumerate(features):
                golden.close(f"{mode}feat{k}", feature)
            for prefix, decoder in decoders.items():
                for scale, logit in decoder.logits(features).items():
                    golden.close(f"{mode}{prefix}logit_{scale}", logit, relative=5e-6)


def test_without_context_it_joins_the_plain_depth_decoder():
    encoder = build_encoder("hrnet18")
    features = encoder.eval()(torch.rand(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip([64, 18, 36, 72, 144], (2, 4, 8, 16, 32))]
    assert [tuple(f.shape) for f in features] == expected
    assert encoder.num_channels == [64, 18, 36, 72, 144]


def test_every_parameter_is_trained_for_two_images():
    encoder = Hrnet(18, num_images=2, context=True)
    features = encoder(torch.rand(2, 6, 64, 64))
    sum(feature.square().mean() for feature in features).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    assert encoder.context_conv.in_channels == 6


@pytest.fixture
def imagenet(tmp_path, monkeypatch, weights):
    """An official file in torch hub's cache: the trunk's keys and a classification head."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    trunk = {key.removeprefix("encoder."): v for key, v in weights.items() if key.startswith("encoder.")}
    head = {"classifier.weight": torch.zeros(1000, 2048), "incre_modules.0.0.conv1.weight": torch.zeros(2)}

    def save(**changes):
        kept = {key: value for key, value in (trunk | head | changes).items() if value is not None}
        torch.save(kept, tmp_path / "checkpoints" / OFFICIAL.format(18))

    return save


def test_official_imagenet_file_fills_trunk_and_context(imagenet, weights):
    imagenet()
    encoder = Hrnet(18, pretrained=True, context=True)
    for key in ("encoder.conv1.weight", "encoder.stage4.2.fuse_layers.3.0.2.0.weight"):
        assert torch.equal(encoder.state_dict()[key], weights[key])
    assert torch.equal(encoder.context_conv.weight, weights["encoder.conv1.weight"])
    assert torch.equal(encoder.context_bn.bias, weights["encoder.bn1.bias"])
    assert torch.equal(encoder.context_bn.running_mean, torch.zeros(64))
    pair = Hrnet(18, num_images=2, pretrained=True)
    assert torch.allclose(pair.encoder.conv1.weight.sum(1), weights["encoder.conv1.weight"].sum(1), atol=1e-5)


def test_a_file_without_a_key_is_refused(imagenet):
    imagenet(**{"stage2.0.branches.0.0.conv1.weight": None})
    with pytest.raises(InputError, match=r"has no stage2.0.branches.0.0.conv1.weight of the right shape"):
        Hrnet(18, pretrained=True)


def test_without_network_the_error_names_the_files_path(tmp_path, monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be fetched \(offline\).*HRNet_W18_C_cosinelr.*scratch"):
        Hrnet(18, pretrained=True)


def test_timms_network_has_all_our_keys():
    import timm

    theirs = timm.create_model("hrnet_w32", pretrained=False).state_dict()
    for key, value in Hrnet(32).encoder.state_dict().items():
        assert theirs[key].shape == value.shape


def test_another_width_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="got 20; the nearest is 18"):
        build_encoder("hrnet20")
    with pytest.raises(InputError, match="num_images must be at least 1"):
        Hrnet(18, num_images=0)
