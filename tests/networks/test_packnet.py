import pytest
import torch

from layers import disparity_to_depth
from networks import NETWORKS
from networks._packing import Pack, PackDecoder, PackEncoder, Residual, Sizes, Unpack
from networks.packnet import PackNet, PackNetSlim
from tests.packnet_goldens import PacknetGolden, load_published
from utils import InputError

PUBLISHED = {  # case → network, settings
    "packnet01_1A": (PackNet, {}),
    "packnet01_1A_dropout": (PackNet, {"dropout": 0.5}),
    "packnet01_1B": (PackNet, {"version": "1B"}),
    "packnetslim01_1A": (PackNetSlim, {}),
}


class Tiny(PackNet):
    """The same graph with few channels."""

    sizes = Sizes((16, 16, 16, 32, 32, 48), depth=2)


def outline(network: type, **settings) -> torch.nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return network(**settings)


@pytest.mark.parametrize("case", PUBLISHED)
def test_inverse_depths_are_the_published_ones(case):
    network, settings = PUBLISHED[case]
    golden = PacknetGolden(case)
    network = load_published(outline(network, **settings), case)
    with torch.no_grad():
        disparities = network(golden.inputs()["rgb"])
    for scale in range(4):
        name = f"inv_depth_{scale}" if scale else "inv_depth"
        if name in golden.arrays:
            golden.close(name, 1 / disparity_to_depth(disparities[scale], 0.5, float("inf")))


@pytest.mark.parametrize(
    ("network", "version", "millions"),
    [
        (PackNet, "1A", 128.294020),
        (PackNet, "1B", 124.164580),
        (PackNetSlim, "1A", 76.997796),
        # Published slim 1B cannot run. Here its second and first level unpack to the 32 channels of the skip.
        (PackNetSlim, "1B", 71.899908),
    ],
)
def test_number_of_parameters(network, version, millions):
    network = outline(network, version=version)
    assert sum(p.numel() for p in network.parameters()) == round(1e6 * millions)


@pytest.mark.parametrize("size", [(32, 64), (64, 96)])
@pytest.mark.parametrize("version", ["1A", "1B"])
def test_each_scale_halves(version, size):
    disparities = Tiny(version=version)(torch.rand(2, 3, *size))
    for scale in range(4):
        assert disparities[scale].shape == (2, 1, size[0] >> scale, size[1] >> scale)
        assert disparities[scale].min() > 0 and disparities[scale].max() < 1


def test_slim_1b_runs():
    with torch.inference_mode():
        assert PackNetSlim(version="1B")(torch.rand(1, 3, 32, 64))[0].shape == (1, 1, 32, 64)


def test_training_and_evaluation_give_the_same_scales():
    network, images = Tiny(), torch.rand(1, 3, 32, 64)
    trained, evaluated = network.train()(images), network.eval()(images)
    assert list(trained) == list(evaluated) == [0, 1, 2, 3]
    assert all(torch.equal(trained[scale], evaluated[scale]) for scale in trained)


@pytest.mark.parametrize("scales", [(0,), (1, 2), (3,)])
def test_levels_finer_than_the_scales_neither_run_nor_train(scales):
    every, some = Tiny(), Tiny(scales=scales)
    some.load_state_dict(every.state_dict())
    images = torch.rand(1, 3, 32, 64)
    reference, disparities = every(images), some(images)
    assert tuple(disparities) == scales
    assert all(torch.equal(disparities[scale], reference[scale]) for scale in scales)
    sum(disparity.sum() for disparity in disparities.values()).backward()
    idle = [name for name, p in some.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert any(not p.requires_grad for p in some.parameters()) == (min(scales) > 0)


def test_recomputed_activations_give_the_same_gradient():
    plain, thrifty = Tiny(dropout=0.3), Tiny(dropout=0.3, gradient_checkpointing=True)
    thrifty.load_state_dict(plain.state_dict())
    images, gradients = torch.rand(2, 3, 32, 64), []
    for network in (plain, thrifty):
        torch.manual_seed(0)  # the same channels are dropped
        sum(disparity.square().sum() for disparity in network(images).values()).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients))


def test_recomputed_activations_are_not_kept():
    def kept(network) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            network(torch.rand(1, 3, 64, 96))
        return sum(sizes)

    assert kept(Tiny(gradient_checkpointing=True)) < kept(Tiny()) / 5


def test_in_bfloat16_disparities_stay_float32_and_close():
    network, images = Tiny().eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images)
    for scale in exact:
        assert rounded[scale].dtype == torch.float32
        assert (rounded[scale] - exact[scale]).abs().max() < 0.05


def test_dropout_acts_on_whole_channels_of_the_shortcut():
    block = Residual(16, 16, dropout=1.0)
    shortcut = block.dropout(block.conv3(torch.rand(1, 16, 4, 4)))
    assert shortcut.abs().max() == 0
    block.eval()
    assert block.dropout(torch.ones(1, 16, 4, 4)).min() == 1


def test_packing_keeps_every_value():
    x = torch.arange(256.0).view(1, 16, 4, 4)
    pack = Pack(16, 1, depth=1).requires_grad_(False)
    pack.conv3d.weight.zero_()[0, 0, 1, 1, 1] = 1
    pack.conv3d.bias.zero_()
    seen = []
    pack.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pack.conv.forward = lambda packed: packed
    pack(x)
    # Channels are the pixels of each 2 x 2 block: upper left, upper right, lower left, lower right.
    assert seen[0][0, :4, 0, 0].tolist() == [0, 1, 4, 5]
    assert sorted(seen[0].flatten().tolist()) == list(range(256))


def test_unpacking_doubles_the_size():
    assert Unpack(16, 32, depth=2)(torch.rand(1, 16, 3, 5)).shape == (1, 32, 6, 10)


def test_a_saturated_output_stays_within_a_thousand_kilometres():
    decoder = PackDecoder(Tiny.sizes)
    with torch.no_grad():
        decoder.disp1_layer.conv1.bias.fill_(-1e4)
        disparity = decoder(PackEncoder(Tiny.sizes)(torch.rand(1, 3, 32, 64)))[0]
    assert disparity_to_depth(disparity, 0.5, float("inf")).max().item() == pytest.approx(1e6)


def test_sizes_that_are_not_multiples_of_32_are_refused():
    with pytest.raises(InputError, match="multiples of 32, got 60 x 100; try 64 x 96"):
        Tiny()(torch.rand(1, 3, 60, 100))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "1C"}, r"no PackNet version '1C' \(available: 1A, 1B\)"),
        ({"scales": (0, 4)}, r"different numbers from 0 to 3, got \[0, 4\]; try 0 1 2 3"),
        ({"scales": ()}, "different numbers from 0 to 3"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        outline(Tiny, **settings)


def test_they_are_whole_depth_networks():
    for name in ("packnet", "packnet_slim", "packnet_san", "ray_surface"):
        assert NETWORKS.get(name).is_depth_network


@pytest.mark.parametrize("name", ["packnet", "packnet_slim", "packnet_san"])
def test_a_network_may_be_narrower(name):
    widths = [32, 32, 32, 64, 64, 96]
    network = NETWORKS.get(name)(widths=widths)
    assert network.encoder.num_channels == widths
    assert network(torch.rand(1, 3, 32, 64))[0].shape == (1, 1, 32, 64)
    assert sum(value.numel() for value in network.parameters()) < 15e6


@pytest.mark.parametrize("widths", [[32, 32, 32], [32, 32, 32, 64, 64, 100], [0] * 6])
def test_widths_that_cannot_be_grouped_are_refused(widths):
    with pytest.raises(InputError, match=r"widths are 6 multiples of 32, got .*; published: \[64, 64, 64,"):
        NETWORKS.get("packnet")(widths=widths)
