import pytest
import torch

from networks.packnet_san import PackNetSan
from tests.packnet_goldens import PacknetGolden, load_published
from utils import InputError


def published(case: str, **settings) -> PackNetSan:
    with torch.device("meta"):
        network = PackNetSan(**settings)
    return load_published(network, case)


def feature_gap(prediction, completion) -> torch.Tensor:
    gaps = [
        (known.detach() - seen).square().mean()
        for seen, known in zip(prediction.features, completion.features)
    ]
    return sum(gaps) / len(gaps)


def test_prediction_from_images_is_the_published_one():
    golden = PacknetGolden("packnetsan01_1A_rgb")
    with torch.no_grad():
        disparities = published("packnetsan01_1A_rgb")(golden.inputs()["rgb"])
    for scale in range(4):
        golden.close(f"inv_depth_{scale}" if scale else "inv_depth", 2 * disparities[scale])


def test_completion_is_the_published_one():
    golden = PacknetGolden("packnetsan01_1A_rgbd")
    images, input_depth, _ = (golden.inputs()[name] for name in ("rgb", "input_depth", "depth_hole"))
    network = published("packnetsan01_1A_rgbd")
    with torch.no_grad():
        golden.close("inv_depth", 2 * network(images, input_depth)[0])
        prediction, completion = network.train().prediction_and_completion(images, input_depth)
        golden.close("train_inv_depth_rgb_1", 2 * prediction.disparities[1])
        for scale in range(4):
            golden.close(f"train_inv_depth_rgbd_{scale}", 2 * completion.disparities[scale])
        golden.close("depth_loss", feature_gap(prediction, completion))


def test_dropout_changes_nothing_in_evaluation():
    golden = PacknetGolden("packnetsan01_1A_dropout")
    inputs = golden.inputs()
    network = published("packnetsan01_1A_dropout", dropout=0.5)
    with torch.no_grad():
        golden.close("inv_depth", 2 * network(inputs["rgb"])[0])
        golden.close("inv_depth_rgbd", 2 * network(inputs["rgb"], inputs["input_depth"])[0])


def test_a_completion_step_has_the_published_loss_and_gradients():
    golden = PacknetGolden("completion_step")
    inputs = golden.inputs()
    with torch.device("meta"):
        method = torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"depth_net": PackNetSan()})})
    network = load_published(method, "completion_step").train()["model"]["depth_net"]
    passes = network.prediction_and_completion(inputs["rgb"], inputs["input_depth"])
    valid = inputs["gt_depth"] > 0

    def silog(disparity: torch.Tensor) -> torch.Tensor:
        """Scale-invariant log error of inverse depth (specification of the supervised loss)."""
        error = (20 * disparity[valid]).log() - (10 / inputs["gt_depth"][valid]).log()
        return 10 * (error.square().mean() - 0.85 * error.mean().square()).sqrt()

    supervised = [silog(seen.disparities[0]) for seen in passes]
    gap = feature_gap(*passes)
    loss = sum(supervised) + gap
    loss.backward()
    golden.close("loss", loss[None])
    golden.close("feature_loss", gap)
    golden.close("supervised_loss", supervised[1])
    gradients = [name for name in golden.arrays if name.startswith("grad.model.")]
    assert len(gradients) == 7
    for name in gradients:
        key = name.removeprefix("grad.model.depth_net.")
        golden.close(name, network.get_parameter(key).grad, relative=1e-4)


def test_number_of_parameters_and_entries():
    with torch.device("meta"):
        network = PackNetSan()
    assert sum(p.numel() for p in network.parameters()) == 110_809_742
    assert len(network.state_dict()) == 348


@pytest.fixture(scope="module")
def network() -> PackNetSan:
    return PackNetSan()


def test_an_empty_input_depth_adds_the_bias_only(network):
    images = torch.rand(1, 3, 32, 64)
    network.eval()
    with torch.no_grad():
        empty = network(images, torch.zeros(1, 1, 32, 64))[0]
        assert torch.allclose(empty, network(images)[0])  # weight 1, bias 0 at the start
        network.bias.fill_(0.5)
        assert not torch.allclose(network(images, torch.zeros(1, 1, 32, 64))[0], empty)
        network.bias.fill_(0.0)


def test_both_passes_are_those_of_the_single_ones(network):
    network.eval()
    images, depth = torch.rand(1, 3, 32, 64), torch.rand(1, 1, 32, 64) * (torch.rand(1, 1, 32, 64) < 0.1)
    with torch.no_grad():
        prediction, completion = network.prediction_and_completion(images, depth)
        assert torch.equal(prediction.disparities[0], network(images)[0])
        assert torch.equal(completion.disparities[0], network(images, depth)[0])
    shapes = [tuple(feature.shape[1:]) for feature in completion.features]
    assert shapes == [(32, 32, 64), (32, 16, 32), (64, 8, 16), (128, 4, 8), (256, 2, 4), (512, 1, 2)]


def test_without_completion_every_trained_weight_gets_a_gradient():
    network = PackNetSan(completion=False)
    network(torch.rand(1, 3, 32, 64))[0].sum().backward()
    trained = {name: p.grad is not None for name, p in network.named_parameters() if p.requires_grad}
    coarse = {"decoder.disp2_layer", "decoder.disp3_layer", "decoder.disp4_layer"}
    assert all(trained.values()) and not any(name.startswith("mconvs") for name in trained)
    assert {name.rsplit(".", 2)[0] for name in trained} >= coarse


def test_sizes_that_are_not_multiples_of_32_are_refused(network):
    with pytest.raises(InputError, match="multiples of 32, got 48 x 64"):
        network(torch.rand(1, 3, 48, 64))
