import pytest
import torch

from layers import disparity_to_depth
from networks import NETWORKS, build_encoder
from networks.ray_surface import RaySurface
from tests.packnet_goldens import PacknetGolden, load_published
from utils import InputError


def inverse_depth(disparity: torch.Tensor) -> torch.Tensor:
    return 1 / disparity_to_depth(disparity, 0.1, 100.0)


def test_inverse_depth_and_rays_are_the_published_ones():
    golden = PacknetGolden("raysurfaceresnet18")
    network = load_published(RaySurface(), "raysurfaceresnet18")
    with torch.no_grad():
        disparities, rays = network.disparities_and_rays(golden.inputs()["rgb"])
    golden.close("ray_surface", rays)
    for scale in range(4):
        golden.close(f"inv_depth_{scale}" if scale else "inv_depth", inverse_depth(disparities[scale]))


def test_number_of_parameters():
    # Published: 17,993,231 with ImageNet's unused classifier.
    assert sum(p.numel() for p in RaySurface().parameters()) == 17_993_231 - 513_000


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_rays_have_the_size_of_the_image(size):
    network = RaySurface(scales=(0, 2))
    disparities, rays = network.disparities_and_rays(torch.rand(1, 3, *size))
    assert list(disparities) == [0, 2] and rays.shape == (1, 3, *size)
    assert rays.abs().max() <= 1
    (rays.sum() + sum(disparity.sum() for disparity in disparities.values())).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_another_number_of_layers_is_refused():
    with pytest.raises(InputError, match="20"):
        RaySurface(num_layers=20)


class DepthResNet(torch.nn.Module):
    """The published class is our ResNet and our depth decoder, key by key."""

    def __init__(self):
        super().__init__()
        self.encoder = build_encoder("resnet18")
        self.decoder = NETWORKS.get("depth_decoder")(self.encoder.num_channels)


@pytest.mark.parametrize("prefix", ["", "train_"])
def test_depth_resnet_is_resnet_and_depth_decoder(prefix):
    golden = PacknetGolden("depthresnet18")
    network = load_published(DepthResNet(), "depthresnet18").train(bool(prefix))
    with torch.no_grad():
        logits = network.decoder.logits(network.encoder(golden.inputs()["rgb"]))
    for scale in range(4):
        name = f"{prefix}inv_depth_{scale}" if prefix or scale else "inv_depth"
        golden.close(name, inverse_depth(torch.sigmoid(logits[scale])))
        if not prefix and scale > 1:
            golden.close(f"logit_{scale}", logits[scale])
