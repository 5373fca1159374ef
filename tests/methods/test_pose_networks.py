"""Pose networks under the methods: whole ones shown the target first, and the unit of translations."""

import pytest
import torch

from layers import euler_pose_matrix
from methods._networks import EulerMotion
from methods.monodepth2 import Monodepth2
from structures import Batch
from utils import InputError


def build(name: str, **settings) -> Monodepth2:
    torch.manual_seed(0)
    small = {"weights_init": "scratch", "encoder": "timm/test_efficientnet", "scales": (0,)}
    return Monodepth2(pose_model_type=name, **{**small, **settings})


@pytest.mark.parametrize("name", ["packnet_pose", "packnet_pose_resnet"])
def test_poses_are_those_of_the_network_for_target_and_sources(drawn_batch, name):
    method = build(name).eval()
    with torch.no_grad():
        prediction = method(drawn_batch)
        vectors = method.pose(drawn_batch.images[0], [drawn_batch.images[-1], drawn_batch.images[1]])
    for number, frame in enumerate((-1, 1)):
        expected = euler_pose_matrix(vectors[:, number])
        assert torch.allclose(prediction.T_source_from_target[frame], expected)
    assert not hasattr(method, "pose_encoder")


def test_scale_changes_only_the_translation():
    motion = EulerMotion(torch.tensor([[1.0, 2.0, 3.0, 0.1, 0.2, 0.3]]))
    plain, scaled = motion.matrix(), motion.matrix(torch.tensor([[2.0]]))
    assert torch.allclose(scaled[:, :3, 3], torch.tensor([[2.0, 4.0, 6.0]]))
    assert torch.allclose(scaled[:, :3, :3], plain[:, :3, :3])


def test_a_pose_network_of_pairs_predicts_a_pair(drawn_batch):
    images = drawn_batch.images
    method = build("packnet_pose_resnet").eval()
    with torch.no_grad():
        expected = euler_pose_matrix(method.pose(images[0], [images[1]])[:, 0])
        assert torch.allclose(method.predict_pose(images[0], images[1]), expected)
    with pytest.raises(InputError, match="sees the target and 2 sources at once, not a pair"):
        build("packnet_pose").predict_pose(images[0], images[1])


def test_a_pose_network_follows_the_number_of_sources(drawn_batch):
    method = build("packnet_pose", frame_ids=(0, -2, -1, 1)).eval()
    assert method.pose.num_sources == 3
    images = {**drawn_batch.images, -2: drawn_batch.images[-1]}
    batch = Batch({n: images[n] for n in (0, -2, -1, 1)}, drawn_batch.intrinsics, drawn_batch.index)
    with torch.no_grad():
        assert set(method(batch).T_source_from_target) == {-2, -1, 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "packnet_pos"}, "there is no pose_model_type 'packnet_pos'; did you mean 'packnet_pose'"),
        ({"name": "packnet"}, "there is no pose_model_type 'packnet'"),
        ({"name": "packnet_pose_resnet", "pose_encoder": "hrnet18"}, "--pose_encoder hrnet18; try resnet18"),
    ],
)
def test_what_is_not_a_pose_network_is_refused(settings, words):
    with pytest.raises(InputError, match=words):
        build(**settings)


@pytest.mark.parametrize("name", ["separate_resnet", "shared", "posecnn", "packnet_pose_resnet"])
def test_the_factor_multiplies_only_the_translation(drawn_batch, name):
    plain, scaled = (build(name, translation_factor=factor).eval() for factor in (1.0, 50.0))
    with torch.no_grad():
        poses = [method(drawn_batch).T_source_from_target[1] for method in (plain, scaled)]
    assert torch.allclose(50 * poses[0][:, :3, 3], poses[1][:, :3, 3], rtol=1e-4)
    assert torch.equal(poses[0][:, :3, :3], poses[1][:, :3, :3])
    with pytest.raises(InputError, match="translation_factor must be positive, got 0"):
        build(name, translation_factor=0)


def test_poses_of_posecnn_are_in_the_unit_of_depth(drawn_batch):
    method = build("posecnn").eval()
    with torch.no_grad():
        prediction = method(drawn_batch)
    inverse_depth = (1 / prediction.depths[0]).mean((1, 2, 3))
    expected = prediction.extra["motions"][1].translation * inverse_depth[:, None]
    assert torch.allclose(prediction.T_source_from_target[1][:, :3, 3], expected)
    with torch.no_grad():
        T_later_from_earlier = method.predict_pose(drawn_batch.images[0], drawn_batch.images[1])
    assert torch.allclose(T_later_from_earlier, prediction.T_source_from_target[1], atol=1e-6)
