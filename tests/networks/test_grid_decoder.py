"""The grid decoder: the recorded maps, a ResNet with context, and the decoder's own checks."""

import pytest
import torch

from networks import build_encoder
from networks.grid_decoder import GridDecoder
from networks.resnet import ResnetContext
from tests.goldens import Golden, state_dict, tensor
from utils import InputError

CHANNELS = {"hrnet18": (64, 64, 18, 36, 72, 144), "resnet18": (64, 64, 64, 128, 256, 512)}


def published(backbone: str, scales: int = 1) -> GridDecoder:
    decoder = GridDecoder(CHANNELS[backbone], range(scales))
    decoder.load_state_dict(state_dict(f"bdedepth_{backbone}_depth{'_4scales' if scales > 1 else ''}"))
    return decoder


def features_of(height, width, channels=CHANNELS["resnet18"]):
    return [torch.rand(2, c, height >> k, width >> k) for k, c in enumerate(channels)]


@pytest.mark.parametrize("backbone", CHANNELS)
def test_maps_of_given_features_are_the_published_ones(backbone):
    golden = Golden(f"bdedepth_{backbone}")
    inputs = golden.inputs()
    features = [tensor(inputs[f"f{k}"]) for k in range(6)]
    with torch.no_grad():
        golden.close("dec_disp_0", published(backbone)(features)[0])
        golden.close("dec_logit_0", published(backbone).logits(features)[0])
        for scale, logit in published(backbone, 4).logits(features).items():
            golden.close(f"four_dec_logit_{scale}", logit)


def test_resnet_with_context_gives_the_published_logits():
    golden = Golden("bdedepth_resnet18")
    inputs = golden.inputs()
    encoder = ResnetContext(18)
    weights = state_dict("bdedepth_resnet18_encoder")
    encoder.load_state_dict({key: value for key, value in weights.items() if ".fc." not in key})
    assert len(encoder.state_dict()) == 128 - 2  # the classifier
    with torch.no_grad():
        for mode in ("", "train_"):
            features = encoder.train(bool(mode))(tensor(inputs["xt" if mode else "x"]))
            for k, feature in enumerate(features):
                golden.close(f"{mode}feat{k}", feature)
            for prefix, scales in (("", 1), ("four_", 4)):
                for scale, logit in published("resnet18", scales).logits(features).items():
                    golden.close(f"{mode}{prefix}logit_{scale}", logit, relative=5e-6)


@pytest.mark.parametrize("backbone, size", [("hrnet18", 634_084), ("resnet18", 6_775_636)])
def test_keys_and_size_are_the_published_ones(backbone, size):
    decoder = published(backbone)
    assert len(decoder.state_dict()) == 155
    assert sum(p.numel() for p in decoder.parameters()) == size


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "hrnet18", "timm/test_efficientnet"])
def test_any_encoder_with_a_context_fits(name):
    encoder = build_encoder(name, context=True)
    image = torch.rand(1, 3, 64, 96)
    features = encoder(image)
    assert features[0].shape == (1, 64, 64, 96)
    assert [f.shape[1] for f in features] == list(encoder.num_channels)
    decoder = GridDecoder(encoder.num_channels, (0, 1))
    maps = decoder(features)
    assert {scale: tuple(m.shape[-2:]) for scale, m in maps.items()} == {0: (64, 96), 1: (32, 48)}
    sum(m.mean() for m in maps.values()).backward()
    networks = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert [key for key, p in networks if p.requires_grad and p.grad is None] == []


def test_rows_finer_than_the_finest_scale_neither_run_nor_train():
    decoder = GridDecoder(CHANNELS["hrnet18"], scales=(2, 1))
    maps = decoder(features_of(64, 64, CHANNELS["hrnet18"]))
    assert list(maps) == [2, 1]
    sum(m.mean() for m in maps.values()).backward()
    idle = [key for key, p in decoder.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert len(decoder.decoder) == 33 + 2  # every row is there, and the two outputs


def test_initial_weights_have_no_outlier():
    decoder = GridDecoder(CHANNELS["resnet18"])
    weights = torch.cat([p.detach().flatten() for p in decoder.parameters() if p.dim() == 4])
    assert weights.abs().max() <= 0.08
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


def test_wrong_features_and_scales_are_refused():
    with pytest.raises(InputError, match="joins 6 features, the first of the image's own size, got 5"):
        GridDecoder((4, 4, 4, 4, 4))
    with pytest.raises(InputError, match=r"scales must be different numbers from 0 to 4, got \[5\]; try 0"):
        GridDecoder(CHANNELS["hrnet18"], scales=(5,))
    with pytest.raises(InputError, match="num_outputs must be at least 1"):
        GridDecoder(CHANNELS["hrnet18"], num_outputs=0)
    with pytest.raises(InputError, match="multiples of 32"):
        GridDecoder(CHANNELS["resnet18"])(features_of(65, 64))
