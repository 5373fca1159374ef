import pytest
import torch

from networks import build_encoder
from networks.vit_encoder import VitEncoder
from utils import InputError

TINY = "test_vit"  # 6 blocks of width 64, patches of 16 pixels, a class token


@pytest.mark.parametrize("size", [(64, 64), (64, 160)])
def test_tokens_become_a_pyramid_at_two_sizes(size):
    encoder = VitEncoder(TINY).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, 3, *size))
    expected = [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(encoder.num_channels, encoder.strides)
    ]
    assert encoder.num_channels == [0, 8, 16, 32, 64]
    assert [tuple(feature.shape) for feature in features] == expected


def test_patches_of_14_give_4_2_1_and_a_half_times_the_patches():
    encoder = VitEncoder("eva02_tiny_patch14_224").eval()
    with torch.no_grad():
        sizes = [tuple(feature.shape[-2:]) for feature in encoder(torch.rand(1, 3, 56, 84))]
    assert sizes == [(28, 42), (16, 24), (8, 12), (4, 6), (2, 3)]
    with pytest.raises(InputError, match=r"multiples of 224, got 64 x 640; try --height 224 --width 672"):
        encoder(torch.rand(1, 3, 64, 640))


def test_an_image_that_does_not_fit_the_patches_is_refused():
    encoder = VitEncoder(TINY)
    with pytest.raises(InputError, match=r"multiples of 32, got 72 x 96; try --height 64 --width 96"):
        encoder(torch.rand(1, 3, 72, 96))


def test_a_feature_is_the_projected_tokens_of_its_block():
    encoder = VitEncoder(TINY, blocks=[1, 2, 3, 4], norm=True).eval()
    image = torch.rand(1, 3, 160, 160)  # the size of its position embeddings
    with torch.no_grad():
        x = encoder.encoder.patch_embed((image - encoder.mean) / encoder.std)
        x = encoder.encoder._pos_embed(x)
        for block in encoder.encoder.blocks[:4]:
            x = block(x)
        tokens = encoder.encoder.norm(x)[:, 1:].transpose(1, 2).unflatten(2, (10, 10))
        expected = encoder.reassemble[2].project(tokens)
        assert torch.allclose(encoder(image)[3], expected, atol=1e-5)
    assert len(encoder.encoder.blocks) == 5  # the last one is not read


def test_the_class_token_is_added_or_projected():
    torch.manual_seed(0)
    encoders = {readout: VitEncoder(TINY, readout=readout).eval() for readout in ("ignore", "add", "project")}
    for encoder in encoders.values():
        encoder.load_state_dict(encoders["ignore"].state_dict(), strict=False)
    with torch.no_grad():
        for readout in encoders["project"].readouts:  # the token itself, without the class token
            readout.weight.copy_(torch.cat([torch.eye(64), torch.zeros(64, 64)], 1))
            readout.bias.fill_(100.0)  # where GELU is the identity
        image = torch.rand(1, 3, 64, 64)
        ignored, added, projected = (encoder(image)[3] for encoder in encoders.values())
        projection = encoders["ignore"].reassemble[2].project
        shifted = projection.weight.sum((1, 2, 3))[:, None, None] * 100
        assert torch.allclose(projected, ignored + shifted, atol=1e-2)
        assert not torch.allclose(added, ignored, atol=1e-2)
        difference = added - ignored  # one vector, the projected class token, at every place
        assert torch.allclose(difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-4)


def test_every_parameter_has_a_gradient():
    encoder = VitEncoder(TINY, num_images=2, readout="project")
    sum(feature.sum() for feature in encoder(torch.rand(1, 6, 64, 64))).backward()
    idle = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert idle == []


def test_the_planar_form_computes_the_same_with_four_axes(monkeypatch):
    encoder = VitEncoder(TINY).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = encoder(image)
        encoder.planar = encoder.planar_form()
        monkeypatch.setattr(encoder.encoder, "forward_intermediates", None)  # the copy runs
        found = encoder(image)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected))


def test_a_vit_is_chosen_by_name_and_others_are_refused():
    assert isinstance(build_encoder("timm/test_vit"), VitEncoder)
    with pytest.raises(InputError, match="'test_convnext' is not a plain transformer; try 'vit_small"):
        VitEncoder("test_convnext")
    with pytest.raises(InputError, match="no timm model 'test_vitt'; did you mean 'test_vit"):
        VitEncoder("test_vitt")
    with pytest.raises(InputError, match="'beit_base_patch16_224' takes images of one size only"):
        VitEncoder("beit_base_patch16_224")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blocks": [0, 1, 2, 6]}, "blocks must be 4 ascending numbers below 6"),
        ({"blocks": [0, 1, 1, 2]}, "blocks must be 4 ascending numbers"),
        ({"channels": [8, 8]}, r"channels must be 4 numbers above 0, got \[8, 8\]"),
        ({"readout": "projct"}, "there is no readout 'projct'; did you mean 'project'"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        VitEncoder(TINY, **settings)
