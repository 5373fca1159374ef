"""Cross-view attention: the recorded and the printed reference values, and the tokens that it mixes."""

import math
import re

import pytest
import torch
from torch import nn

from networks.cross_view import CrossView, CrossViewLevel, position_code
from networks.depth_decoder import DepthDecoder
from tests.goldens import Golden, state_dict, tensor
from utils import InputError

RESNET34 = (64, 64, 128, 256, 512)
SMALL = (8, 8, 16, 16, 32)
CPU = torch.device("cpu")


def published_level(key: str) -> str:
    """Our name of an entry of one published transformer."""
    return re.sub(r"^decoder\.", "blocks.", key).replace("sep_conv.", "down.").replace("sep_deconv.", "up.")


def published_depth(key: str) -> str:
    """Our name of an entry of the published depth.pth."""
    if match := re.match(r"decoder_cross\.(\d)\.(.*)", key):
        return f"cross.{match[1]}.{published_level(match[2])}"
    return f"decoder.{key}"


def fill(module: torch.nn.Module, rename=lambda key: key) -> None:
    """The rule of the printed values: the t-th of the sorted published keys is 0.1 sin(0.37 j + 0.11 t)."""
    ours = {rename(key): value for key, value in module.state_dict().items()}
    for t, key in enumerate(sorted(ours)):
        value = ours[key]
        j = torch.arange(value.numel(), dtype=torch.float64)
        value.copy_((0.1 * torch.sin(0.37 * j + 0.11 * t)).view(value.shape))


def to_published(key: str) -> str:
    """The published name of our entry, for sorting."""
    key = re.sub(r"^decoder\.decoder\.", "decoder.", key)
    key = re.sub(r"^cross\.(\d)\.blocks\.", r"decoder_cross.\1.decoder.", key)
    key = re.sub(r"^cross\.", "decoder_cross.", re.sub(r"^blocks\.", "decoder.", key))
    return re.sub(r"(^|\.)down\.", r"\1sep_conv.", re.sub(r"(^|\.)up\.", r"\1sep_deconv.", key))


def ramp(*shape: int) -> torch.Tensor:
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(0.013 * n).view(shape)


def depth_network(channels=SMALL, cameras=6, blocks=1, **settings) -> CrossView:
    return CrossView(DepthDecoder(channels), channels, cameras=cameras, blocks=blocks, **settings)


def features_of(count: int, channels=SMALL, size: int = 64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(count, c, size >> k + 1, size >> k + 1, generator=generator)
        for k, c in enumerate(channels)
    ]


def test_the_position_code_is_the_published_one():
    golden = Golden("surrounddepth_cvt")
    for channels, height, width in ((64, 3, 5), (128, 2, 3)):
        code = position_code(channels, height, width, CPU).T.reshape(1, channels, height, width)
        golden.close(f"pos_embed_{channels}", code)
    code = position_code(64, 4, 1, CPU)
    assert code[0, :4].tolist() == pytest.approx([0.8415, 0.5403, 0.5332, 0.8460], abs=5e-5)
    assert code[3, :4].tolist() == pytest.approx([-0.7568, -0.6536, 0.7785, -0.6277], abs=5e-5)


@pytest.mark.parametrize(
    ("reduction", "height", "width", "expected"),
    [
        (1, 2, 3, (-3.16424377912, 29.4156651905, 0.0914664904984, 0.000337269005472, 0.0337764429251)),
        (2, 4, 6, (-12.8282386577, 119.079394478, 0.0912716718096, -0.00580079465525, 0.0442450428317)),
        (4, 8, 12, (-52.7281925552, 478.630506844, 0.0816937788952, -0.0131280888441, 0.0442450428317)),
        (8, 16, 24, (-207.328324088, 1913.05792184, 0.0816930250615, -0.00580079465525, 0.0442450428317)),
        (16, 32, 48, (-825.730821374, 7650.73378879, 0.0817218346331, -0.00580079465525, 0.0442450428317)),
    ],
)
def test_a_level_gives_the_printed_values(reduction, height, width, expected):
    level = CrossViewLevel(16, reduction, blocks=2, heads=8).double()
    fill(level, to_published)
    with torch.no_grad():
        y = level(ramp(1, 6, 16, height, width).flatten(0, 1), 6).unflatten(0, (1, 6))
    found = (y.sum(), y.abs().sum(), y[0, 0, 0, 0, 0], y[0, 3, 5, 1, 2], y[0, 5, 15, -1, -1])
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("channels", "reduction"), [(64, 16), (64, 8), (128, 4), (256, 2), (512, 1)])
def test_a_level_is_the_published_one(channels, reduction):
    golden = Golden("surrounddepth_cvt")
    level = CrossViewLevel(channels, reduction, blocks=1, heads=8)
    weights = state_dict(f"surrounddepth_cvt_one_block_{channels}_{reduction}")
    level.load_state_dict({published_level(key): value for key, value in weights.items()})
    with torch.no_grad():
        x = tensor(golden.inputs()[f"x_{channels}_{reduction}"])
        y = level(x.flatten(0, 1), x.shape[1]).unflatten(0, x.shape[:2])
    golden.close(f"cvt_{channels}_{reduction}", y)


@pytest.mark.parametrize(
    ("skip", "sums"),
    [
        (True, (11914.1136338, 3098.10790323, 749.400659506, 216.279687485)),
        (False, (11957.8150844, 3118.38078828, 813.230681966, 208.021058468)),
    ],
)
def test_a_small_decoder_gives_the_printed_values(skip, sums):
    network = depth_network(blocks=8, skip=skip).double()
    fill(network, to_published)
    features = [ramp(6, c, 32 >> k, 32 >> k) for k, c in enumerate(SMALL)]
    with torch.no_grad():
        maps = {scale: torch.sigmoid(logit) for scale, logit in network.logits(features).items()}
    assert [values.sum().item() for values in maps.values()] == pytest.approx(sums, rel=1e-6)
    if skip:
        first = [values.flatten()[0].item() for values in maps.values()]
        last = [values.flatten()[-1].item() for values in maps.values()]
        assert first == pytest.approx(
            (0.483692053097, 0.503552359878, 0.781974298138, 0.545143859935), rel=1e-5
        )
        assert last == pytest.approx((0.434650098479, 0.417760111382, 0.1418456937, 0.46325264333), rel=1e-5)


@pytest.fixture(scope="module")
def published() -> CrossView:
    network = depth_network(RESNET34, blocks=8).eval()
    weights = state_dict("surrounddepth_depth_resnet34")
    network.load_state_dict({published_depth(key): value for key, value in weights.items()})
    return network


def test_the_decoder_is_the_published_one(published):
    golden = Golden("surrounddepth_decoder_resnet34")
    features = [tensor(golden.inputs()[f"f{k}"]) for k in range(5)]
    with torch.no_grad():
        attended = published.attend(features)
        logits = published.decoder.logits(attended)
        published.skip = False
        without = published.logits(features)
        published.skip = True
        twice = published.logits([torch.cat([feature, feature.flip(0)]) for feature in features])
    for level in range(5):
        golden.close(f"dec_cross{level}", attended[level])
    for scale in range(4):
        golden.close(f"dec_logit_{scale}", logits[scale])
        golden.close(f"dec_disp_{scale}", torch.sigmoid(logits[scale]))
        golden.close(f"noskip_logit_{scale}", without[scale])
    golden.close("two_logit_3", twice[3])


def test_the_whole_depth_network_is_the_published_one(published, published_resnet):
    golden = Golden("surrounddepth_depth_resnet34")
    encoder = published_resnet("surrounddepth_encoder_resnet34", 34).eval()
    x = tensor(golden.inputs()["x"])
    with torch.no_grad():
        features = encoder(x)
        attended = published.attend(features)
        logits = published.decoder.logits(attended)
        published.skip = False
        without = published.logits(features)
        published.skip = True
        trained_features = encoder.train()(x)
        trained = published.logits(trained_features)
    for level in range(5):
        golden.close(f"feat{level}", features[level])
        golden.close(f"cross{level}", attended[level])
    golden.close("train_feat4", trained_features[4])
    for scale in range(4):
        golden.close(f"logit_{scale}", logits[scale])
        golden.close(f"noskip_logit_{scale}", without[scale])
        golden.close(f"train_logit_{scale}", trained[scale])


@pytest.mark.parametrize("cameras", [1, 4, 6])
def test_cameras_attend_only_within_their_frame_set(cameras):
    network = depth_network(cameras=cameras).eval()
    for level in network.cross:  # zero at the start
        nn.init.normal_(level.up.pointwise.weight, std=0.1)
    features = features_of(2 * cameras)
    with torch.no_grad():
        before = network(features)[0]
        features[4][0] = 0.0  # one camera of the first frame set
        after = network(features)[0]
    assert before.shape == (2 * cameras, 1, 64, 64)
    changed = (before - after).flatten(1).abs().amax(1) > 0
    assert changed[:cameras].all() and not changed[cameras:].any()


def test_attention_with_skip_starts_from_zero():
    network, features = depth_network(cameras=2).eval(), features_of(2)
    with torch.no_grad():
        assert torch.equal(network(features)[0], network.decoder(features)[0])


def test_other_sizes_and_features_without_channels_are_accepted():
    channels = (0, 8, 16, 16, 32)
    network = CrossView(DepthDecoder(channels), channels, cameras=2, blocks=1)
    features = [torch.rand(2, c, 64 >> k, 96 >> k) for k, c in enumerate(channels)]
    assert network(features)[0].shape == (2, 1, 128, 192)


def test_channels_last_and_bfloat16_give_close_results():
    network = depth_network(cameras=2).eval()
    features = features_of(2)
    with torch.no_grad():
        plain = network(features)[0]
        last = network.to(memory_format=torch.channels_last)
        inner = last([feature.contiguous(memory_format=torch.channels_last) for feature in features])[0]
        with torch.autocast("cpu", torch.bfloat16):
            coarse = network(features)[0]
    torch.testing.assert_close(inner, plain)
    assert coarse.dtype == torch.float32 and (coarse - plain).abs().max() < 0.02


def test_every_parameter_gets_a_gradient():
    network = depth_network(cameras=2)
    sum(maps.mean() for maps in network(features_of(2)).values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cameras": 0}, "cameras must be at least 1, got 0"),
        ({"heads": 3}, "3 heads do not divide the 8 channels of a feature; try heads 2"),
        ({"channels": (8, 8, 8)}, "takes 5 features, .*got 3"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    channels = settings.pop("channels", SMALL)
    with pytest.raises(InputError, match=words):
        CrossView(DepthDecoder(SMALL), channels, **settings)


def test_incomplete_frame_set_and_indivisible_size_are_refused():
    network = depth_network()
    with pytest.raises(InputError, match="7 images are not whole frame sets of 6 cameras"):
        network(features_of(7))
    features = [
        torch.rand(6, c, *size) for c, size in zip(SMALL, ((25, 32), (13, 16), (7, 8), (4, 4), (2, 2)))
    ]
    with pytest.raises(InputError, match="25 x 32 pixels cannot be reduced 16 times"):
        network(features)
