"""The rectification network: published weights, known rotations, and its supervision."""

import math

import pytest
import torch

from checkpoints.sc_depth import rename
from layers import euler_to_rotation
from losses.rotation import Rotation
from networks.rectifier import Rectifier, turn
from structures import Prediction
from tests.scdepth_goldens import ScDepthGolden, state_dict, tensor, uniform


def rectifier(case, factor=1.0):
    """The network with the recorded weights, its last convolution times a factor."""
    weights = {rename(f"rectify_net.{key}"): value for key, value in state_dict(case).items()}
    network = Rectifier()
    network.load_state_dict({k.removeprefix("rectifier."): v for k, v in weights.items() if k}, strict=True)
    for parameter in network.net[3].parameters():
        parameter.data *= factor
    return network.eval()


@pytest.fixture
def no_draws(monkeypatch):
    """Recorded draws instead of random ones."""

    def set_draws(draws):
        monkeypatch.setattr(torch, "rand", lambda *_, **__: draws.pop(0))

    return set_draws


def test_published_weights_give_the_published_rotation():
    golden = ScDepthGolden("scdepth_rectifynet18")
    golden.prefix = "B/scdepth_rectifynet18"
    with torch.no_grad():
        rotation = rectifier("scdepth_rectifynet18")(golden.image("image_1"), golden.image("image_2"))
    golden.close("rotation", rotation)


@pytest.mark.parametrize(("case", "factor"), [("random", 0.005), ("supervised", 0.02)])
def test_published_rectification_is_met(case, factor, no_draws):
    golden = ScDepthGolden(f"scdepth_rectify_{case}")
    network, images = rectifier(golden.case, factor), {0: golden.image("target")}
    if case == "random":
        no_draws([golden["draw_0"], golden["draw_1"]])
    found = {}
    for number in (0, 1):
        source = golden.image(f"reference_{number}")
        found[number] = one = network.rectify(images[0], source, golden["K"])
        golden.close(f"rotation_{number}", one.before)
        golden.close(f"rectified_{number}", (one.image - 0.45) / 0.225, stride=2)
    consistency, triplet = Rotation().parts(Prediction({}, extra={"rectified": found}))
    golden.close("loss_consistency", consistency)
    golden.close("loss_triplet", triplet)
    golden.close("rotation_before", torch.cat([one.before for one in found.values()]).abs().mean())
    golden.close("rotation_after", torch.cat([one.after for one in found.values()]).abs().mean())
    (consistency + triplet).backward()
    golden.close("grad_last_bias", network.net[3].bias.grad, relative=1e-5)
    golden.close("grad_last_weight", network.net[3].weight.grad, relative=1e-5)
    golden.close("grad_squeeze_bias", network.net[0].bias.grad, relative=1e-5)


def test_published_rotation_warp_is_met():
    golden = ScDepthGolden("scdepth_inverse_warp")
    size = (48, 64)
    source = 0.8 * golden.image("target", size) + 0.2 * golden.image("reference_0", size)
    angles = tensor(uniform("B/scdepth_inverse_warp/rotation", (2, 3), -0.15, 0.15))
    golden.close("rotation_warp", (turn(source, angles, golden["K"])[0] - 0.45) / 0.225)


def test_published_euler_angles_are_met():
    golden = ScDepthGolden("scdepth_pose_vec2mat")
    vector = tensor(uniform("B/scdepth_pose_vec2mat/vec", (4, 6), -1, 1))
    golden.close("euler", torch.cat([euler_to_rotation(vector[:, 3:]), vector[:, :3, None]], 2))


def test_right_turn_moves_the_centre_by_focal_times_tangent():
    image = torch.rand(1, 3, 64, 96)
    K = torch.tensor([[[60.0, 0, 47], [0, 60.0, 31], [0, 0, 1]]])
    angle = math.atan(10 / 60)  # about the y axis: 10 pixels at the centre
    turned, seen = turn(image, torch.tensor([[0.0, angle, 0.0]]), K)
    assert torch.allclose(turned[..., 31, 47], image[..., 31, 57], atol=1e-4)
    assert not seen[..., -1].any() and seen[..., 40].any()


def test_turned_image_is_grey_beyond_the_border():
    K = torch.tensor([[[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]])
    turned, seen = turn(torch.ones(1, 3, 64, 96), torch.tensor([[0.0, 0.5, 0.0]]), K)
    assert torch.allclose(turned[..., -5:], torch.tensor(0.45)) and not seen[..., -5:].any()


@pytest.mark.parametrize(("size", "trusted"), [(0.01, False), (0.05, True), (0.2, False)])
def test_only_plausible_rotations_supervise_themselves(size, trusted):
    rotation, drawn = torch.full((2, 3), size), torch.full((2, 3), 0.75)
    known = Rectifier.supervision(rotation, drawn)
    assert torch.allclose(known, rotation if trusted else torch.full((2, 3), 0.025))


def test_output_is_three_angles_per_pair_at_two_sizes():
    network = Rectifier().eval()
    for size in ((64, 96), (96, 128)):
        with torch.no_grad():
            assert network(torch.rand(2, 3, *size), torch.rand(2, 3, *size)).shape == (2, 3)
