import pytest
import torch
import torch.nn.functional as F

from networks.dpt_decoder import DptDecoder, Fusion, ResidualUnit
from utils import InputError

CHANNELS = (0, 4, 8, 12, 16)


def features_of(height, width, batch=2):
    return [torch.rand(batch, c, height >> k + 1, width >> k + 1) for k, c in enumerate(CHANNELS)]


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_each_scale_halves_the_image(size):
    maps = DptDecoder(CHANNELS, width=8, num_outputs=2)(features_of(*size))
    assert list(maps) == [0, 1, 2, 3]
    for scale, disparity in maps.items():
        assert disparity.shape == (2, 2, size[0] >> scale, size[1] >> scale)
        assert disparity.min() > 0 and disparity.max() < 1


def test_features_of_any_size_give_a_map_of_the_images_size():
    sizes = [(49, 70), (28, 40), (14, 20), (7, 10), (4, 5)]  # patches of 14 pixels in an image of 98 x 140
    features = [torch.rand(1, c, *size) for c, size in zip(CHANNELS, sizes)]
    assert DptDecoder(CHANNELS, (0,), width=8)(features)[0].shape == (1, 1, 98, 140)


def test_a_residual_unit_without_weights_is_the_identity():
    unit = ResidualUnit(3)
    for parameter in unit.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 3, 4, 5)
    assert torch.equal(unit(x), x)


def test_fusion_adds_the_coarser_map_and_enlarges_the_sum():
    fusion = Fusion(1, first=True)
    for parameter in fusion.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(fusion.project.weight)
    feature, coarser = torch.rand(1, 1, 2, 3), torch.rand(1, 1, 2, 3)
    expected = F.interpolate(feature + coarser, (4, 6), mode="bilinear", align_corners=True)
    assert torch.allclose(fusion(feature, coarser, (4, 6)), expected)
    assert torch.allclose(expected[..., ::3, ::5], (feature + coarser)[..., ::1, ::2])  # corners stay


@pytest.mark.parametrize("scales", [(0,), (0, 1, 2, 3), (1, 3)])
def test_every_parameter_has_a_gradient(scales):
    decoder = DptDecoder(CHANNELS, scales, width=8)
    sum(disparity.mean() for disparity in decoder(features_of(64, 64)).values()).backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []
    assert decoder.finest_feature == min(scales) + 1


def test_heads_of_further_scales_are_left_out():
    four, two = DptDecoder(CHANNELS, width=8), DptDecoder(CHANNELS, (1, 2), width=8)
    weights, words = two.weights_for(four.state_dict())
    assert words == "heads of scales 0 3"
    two.load_state_dict(weights)
    features = features_of(64, 64)
    expected = four(features)
    assert all(torch.equal(found, expected[scale]) for scale, found in two(features).items())
    assert four.weights_for(two.state_dict())[1] == ""


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (CHANNELS[1:], {}, "follows 5 features, got 4"),
        (CHANNELS, {"scales": (4,)}, "predicts at scales 0 .* to 3, got --scales 4; try --scales 0"),
        (CHANNELS, {"num_outputs": 0}, "num_outputs must be at least 1, got 0"),
        (CHANNELS, {"width": 7}, "width must be even and head_width at least 1, got 7 and 32"),
    ],
)
def test_impossible_settings_are_refused(arguments, settings, words):
    with pytest.raises(InputError, match=words):
        DptDecoder(arguments, **settings)
