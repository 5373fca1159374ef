"""FeatDepth's two decoders against the published networks, and what they refuse."""

import pytest
import torch

from networks.image_decoder import ImageDecoder
from networks.refine_decoder import ChainedPooling, RefineDecoder
from networks.resnet import Resnet
from tests import goldens
from utils import InputError


def load(module, state, prefix):
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    module.load_state_dict({key: value for key, value in own.items() if ".fc." not in key})


def test_the_auto_encoder_is_the_published_one():
    golden = goldens.Golden("featdepth_autoencoder_r50")
    state = goldens.state_dict("featdepth_autoencoder_r50")
    for key, value in state.items():
        if key.endswith(("bn3.weight", "bn3.bias")):
            value *= 0.2
    encoder, decoder = Resnet(50), ImageDecoder([64, 256, 512, 1024, 2048])
    encoder.leave_images_raw()
    load(encoder.eval(), state, "Encoder.")
    load(decoder.eval(), state, "Decoder.")
    image = goldens.tensor(goldens.image("B/featdepth_autoencoder_r50/picture", 1, 64, 96))
    with torch.no_grad():
        features = encoder(image)
        golden.close("feature_0", features[0][:, ::4, ::2, ::2])
        for level, feature in enumerate(features):
            golden.close(f"feature_{level}_meanstd", torch.stack([feature.mean(), feature.std(correction=0)]))
        for scale, reconstruction in decoder(features).items():
            golden.close(f"picture_{scale}", reconstruction)
        golden.close("train_picture_1", decoder(encoder.train()(image))[1])


def test_first_feature_is_the_first_of_five():
    encoder, image = Resnet(18).eval(), torch.rand(1, 3, 64, 96)
    assert torch.equal(encoder.first_feature(image), encoder(image)[0])


def features(size=(64, 96), channels=(64, 64, 128, 256, 512)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(1, count, size[0] // 2**n, size[1] // 2**n, generator=generator)
        for n, count in enumerate(channels, 1)
    ]


@pytest.mark.parametrize("size", [(64, 96), (96, 160)])
def test_both_decoders_give_their_scales(size):
    channels = [64, 64, 128, 256, 512]
    images = ImageDecoder(channels)(features(size))
    assert {scale: image.shape for scale, image in images.items()} == {
        scale: (1, 3, size[0] // 2**scale, size[1] // 2**scale) for scale in (0, 1, 2, 3)
    }
    maps = RefineDecoder(channels)(features(size))
    assert {scale: disparity.shape for scale, disparity in maps.items()} == {
        scale: (1, 1, size[0] // 2**scale, size[1] // 2**scale) for scale in (1, 2, 3, 4)
    }


def test_chained_pooling_spreads_one_pixel_over_16_more():
    pooling = ChainedPooling(1)
    for parameter in pooling.parameters():
        parameter.data.fill_(1.0)
    image = torch.zeros(1, 1, 1, 25)
    image[..., 12] = 1
    spread = pooling(image)[0, 0, 0]
    # Stage k reaches 2 k pixels: the input and all four stages at the pixel itself, only the last at 8.
    assert spread[12:].tolist() == [5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0]
    assert torch.equal(spread, spread.flip(0))


def test_levels_finer_than_the_finest_scale_are_not_trained():
    decoder = RefineDecoder([64, 64, 128, 256, 512], scales=(2, 3))
    sum(value.sum() for value in decoder(features()).values()).backward()
    lacking = {n for n, p in decoder.named_parameters() if p.requires_grad and p.grad is None}
    frozen = {n.partition(".")[0] for n, p in decoder.named_parameters() if not p.requires_grad}
    assert not lacking and frozen == {"reduce1", "iconv1", "crp1", "merge1", "disp1"}


def test_dropout_acts_in_training_only():
    decoder = RefineDecoder([64, 64, 128, 256, 512])
    torch.manual_seed(0)
    assert not torch.equal(decoder(features())[1], decoder(features())[1])
    assert torch.equal(decoder.eval()(features())[1], decoder(features())[1])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: RefineDecoder([64] * 5, scales=(0, 1)), r"scales 1 .* to 4, got --scales 0 1; try"),
        (lambda: RefineDecoder([64] * 4), "follows 5 features, got 4"),
        (lambda: RefineDecoder([64] * 5, dropout=1.0), r"dropout must be at least 0 and below 1, got 1\.0"),
        (lambda: ImageDecoder([64] * 6), "follows 5 features, got 6"),
        (lambda: ImageDecoder([8] * 5)([torch.rand(1, 8, 1, 3)]), "must be at least 64; .* 1 x 3 pixels"),
    ],
)
def test_what_cannot_be_decoded_is_refused(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()
