"""PackNet-SfM against its recorded training steps, and by itself on drawn scenes."""

import dataclasses

import pytest
import torch

from cameras import KannalaBrandt, Pinhole
from checkpoints.packnet import packnet_key
from methods.packnet import PackNet
from structures import Batch
from tests.goldens import Golden, state_dict, tensor
from tests.packnet_goldens import PacknetGolden
from utils import InputError

SLIM = {"depth_network": "packnet_slim", "pose_model_type": "packnet_pose"}
PUBLISHED = {"weights_init": "scratch", "min_depth": 0.5, "max_depth": float("inf"), "published": True}
SPARSE_L1 = {
    "photometric": {"weight": 0.1},
    "smoothness": {"weight": 1e-4},
    "supervised_depth": {"weight": 0.9},
}
SILOG = {
    "photometric": {"weight": 0},
    "smoothness": {"weight": 0},
    "supervised_depth": {"error": "silog", "num_scales": 1, "published": True},
    "feature_gap": {},
}


def ours(key: str) -> str:
    """Our name of an entry of a published checkpoint."""
    part, _, rest = key.removeprefix("model.").partition(".")
    return f"depth.{packnet_key(rest)}" if part == "depth_net" else f"pose.{rest}"


def published_step(case: str, **settings) -> tuple[PackNet, Batch, PacknetGolden]:
    """The method with the recorded weights, and the recorded batch."""
    golden = PacknetGolden(case)
    method = PackNet(**{**PUBLISHED, **settings}).train()
    method.load_state_dict({ours(key): value for key, value in state_dict(golden.case).items()})
    values = golden.inputs()
    seen = {0: values["rgb"]}
    original = dict(seen)
    for frame, name in ((-1, "context_0"), (1, "context_1")):
        if f"rgb_{name}" in values:
            original[0] = values["rgb_original"]
            seen[frame], original[frame] = values[f"rgb_{name}"], values[f"rgb_context_original_{name[-1]}"]
    depth = values.get("gt_depth", values.get("depth"))
    maps = {"depth": depth, "input_depth": values.get("input_depth")}
    maps = {name: value for name, value in maps.items() if value is not None}
    K = tensor(golden.arrays["K"])
    return method, Batch(original, K, torch.arange(len(K)), augmented=seen, maps=maps), golden


def check_gradients(method: PackNet, case: str, prefix: str = "") -> None:
    golden = Golden(f"packnet_{case}")
    parameters = dict(method.named_parameters())
    gradients = [parameter.grad for parameter in parameters.values() if parameter.grad is not None]
    golden.close(f"{prefix}grad_norm", torch.stack([g.norm() for g in gradients]).norm(), relative=2e-2)
    names = [name for name in golden.arrays if name.startswith(f"{prefix}grad.")]
    assert len(names) >= 5
    for name in names:
        gradient = parameters[ours(name.removeprefix(f"{prefix}grad."))].grad
        golden.close(name, gradient.reshape(golden[name].shape), relative=2e-2)


@pytest.mark.parametrize("prefix", ["", "flip_"])
def test_a_self_supervised_step_is_the_published_one(prefix):
    method, batch, golden = published_step("selfsup_step", **SLIM, mirror_depth=1.0 if prefix else 0.0)
    prediction = method(batch)
    terms = method.losses(batch, prediction)
    golden.close(f"{prefix}loss", sum(terms.values())[None])
    # The published metric of that name has the smoothness added to it.
    golden.close(f"{prefix}photometric_loss", terms["photometric"] + terms["smoothness"])
    golden.close(f"{prefix}smoothness_loss", terms["smoothness"])
    if prefix:
        golden.close("flip_inv_depth_1", 2 * prediction.disparities[1])
    else:
        for n, frame in enumerate((-1, 1)):
            golden.close(f"pose_{n}", prediction.T_source_from_target[frame])
    sum(terms.values()).backward()
    check_gradients(method, "selfsup_step", prefix)


def test_a_semi_supervised_step_is_the_published_one():
    method, batch, golden = published_step("semisup_step", **SLIM, losses=SPARSE_L1)
    terms = method.losses(batch, method(batch))
    golden.close("loss", sum(terms.values())[None])
    golden.close("photometric_loss", (terms["photometric"] + terms["smoothness"]) / 0.1)
    golden.close("supervised_loss", terms["supervised_depth"] / 0.9)
    sum(terms.values()).backward()
    check_gradients(method, "semisup_step")


def test_a_completion_step_is_the_published_one():
    method, batch, golden = published_step(
        "completion_step", depth_network="packnet_san", frame_ids=(0,), losses=SILOG
    )
    terms = method.losses(batch, method(batch))
    golden.close("loss", sum(terms.values())[None])
    golden.close("feature_loss", terms["feature_gap"])
    golden.close("supervised_loss", terms["supervised_completion"])
    sum(terms.values()).backward()
    check_gradients(method, "completion_step")


# On drawn scenes.

SMALL = {"weights_init": "scratch", "encoder": "timm/test_efficientnet", "scales": (0, 1)}


def build(**settings) -> PackNet:
    torch.manual_seed(0)
    return PackNet(**{**SMALL, "pose_model_type": "posecnn", **settings})


def with_depth(batch: Batch, **maps) -> Batch:
    depth = torch.full((2, 1, 64, 96), 5.0) * (torch.rand(2, 1, 64, 96) < 0.1)
    return dataclasses.replace(batch, maps={"depth": depth, **maps})


def test_supervised_training_needs_no_source(drawn_batch):
    torch.manual_seed(0)
    losses = {"photometric": {"weight": 0}, "supervised_depth": {}}
    method = build(frame_ids=(0,), losses=losses).train()
    alone = dataclasses.replace(drawn_batch, images={0: drawn_batch.images[0]})
    batch = with_depth(alone)
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    totals = []
    for _ in range(20):
        total = sum(method.losses(batch, method(batch)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0] and not hasattr(method, "pose")
    assert set(method.log_images(batch, method(batch))) == {"target", "disparity"}


def test_the_input_depth_reaches_prediction_and_loss(drawn_batch):
    torch.manual_seed(0)
    san = {"depth_network": "packnet_san", "frame_ids": (0,), "scales": (0,)}
    method = build(**san, losses=SILOG, completion_weight=0.5).train()
    batch = with_depth(dataclasses.replace(drawn_batch, images={0: drawn_batch.images[0]}))
    batch.maps["input_depth"] = batch.maps["depth"]
    with torch.no_grad():
        prediction = method(batch)
        terms = method.losses(batch, prediction)
        error = method.loss_terms["supervised_depth"](batch, prediction.extra["completed"])
        assert terms["supervised_completion"] == pytest.approx(0.5 * error)
        assert "completed" in method.log_images(batch, prediction)
        method.eval()
        completed = method.predict(batch).depths[0]
        assert torch.equal(completed, method(batch).extra["completed"].depths[0])
        alone = method.predict(dataclasses.replace(batch, maps={})).depths[0]
    assert not torch.equal(completed, alone) and completed.shape == alone.shape == (2, 1, 64, 96)


def test_completion_is_mirrored_back(drawn_batch):
    """The published code supervises mirrored completions with the depth of the image as it is."""
    torch.manual_seed(0)
    san = {"depth_network": "packnet_san", "frame_ids": (0,), "scales": (0,)}
    method = build(**san, losses=SILOG, mirror_depth=1.0).eval()  # evaluation mirrors nothing
    symmetric = drawn_batch.images[0] + drawn_batch.images[0].flip(-1)
    batch = with_depth(dataclasses.replace(drawn_batch, images={0: symmetric / 2}))
    batch.maps["input_depth"] = batch.maps["depth"]
    mirrored = dataclasses.replace(batch, maps={"input_depth": batch.maps["input_depth"].flip(-1)})
    with torch.no_grad():
        of_mirror = method(mirrored).extra["completed"].disparities[0].flip(-1)
        method.training = True
        result = method(batch).extra["completed"].disparities[0]
    assert torch.allclose(result, of_mirror, atol=1e-5)


def test_rays_begin_as_the_template_and_are_learned(drawn_batch):
    network = {"name": "ray_surface", "num_layers": 18}
    method = build(depth_network=network).train()
    method.on_epoch_start(0, 10)
    prediction = method(drawn_batch)
    rays = prediction.extra["camera"].rays(64, 96)
    pinhole = Pinhole(drawn_batch.intrinsics).rays(64, 96)
    assert torch.allclose(rays, torch.nn.functional.normalize(pinhole, dim=1), atol=1e-6)
    method.on_epoch_start(5, 10)
    prediction = method(drawn_batch)
    assert not torch.allclose(prediction.extra["camera"].rays(64, 96), rays, atol=1e-3)
    sum(method.losses(drawn_batch, prediction).values()).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_distance_along_a_predicted_ray_becomes_depth(drawn_batch):
    method = build(depth_network={"name": "ray_surface", "num_layers": 18}).eval()
    with torch.no_grad():
        distance = method.predict(dataclasses.replace(drawn_batch, intrinsics=None)).depths[0]
        depth = method.predict(drawn_batch).depths[0]
        _, residual = method.depth.disparities_and_rays(drawn_batch.images[0])
        z = method.ray_surface(drawn_batch, residual).directions[:, 2:]
    assert torch.allclose(depth, distance * z.clamp(min=0.05), rtol=1e-4) and (depth < distance).any()


def test_black_corners_of_a_lens_stay_black(drawn_batch):
    lens = KannalaBrandt(torch.tensor([[[9.0, 0, 47.5], [0, 9.0, 31.5], [0, 0, 1]]] * 2), torch.zeros(2, 4))
    method = build(depth_network={"name": "ray_surface"})
    method.on_epoch_start(9, 10)
    batch = dataclasses.replace(drawn_batch, camera=lens)
    with torch.no_grad():
        surface = method.ray_surface(batch, torch.ones(2, 3, 64, 96))
    assert torch.equal(surface.sees(64, 96), lens.sees(64, 96)) and not surface.sees(64, 96).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frame_ids": (0,)}, "losses.photometric compares the target with its sources.*weight 0"),
        ({"mirror_depth": 2.0}, r"mirror_depth is a probability in \[0, 1\], got 2.0"),
        ({"completion_weight": -1.0}, "completion_weight must be at least 0, got -1.0"),
        ({"ray_projection": "soft"}, "there is no ray_projection 'soft'"),
        ({"mirror_depth": 0.5, "pose_model_type": "shared"}, "use --augment.flip"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        build(**settings)
