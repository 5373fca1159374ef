import pytest
import torch
import torchvision

from networks import NETWORKS
from networks.resnet import Resnet
from tests.goldens import Golden, tensor
from utils import InputError


def compare_features(golden: Golden, features: list[torch.Tensor], prefix: str = "") -> None:
    for k, feature in enumerate(features):
        golden.close(f"{prefix}feat{k}", feature)


@pytest.mark.parametrize("num_layers", [18, 34, 50, 101, 152])
def test_two_stacked_images_give_five_features_that_halve(num_layers):
    encoder = Resnet(num_layers, num_images=2).eval()
    with torch.inference_mode():
        for height, width in ((32, 64), (64, 96)):
            features = encoder(torch.rand(1, 6, height, width))
            expected = [
                (1, channels, height // stride, width // stride)
                for channels, stride in zip(encoder.num_channels, encoder.strides)
            ]
            assert [tuple(feature.shape) for feature in features] == expected
    assert encoder.num_channels[-1] == (512 if num_layers < 50 else 2048)


@pytest.mark.parametrize("num_layers", [18, 50])
def test_features_and_running_statistics_are_the_published_ones(num_layers, published_resnet):
    golden = Golden(f"monodepth2_depth_resnet{num_layers}")
    inputs = golden.inputs()
    encoder = published_resnet(f"monodepth2_encoder_resnet{num_layers}", num_layers)
    with torch.no_grad():
        compare_features(golden, encoder.eval()(tensor(inputs["x"])))
        compare_features(golden, encoder.train()(tensor(inputs["xt"])), "train_")
    after = encoder.state_dict()
    for norm in ("encoder.bn1", "encoder.layer4.1.bn2"):
        for statistic in ("running_mean", "running_var"):
            golden.close(f"train_after.{norm}.{statistic}", after[f"{norm}.{statistic}"])


@pytest.mark.parametrize("num_layers", [18, 50])
def test_features_of_a_stacked_pair_are_the_published_ones(num_layers, published_resnet):
    golden = Golden(f"monodepth2_pose_resnet{num_layers}")
    inputs = golden.inputs()
    pair = torch.cat([tensor(inputs["a"]), tensor(inputs["b"])], 1)
    encoder = published_resnet(f"monodepth2_pose_encoder_resnet{num_layers}", num_layers, num_images=2)
    with torch.no_grad():
        compare_features(golden, encoder.eval()(pair))
        golden.close("train_feat4", encoder.train()(pair)[4])


def test_coarsest_feature_gives_every_parameter_a_gradient():
    encoder = Resnet(18)
    encoder(torch.rand(2, 3, 32, 64))[-1].square().mean().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_first_convolution_from_scratch_is_scaled_by_its_fan_out():
    weight = Resnet(18, num_images=2).encoder.conv1.weight
    assert weight.shape == (64, 6, 7, 7)
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)  # Kaiming, fan_out


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A torch hub cache with synthetic weights for ResNet-18, and no network access."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), file)
    return file


def test_imagenet_weights_come_from_the_cache(imagenet):
    weights = torch.load(imagenet, weights_only=True)
    loaded = Resnet(18, pretrained=True).encoder.state_dict()
    assert set(weights) - set(loaded) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[key], weights[key]) for key in loaded)


def test_three_equal_images_give_the_features_of_one(imagenet):
    image = torch.rand(1, 3, 32, 64)
    one, three = Resnet(18, 1, pretrained=True).eval(), Resnet(18, 3, pretrained=True).eval()
    with torch.inference_mode():
        for single, tripled in zip(one(image), three(image.repeat(1, 3, 1, 1))):
            assert torch.allclose(single, tripled, atol=1e-5, rtol=1e-4)


def test_without_network_the_error_names_the_files_path(imagenet):
    imagenet.unlink()
    with pytest.raises(InputError) as refusal:
        Resnet(18, pretrained=True)
    for part in (str(imagenet), "network is unreachable", "--weights_init scratch"):
        assert part in str(refusal.value)


def test_a_broken_weights_file_is_named(imagenet):
    imagenet.write_bytes(imagenet.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth does not hold .* delete it"):
        Resnet(18, pretrained=True)


def test_unknown_num_layers_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"resnet has 18, 34, 50, 101 or 152 layers, got 20; .* 18"):
        Resnet(20)
    with pytest.raises(InputError, match="num_images must be at least 1, got 0"):
        Resnet(18, num_images=0)


def test_it_is_registered_by_its_file():
    assert NETWORKS.get("resnet").__name__ == "Resnet"
