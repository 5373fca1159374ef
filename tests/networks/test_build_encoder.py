import pytest

from networks import NETWORKS, build_encoder
from utils import InputError


def test_resnets_are_our_own_and_other_names_are_timms():
    assert type(build_encoder("resnet18")).__name__ == "Resnet"
    assert type(build_encoder("timm/resnet18")).__name__ == "TimmEncoder"
    assert type(build_encoder("test_convnext")).__name__ == "TimmEncoder"


def test_num_images_is_passed_on():
    assert build_encoder("resnet18", num_images=3).encoder.conv1.in_channels == 9
    assert build_encoder("timm/resnet10t", num_images=2).encoder.conv1[0].in_channels == 6


def test_encoder_of_the_folder_is_preferred_to_timms(monkeypatch):
    class Own:
        def __init__(self, num_images: int = 1, pretrained: bool = False) -> None:
            self.num_images = num_images

    monkeypatch.setitem(NETWORKS._classes, "test_convnext", Own)
    assert build_encoder("test_convnext", num_images=2).num_images == 2


@pytest.mark.parametrize(
    "name, answer",
    [
        ("resnet20", "resnet has 18, 34, 50, 101 or 152 layers, got 20"),
        ("resnt50", "there is no encoder 'resnt50'; did you mean 'resnet50'"),
        ("convnext_tinny", "there is no encoder 'convnext_tinny'; did you mean 'convnext_tiny'"),
        ("depth_decoder", "there is no encoder 'depth_decoder'; .*resnet18, .* any timm model"),
        ("timm/nothing_like_it", "there is no timm model 'nothing_like_it'"),
    ],
)
def test_other_names_are_refused_with_the_nearest(name, answer):
    with pytest.raises(InputError, match=answer):
        build_encoder(name)
