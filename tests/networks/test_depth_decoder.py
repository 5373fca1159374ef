import pytest
import torch
import torch.nn.functional as F

from checkpoints import load_weights
from networks.depth_decoder import ConvBlock, DepthDecoder
from tests.goldens import Golden, state_dict, tensor
from utils import InputError

RESNET18 = (64, 64, 128, 256, 512)


def features_of(height: int, width: int, num_channels=RESNET18) -> list[torch.Tensor]:
    return [torch.rand(2, c, height >> k + 1, width >> k + 1) for k, c in enumerate(num_channels)]


@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_each_scale_halves_the_image(size):
    maps = DepthDecoder(RESNET18, num_outputs=2)(features_of(*size))
    assert list(maps) == [0, 1, 2, 3]
    for scale, disparity in maps.items():
        assert disparity.shape == (2, 2, size[0] >> scale, size[1] >> scale)
        assert disparity.min() > 0 and disparity.max() < 1


@pytest.mark.parametrize("num_layers", [18, 50])
def test_depth_maps_are_the_published_ones(num_layers, published_resnet):
    golden = Golden(f"monodepth2_depth_resnet{num_layers}")
    inputs = {name: tensor(value) for name, value in golden.inputs().items()}
    encoder = published_resnet(f"monodepth2_encoder_resnet{num_layers}", num_layers)
    decoder = DepthDecoder(encoder.num_channels)
    decoder.load_state_dict(state_dict(f"monodepth2_depth_resnet{num_layers}"))
    with torch.no_grad():
        features = encoder.eval()(inputs["x"])
        logits, disparities = decoder.logits(features), decoder(features)
        alone = decoder([inputs[f"f{k}"] for k in range(5)])
        trained = decoder(encoder.train()(inputs["xt"]))
    for scale in range(4):
        golden.close(f"logit_{scale}", logits[scale])
        golden.close(f"disp_{scale}", disparities[scale])
        golden.close(f"dec_disp_{scale}", alone[scale])
        golden.close(f"train_disp_{scale}", trained[scale])


def test_the_predictive_mask_is_the_published_one():
    golden = Golden("monodepth2_predictive_mask_resnet18")
    features = [tensor(feature) for feature in golden.inputs().values()]
    decoder = DepthDecoder(RESNET18, num_outputs=2)
    decoder.load_state_dict(state_dict("monodepth2_predictive_mask_resnet18"))
    with torch.no_grad():
        for scale, mask in decoder(features).items():
            golden.close(f"mask_{scale}", mask)


def test_the_order_of_the_scales_is_the_order_of_the_last_keys():
    decoder = DepthDecoder(RESNET18, scales=(2, 0))
    shapes = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    assert shapes["decoder.10.conv.weight"] == (1, 64, 3, 3)  # scale 2
    assert shapes["decoder.11.conv.weight"] == (1, 16, 3, 3)  # scale 0
    assert len(shapes) == 24
    assert list(decoder(features_of(64, 64))) == [2, 0]


def test_a_feature_without_channels_is_not_joined():
    decoder = DepthDecoder((0, 24, 32, 48, 64))
    assert decoder.decoder[7].conv.conv.in_channels == 32  # only the feature of level 1
    assert decoder(features_of(64, 64, (0, 24, 32, 48, 64)))[0].shape == (2, 1, 64, 64)


@pytest.mark.parametrize("scales", [(0, 1, 2, 3), (1, 3), (4,)])
def test_every_trained_parameter_has_a_gradient(scales):
    decoder = DepthDecoder((8, 8, 8, 8, 8), scales=scales)
    maps = decoder(features_of(64, 64, (8, 8, 8, 8, 8)))
    sum(disparity.mean() for disparity in maps.values()).backward()
    idle = [name for name, p in decoder.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert len(decoder.state_dict()) == 20 + 2 * len(scales)  # published files still fit


def test_a_flat_feature_stays_flat_at_the_border():
    block = ConvBlock(1, 1)
    torch.nn.init.ones_(block.conv.conv.weight)
    torch.nn.init.zeros_(block.conv.conv.bias)
    assert torch.allclose(block(torch.full((1, 1, 4, 6), -1.0)), F.elu(torch.tensor(-9.0)))


def test_image_size_that_is_not_a_multiple_of_32_is_refused():
    sizes = [(25, 32), (13, 16), (7, 8), (4, 4), (2, 2)]  # sizes of a ResNet's features for 50 x 64 pixels
    features = [torch.rand(1, c, *size) for c, size in zip(RESNET18, sizes)]
    with pytest.raises(InputError, match="multiples of 32"):
        DepthDecoder(RESNET18)(features)


def test_image_below_64_pixels_is_refused():
    with pytest.raises(InputError, match="at least 64"):
        DepthDecoder(RESNET18)(features_of(32, 64))


@pytest.mark.parametrize("scales", [(), (0, 0), (0, 5), (-1,)])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(
        InputError, match=r"scales must be different numbers from 0 to 4, got .*; try 0 1 2 3"
    ):
        DepthDecoder(RESNET18, scales=scales)


def test_four_features_are_refused():
    with pytest.raises(InputError, match="needs 5 features, got 4"):
        DepthDecoder(RESNET18[1:])
    with pytest.raises(InputError, match="num_outputs must be at least 1, got 0"):
        DepthDecoder(RESNET18, num_outputs=0)


def test_heads_of_further_scales_are_left_out():
    four, two = DepthDecoder(RESNET18), DepthDecoder(RESNET18, scales=(2, 0))
    weights, words = two.weights_for(four.state_dict())
    assert words == "heads of scales 1 3"
    two.load_state_dict(weights)
    features = features_of(64, 96)
    with torch.no_grad():
        expected, found = four(features), two(features)
    assert list(found) == [2, 0] and all(torch.equal(found[scale], expected[scale]) for scale in found)
    assert four.weights_for(two.state_dict())[1] == ""  # lacks heads, so loading names them


def test_loading_names_the_heads_that_are_left_out():
    class Model(torch.nn.Module):
        def __init__(self, scales):
            super().__init__()
            self.depth = DepthDecoder(RESNET18, scales=scales)

    report = load_weights(Model((0,)), Model((0, 1)).state_dict())
    assert report.endswith("left aside depth's heads of scales 1 (the model has none)")
    with pytest.raises(InputError, match=r"depth: 2 missing \(depth.decoder.11.conv.weight"):
        load_weights(Model((0, 1)), Model((0,)).state_dict())
