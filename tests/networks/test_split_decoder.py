"""Split decoder: published numbers, gradients divided at the split, helpful refusals."""

import pytest
import torch

from checkpoints.sgdepth import rename_sgdepth_key
from layers import pose_matrix, scale_gradient
from networks import build_encoder
from networks.pose_decoder import PoseDecoder
from networks.split_decoder import SplitDecoder
from tests import goldens
from utils import InputError

CHANNELS = (4, 4, 6, 8, 10)


def features(batch=1, height=64, width=96, channels=CHANNELS):
    return [torch.rand(batch, c, height >> k, width >> k) for k, c in enumerate(channels, 1)]


@pytest.fixture(scope="module")
def published():
    """Encoder, decoder, pose encoder and pose decoder with the golden weights, in evaluation mode."""
    weights = {rename_sgdepth_key(k): v for k, v in goldens.state_dict("sgdepth_full_r18").items()}
    encoder, pose_encoder = build_encoder("resnet18"), build_encoder("resnet18", num_images=2)
    networks = torch.nn.ModuleDict(
        {
            "encoder": encoder,
            "depth": SplitDecoder(encoder.num_channels),
            "pose_encoder": pose_encoder,
            "pose": PoseDecoder(pose_encoder.num_channels, num_frames=1, factor_in_weights=True),
        }
    )
    encoder.normalise_by_channel()
    pose_encoder.normalise_by_channel()
    networks.load_state_dict(weights)
    return networks.eval()


def image(frame):
    return goldens.tensor(goldens.image(f"B/sgdepth_full_r18/{frame}", 1, 64, 96))


@torch.no_grad()
def test_published_weights_give_the_published_disparities(published):
    golden = goldens.Golden("sgdepth_full_r18")
    shared = published["depth"].share(published["encoder"](image("frame_0")))
    logits = published["depth"].disparity_logits(shared)
    golden.close("logit_2", logits[2])
    golden.close("logit_3", logits[3])
    for scale, disparity in published["depth"].disparities(shared).items():
        golden.close(f"disp_{scale}", disparity)


@torch.no_grad()
def test_published_weights_give_the_published_labels(published):
    golden = goldens.Golden("sgdepth_full_r18")
    logits = published["depth"].logits(published["depth"].share(published["encoder"](image("frame_0"))))
    golden.close("segmentation_logits", logits[:, :, ::2, ::2])
    labels = logits.argmax(1).to(torch.uint8)
    assert (labels != torch.from_numpy(golden["segmentation_argmax"])).sum() <= 1


@torch.no_grad()
def test_published_weights_give_the_published_poses(published):
    golden = goldens.Golden("sgdepth_full_r18")
    for name, (first, second) in {"next": ("frame_0", "frame_1"), "prev": ("frame_m1", "frame_0")}.items():
        pair = torch.cat([image(first), image(second)], 1)
        axis_angle, translation = published["pose"]([published["pose_encoder"](pair)])
        if name == "next":
            golden.close("axisangle_next", axis_angle[:, :, None])
            golden.close("translation_next", translation[:, :, None])
        matrix = pose_matrix(axis_angle[:, 0], translation[:, 0], name == "prev")
        golden.close(f"cam_T_cam_{name}", matrix[:, None, None])


@pytest.mark.parametrize("split", range(5))
@pytest.mark.parametrize("height, width", [(64, 96), (96, 64)])
def test_every_split_gives_maps_of_every_scale(split, height, width):
    decoder = SplitDecoder(CHANNELS, classes=7, split_position=split)
    shared = decoder.share(features(2, height, width))
    disparities = decoder.disparities(shared)
    assert {s: tuple(d.shape) for s, d in disparities.items()} == {
        s: (2, 1, height >> s, width >> s) for s in range(4)
    }
    assert decoder.logits(shared).shape == (2, 7, height, width)


@pytest.mark.parametrize("split, entries", [(0, 298), (1, 296), (2, 292), (3, 288), (4, 284)])
def test_a_split_moves_two_steps_into_the_shared_part(split, entries):
    decoder = SplitDecoder((64, 64, 128, 256, 512), split_position=split)
    others = 120 + 120 + 8  # both encoders and the pose decoder
    assert len(decoder.state_dict()) == entries - others
    assert len(decoder.shared) == max(2 * split - 1, 0)


def test_the_first_disparities_are_near():
    decoder = SplitDecoder(CHANNELS)
    zeros = [torch.zeros_like(feature) for feature in features()]
    for head in decoder.disparity_heads.values():
        head.conv.weight.data.zero_()
        head.conv.bias.data.fill_(5.0)
    assert decoder(zeros)[0].mean().item() == pytest.approx(0.9933, abs=1e-4)


def test_the_first_disparities_follow_the_initial_bias():
    torch.manual_seed(0)
    near = SplitDecoder(CHANNELS)(features())[0].mean().item()
    torch.manual_seed(0)
    middle = SplitDecoder(CHANNELS, disparity_bias=0)(features())[0].mean().item()
    assert near > 0.95 and abs(middle - 0.5) < 0.15


@pytest.mark.parametrize("split", [0, 1, 4])
def test_shared_weights_get_each_branch_times_its_factor(split):
    torch.manual_seed(0)
    scaled = SplitDecoder(CHANNELS, split_position=split, depth_gradient=0.9, segmentation_gradient=0.1)
    plain = SplitDecoder(CHANNELS, split_position=split, depth_gradient=1.0, segmentation_gradient=1.0)
    plain.load_state_dict(scaled.state_dict())

    def gradient(decoder, branch):
        inputs = [feature.clone().requires_grad_() for feature in given]
        shared = decoder.share(inputs)
        output = decoder.logits(shared) if branch == "segmentation" else decoder.disparity_logits(shared)[3]
        decoder.zero_grad()
        output.mean().backward()
        return inputs[-1].grad, [p.grad for p in decoder.disparity_heads.parameters()]

    given = features()
    for branch, factor in {"depth": 0.9, "segmentation": 0.1}.items():
        ours, heads = gradient(scaled, branch)
        theirs, plain_heads = gradient(plain, branch)
        assert theirs.abs().max() > 0
        assert torch.allclose(ours, factor * theirs, rtol=1e-4, atol=1e-9)
        for a, b in zip(heads, plain_heads):  # the branch's own weights are not scaled
            assert (a is None and b is None) or torch.allclose(a, b)


def test_scaling_a_gradient_does_not_change_the_values():
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x, 0.25)
    assert torch.equal(x, y)
    (3 * y).sum().backward()
    assert torch.equal(x.grad, torch.full((5,), 0.75))


def test_without_classes_no_parameter_is_left_without_gradient():
    decoder = SplitDecoder(CHANNELS, scales=(2, 3), classes=0)
    sum(d.sum() for d in decoder(features()).values()).backward()
    assert all(p.grad is not None for p in decoder.parameters() if p.requires_grad)
    with pytest.raises(InputError, match="no segmentation branch; build it with classes 20"):
        decoder.logits(decoder.share(features()))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"split_position": 5}, "split_position, .* must be 0 to 4, got 5"),
        ({"scales": (0, 4)}, "scales must be different numbers from 0 to 3"),
        ({"classes": -1}, "classes is the number"),
        ({"depth_gradient": -1.0}, "depth_gradient is a factor of at least 0, got -1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        SplitDecoder(CHANNELS, **settings)


def test_an_image_of_odd_size_is_refused():
    with pytest.raises(InputError, match="multiples of 32"):
        SplitDecoder(CHANNELS)(features(height=100))
