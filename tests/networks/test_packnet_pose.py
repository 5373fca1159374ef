import math

import pytest
import torch

from layers import euler_pose_matrix, euler_to_rotation, invert_rigid
from networks.packnet_pose import PackNetPose, PackNetPoseResnet
from tests.packnet_goldens import PacknetGolden, load_published
from utils import InputError

NETWORKS = {"posenet": PackNetPose, "poseresnet18": PackNetPoseResnet}


@pytest.mark.parametrize("case", NETWORKS)
def test_motions_are_the_published_ones(case):
    golden = PacknetGolden(case)
    target, *sources = golden.inputs().values()
    network = load_published(NETWORKS[case](), case)
    with torch.no_grad():
        vectors = network(target, sources)
    golden.close("pose", vectors)
    for number in range(2):
        golden.close(f"matrix_{number}", euler_pose_matrix(vectors[:, number]))


def test_pose_vectors_become_the_published_matrices():
    golden = PacknetGolden("geometry")
    T = euler_pose_matrix(golden.inputs()["vec"])
    golden.close("pose", T)
    golden.close("vec2mat", T[:, :3])
    golden.close("inverse", invert_rigid(T))


@pytest.mark.parametrize(
    ("axis", "turned"),
    [(0, ((1, 0, 0), (0, 0, 1))), (1, ((0, 0, -1), (0, 1, 0))), (2, ((0, 1, 0), (-1, 0, 0)))],
)
def test_a_quarter_turn_about_each_axis(axis, turned):
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.pi / 2
    R = euler_to_rotation(angles)[0]
    assert torch.allclose(R[:, :2].T, torch.tensor(turned, dtype=torch.float32), atol=1e-6)


def test_rotations_are_composed_x_y_z():
    x, y, z = (torch.diag(torch.tensor(d)) for d in ([0.3, 0, 0], [0, -0.7, 0], [0, 0, 1.1]))
    single = [euler_to_rotation(angles.sum(0)[None])[0] for angles in (x, y, z)]
    assert torch.allclose(euler_to_rotation((x + y + z).sum(0)[None])[0], single[0] @ single[1] @ single[2])


@pytest.mark.parametrize(
    ("network", "parameters"),
    [(PackNetPose, 1_592_684), (PackNetPoseResnet, 13_013_492 - 513_000)],  # without ImageNet's classifier
)
def test_number_of_parameters(network, parameters):
    assert sum(p.numel() for p in network().parameters()) == parameters


@pytest.mark.parametrize("size", [(32, 64), (64, 96)])
@pytest.mark.parametrize("network", NETWORKS.values())
def test_one_vector_for_each_source(network, size):
    network = network()
    vectors = network(torch.rand(2, 3, *size), [torch.rand(2, 3, *size)] * 2)
    assert vectors.shape == (2, 2, 6) and vectors.dtype == torch.float32
    vectors.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_one_conv_network_for_each_number_of_sources():
    assert PackNetPose(1)(torch.rand(1, 3, 32, 64), [torch.rand(1, 3, 32, 64)]).shape == (1, 1, 6)
    with pytest.raises(InputError, match="sees 2 sources at once, got 1; frame_ids"):
        PackNetPose()(torch.rand(1, 3, 32, 64), [torch.rand(1, 3, 32, 64)])
    with pytest.raises(InputError, match="at least 1 source, got num_sources 0"):
        PackNetPose(0)
