import pytest
import torch

from layers import pose_matrix
from networks.depth_decoder import DepthDecoder
from networks.pose_decoder import PoseDecoder
from tests.goldens import Golden, state_dict, tensor
from utils import InputError

RESNET18 = (64, 64, 128, 256, 512)


def images(golden: Golden, *names: str) -> list[torch.Tensor]:
    inputs = golden.inputs()
    return [tensor(inputs[name]) for name in names]


def compare_motion(golden: Golden, motion: tuple[torch.Tensor, torch.Tensor], prefix: str = "") -> None:
    """Goldens have an axis of length one after the frames: (B, frames, 1, 3)."""
    axis_angle, translation = motion
    golden.close(f"{prefix}axisangle", axis_angle[:, :, None])
    golden.close(f"{prefix}translation", translation[:, :, None])


def compare_matrix(golden: Golden, name: str, motion: tuple, frame: int = 0, invert: bool = False) -> None:
    axis_angle, translation = motion
    golden.close(name, pose_matrix(axis_angle[:, frame], translation[:, frame], invert))


@pytest.mark.parametrize("size", [(1, 2), (6, 20)])
def test_any_size_gives_a_motion_for_each_frame(size):
    axis_angle, translation = PoseDecoder(RESNET18, num_frames=2)([[torch.rand(3, 512, *size)]])
    assert axis_angle.shape == translation.shape == (3, 2, 3)


def test_several_features_hold_one_motion_fewer():
    features = [[torch.rand(1, 512, 2, 3)]] * 3
    axis_angle, _ = PoseDecoder(RESNET18, num_input_features=3)(features)
    assert axis_angle.shape == (1, 2, 3)


def test_the_last_bias_is_the_motion_times_a_hundred():
    decoder = PoseDecoder(RESNET18, num_frames=1)
    torch.nn.init.zeros_(decoder.net[3].weight)
    decoder.net[3].bias.data = torch.arange(6.0)
    axis_angle, translation = decoder([[torch.rand(1, 512, 2, 3)]])
    assert torch.allclose(axis_angle, torch.tensor([[[0.0, 0.01, 0.02]]]))
    assert torch.allclose(translation, torch.tensor([[[0.03, 0.04, 0.05]]]))


@pytest.mark.parametrize("num_layers", [18, 50])
def test_the_motion_of_a_pair_is_the_published_one(num_layers, published_resnet):
    golden = Golden(f"monodepth2_pose_resnet{num_layers}")
    encoder = published_resnet(f"monodepth2_pose_encoder_resnet{num_layers}", num_layers, num_images=2)
    decoder = PoseDecoder(encoder.num_channels, num_frames=2)
    decoder.load_state_dict(state_dict(f"monodepth2_pose_resnet{num_layers}"))
    pair = torch.cat(images(golden, "a", "b"), 1)
    for prefix, training in (("", False), ("train_", True)):
        with torch.no_grad():
            motion = decoder([encoder.train(training)(pair)])
        compare_motion(golden, motion, prefix)
        compare_matrix(golden, f"{prefix}T", motion)
        compare_matrix(golden, f"{prefix}T_inv", motion, invert=True)


def test_motions_of_three_frames_are_the_published_ones(published_resnet):
    golden = Golden("monodepth2_pose_all3_resnet18")
    encoder = published_resnet("monodepth2_pose_encoder3_resnet18", num_images=3)
    decoder = PoseDecoder(encoder.num_channels, num_frames=2)
    decoder.load_state_dict(state_dict("monodepth2_pose_resnet18"))
    stacked = torch.cat(images(golden, "a", "b", "d"), 1)
    for prefix, training in (("", False), ("train_", True)):
        with torch.no_grad():
            motion = decoder([encoder.train(training)(stacked)])
        compare_motion(golden, motion, prefix)
        compare_matrix(golden, f"{prefix}T_m1", motion, frame=0)
        compare_matrix(golden, f"{prefix}T_p1", motion, frame=1)


@pytest.fixture
def shared(published_resnet):
    """A depth encoder whose features a pose decoder reads, with published weights."""
    encoder = published_resnet("monodepth2_encoder_resnet18")
    decoder = PoseDecoder(encoder.num_channels, num_input_features=2)
    decoder.load_state_dict(state_dict("monodepth2_pose_shared_resnet18"))
    return Golden("monodepth2_pose_shared_resnet18"), encoder, decoder


def test_the_motion_from_shared_features_is_the_published_one(shared):
    golden, encoder, decoder = shared
    for prefix, training in (("", False), ("train_", True)):
        encoder.train(training)
        with torch.no_grad():
            motion = decoder([encoder(image) for image in images(golden, "a", "b")])
        compare_motion(golden, motion, prefix)
        compare_matrix(golden, f"{prefix}T", motion)
        compare_matrix(golden, f"{prefix}T_inv", motion, invert=True)


def test_frames_in_one_batch_share_statistics_as_published(shared):
    golden, encoder, pose = shared
    depth = DepthDecoder(encoder.num_channels)
    depth.load_state_dict(state_dict("monodepth2_depth_resnet18"))
    with torch.no_grad():
        together = encoder.train()(torch.cat(images(golden, "b", "a", "d")))  # frames 0, -1, +1
        target, previous, following = zip(*(feature.chunk(3) for feature in together))
        for name, pair, invert in (("m1", [previous, target], True), ("p1", [target, following], False)):
            motion = pose(pair)
            golden.close(f"loop_axisangle_{name}", motion[0][:, :, None])
            golden.close(f"loop_translation_{name}", motion[1][:, :, None])
            compare_matrix(golden, f"loop_T_{name}", motion, invert=invert)
        for scale, disparity in depth(target).items():
            golden.close(f"loop_disp_{scale}", disparity)


def test_no_feature_or_no_motion_is_refused():
    with pytest.raises(InputError, match="give num_frames"):
        PoseDecoder(RESNET18)
    with pytest.raises(InputError, match="num_frames must be at least 1, got 0"):
        PoseDecoder(RESNET18, num_frames=0)
    with pytest.raises(InputError, match="num_input_features must be at least 1, got 0"):
        PoseDecoder(RESNET18, num_input_features=0)
