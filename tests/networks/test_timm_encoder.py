import pytest
import torch

from networks.depth_decoder import DepthDecoder
from networks.timm_encoder import TimmEncoder
from utils import InputError

# A ResNet, a ConvNeXt without stride 2, an EfficientNet; a Swin, channels last, made for 224 x 224 pixels.
FAMILIES = ["resnet10t", "test_convnext", "test_efficientnet", "swin_tiny_patch4_window7_224"]


@pytest.mark.parametrize("model", FAMILIES)
def test_every_family_gives_depth_at_two_sizes(model):
    encoder = TimmEncoder(model).eval()
    decoder = DepthDecoder(encoder.num_channels)
    with torch.inference_mode():
        for height, width in ((64, 64), (64, 96)):
            features = encoder(torch.rand(2, 3, height, width))
            expected = [
                (2, channels, height // stride, width // stride)
                for channels, stride in zip(encoder.num_channels, encoder.strides)
            ]
            assert [tuple(feature.shape) for feature in features] == expected
            assert decoder(features)[0].shape == (2, 1, height, width)


def test_a_convnext_has_no_channels_at_stride_2():
    assert TimmEncoder("test_convnext").num_channels == [0, 24, 32, 48, 64]


@pytest.mark.parametrize("model", ["resnet10t", "test_convnext", "test_efficientnet"])
def test_every_parameter_has_a_gradient_through_the_decoder(model):
    encoder = TimmEncoder(model, num_images=2)
    maps = DepthDecoder(encoder.num_channels)(encoder(torch.rand(2, 6, 64, 64)))
    sum(disparity.mean() for disparity in maps.values()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_new_encoder_is_in_training_mode_with_fresh_statistics():
    encoder = TimmEncoder("test_efficientnet")
    assert encoder.training
    means = [value for key, value in encoder.state_dict().items() if key.endswith("running_mean")]
    assert means and all(not mean.any() for mean in means)


def test_images_are_normalised_by_the_models_mean_and_std():
    ours = TimmEncoder("mobilevit_xxs", num_images=2)
    assert ours.mean.flatten().tolist() == [0.0] * 6  # timm's for this model
    assert ours.std.flatten().tolist() == [1.0] * 6
    assert all(key.startswith("encoder.") for key in ours.state_dict())


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no timm model 'convnext_tinny'; did you mean 'convnext_tiny'"):
        TimmEncoder("convnext_tinny")
    with pytest.raises(InputError, match=r"no timm model 'resnet18.a9_in1k'; did you mean 'resnet18.a"):
        TimmEncoder("resnet18.a9_in1k")


def test_models_without_a_pyramid_or_of_one_size_are_refused():
    with pytest.raises(InputError, match="'test_vit' has no features of stride 4 and 8 and 32, only of 16"):
        TimmEncoder("test_vit")
    with pytest.raises(InputError, match="does not accept all multiples of 32 as size; try 'convnext_tiny'"):
        TimmEncoder("efficientformer_l1")


def test_without_network_the_error_names_the_weights_path(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as refusal:
        TimmEncoder("test_convnext", pretrained=True)
    for part in (f"{tmp_path}/models--timm--test_convnext.r160_in1k", "--weights_init scratch"):
        assert part in str(refusal.value)


def test_models_without_published_weights_are_refused():
    with pytest.raises(InputError, match="timm has no weights for 'convnext_atto_rms'"):
        TimmEncoder("convnext_atto_rms", pretrained=True)
