"""SC-Depth's networks, built from this folder's ResNet and decoders: published weights, published values."""

import pytest
import torch

from checkpoints.sc_depth import rename, rotation_first
from layers import disparity_to_depth, euler_to_rotation
from networks.depth_decoder import BilinearDecoder
from networks.pose_decoder import PoseDecoder
from networks.resnet import Resnet
from tests.scdepth_goldens import ScDepthGolden, state_dict


def load(case, network, modules):
    """Fill modules, by name, from a recorded checkpoint; all keys are used."""
    weights = {rename(f"{network}.{key}"): value for key, value in state_dict(case).items()}
    weights.pop(None)  # the unused classifier
    for name, module in modules.items():
        own = [key for key in weights if key.startswith(f"{name}.")]
        module.load_state_dict(
            {k.removeprefix(f"{name}."): rotation_first(k, weights.pop(k)) for k in own}, strict=True
        )
    assert not weights


@pytest.fixture(scope="module")
def depth_net():
    encoder = Resnet()
    decoder = BilinearDecoder(encoder.num_channels)
    load("scdepth_depthnet18", "depth_net", {"encoder": encoder, "depth": decoder})
    return encoder, decoder


@pytest.mark.parametrize("mode", ["", "train_"])
def test_published_depth_is_met_at_every_scale(depth_net, mode):
    golden = ScDepthGolden("scdepth_depthnet18")
    golden.prefix = "B/scdepth_depthnet18"
    encoder, decoder = (network.train(bool(mode)) for network in depth_net)
    with torch.no_grad():
        disparities = decoder(encoder(golden.image("image")))
    for scale, disparity in disparities.items():
        name = f"{mode}depth_{scale}" if mode or scale else "depth"
        golden.close(name, disparity_to_depth(disparity, 1 / 10.01, 100.0))


def test_published_pose_is_met_with_the_last_rows_exchanged():
    golden = ScDepthGolden("scdepth_posenet18")
    golden.prefix = "B/scdepth_posenet18"
    encoder = Resnet(num_images=2).eval()
    pose = PoseDecoder(encoder.num_channels, num_frames=1)
    load("scdepth_posenet18", "pose_net", {"pose_encoder": encoder, "pose": pose})
    images = golden.image("image_1"), golden.image("image_2")
    for name, pair in (("pose", images), ("pose_swapped", images[::-1])):
        with torch.no_grad():
            angles, translation = (x[:, 0] for x in pose([encoder(torch.cat(pair, 1))]))
        golden.close(name, torch.cat([translation, angles], 1))
        if name == "pose":
            golden.close("matrix", torch.cat([euler_to_rotation(angles), translation[:, :, None]], 2))


def test_a_ramp_stays_a_ramp_when_it_is_enlarged():
    decoder = BilinearDecoder([8, 8, 8, 8, 8])
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    enlarged = decoder.enlarge(ramp)
    assert enlarged.shape == (1, 1, 16, 16)
    assert torch.allclose(enlarged[0, 0, 0, 1:-1].diff(), torch.tensor(0.5))
