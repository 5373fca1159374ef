"""Monodepth2: the recorded losses, gradients and training step, and own scenes."""

import dataclasses

import numpy as np
import pytest
import torch

from cameras import BrownConrady
from methods import load_method
from methods._networks import Motion
from methods.monodepth2 import Monodepth2
from structures import Batch, Prediction
from tests.goldens import Golden, H, W, state_dict, tensor
from utils import InputError
from views import with_views

# Settings of the recorded configurations.
CONFIGS = {
    "default": {},
    "no_automask": {"disable_automasking": True},
    "avg": {"avg_reprojection": True},
    "avg_no_automask": {"avg_reprojection": True, "disable_automasking": True},
    "stereo_mono": {"frame_ids": (0, -1, 1, "s")},
    "stereo_only": {"frame_ids": (0, "s")},
    "v1_multiscale": {"v1_multiscale": True},
    "no_ssim": {"no_ssim": True},
    "predictive_mask": {"predictive_mask": True, "disable_automasking": True},
    "posecnn": {"pose_model_type": "posecnn"},
    "two_scales": {"scales": (0, 1)},
}
NAMES = {-1: "m1", 1: "p1", "s": "s"}
GRADIENTS = {False: "monodepth2_loss_grads", True: "monodepth2_loss_grads_ac_true"}


@pytest.fixture(scope="module")
def golden():
    return Golden("monodepth2_loss")


@pytest.fixture(scope="module")
def given(golden):
    return {name: tensor(value) for name, value in golden.inputs().items()}


def build(name: str = "default", align_corners: bool = True, **settings) -> Monodepth2:
    noiseless = {"photometric": {"noise": 0.0}}
    return Monodepth2(
        **{
            "weights_init": "scratch",
            "align_corners": align_corners,
            "losses": noiseless,
            **CONFIGS[name],
            **settings,
        }
    )


def make_batch(golden, given, frames) -> Batch:
    K = torch.from_numpy(golden["K"])[:3, :3].expand(2, 3, 3)
    poses = {"s": torch.from_numpy(golden["stereo_T"])} if "s" in frames else {}
    images = {frame: given[f"frame_{NAMES.get(frame, frame)}"] for frame in frames}
    return Batch(images, K, torch.arange(2), poses)


@pytest.mark.parametrize("align_corners", [False, True], ids=["ac_false", "ac_true"])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_the_published_ones(golden, given, name, align_corners):
    method = build(name, align_corners)
    batch = make_batch(golden, given, method.frame_ids)
    leaves = {
        key: given[key].clone().requires_grad_()
        for key in given
        if key[:2] in ("aa", "tr") or key[:4] in ("disp", "mask")
    }
    motions = {
        frame: Motion(leaves[f"aa_{NAMES[frame]}"][:, 0, 0], leaves[f"tr_{NAMES[frame]}"][:, 0, 0], frame < 0)
        for frame in method.video_frames[1:]
    }
    prediction = Prediction({scale: leaves[f"disp{scale}"] for scale in method.scales})
    if name == "predictive_mask":
        prediction.masks = {scale: leaves[f"mask{scale}"] for scale in method.scales}
    prediction.extra["motions"] = motions
    method.add_geometry(batch, prediction)
    terms = method.losses(batch, prediction)
    total = torch.stack(list(terms.values())).sum()
    total.backward()

    case = f"{name}.{'ac_true' if align_corners else 'ac_false'}"
    golden.close(f"{case}.loss", total)
    per_scale = sum(
        method.loss_weights[key] * term.per_scale(batch, prediction)
        for key, term in method.loss_terms.items()
    )
    golden.close(f"{case}.per_scale", per_scale)
    for frame in motions:
        for kind in ("aa", "tr"):
            key = f"{kind}_{NAMES[frame]}"
            golden.close(f"{case}.grad_{key}", leaves[key].grad, relative=3e-3)
    # A sample on a pixel's border takes one side or the other by rounding; in float64 these gradients agree.
    # An element of scale s collects 4**s pixels, so more of the coarse ones hold such a jump.
    gradients = Golden(GRADIENTS[align_corners])
    for key, leaf in leaves.items():
        if f"{case}.grad_{key}" in gradients.facts and leaf.grad is not None:
            outliers = 0.01 * (1 + int(key[-1]))
            gradients.close(
                f"{case}.grad_{key}", leaf.grad, relative=1e-4, percentile=True, outliers=outliers
            )
    maps = method.loss_terms["photometric"].maps(batch, prediction)
    for scale, depth in prediction.depths.items():
        if f"{case}.depth_{scale}" in golden.facts:
            golden.close(f"{case}.depth_{scale}", depth)
        if f"{case}.automask_{scale}" in golden.facts:
            expected = golden[f"{case}.automask_{scale}"]
            assert np.mean(maps[scale][1][:, 0].numpy() != expected) < 0.01
    for scale, frame in ((0, -1), (3, 1)):
        if f"{case}.warped_{NAMES[frame]}_{scale}" in golden.facts:
            warped = prediction.warped[scale][batch.sources.index(frame)]
            golden.close(f"{case}.warped_{NAMES[frame]}_{scale}", warped)


@pytest.fixture(scope="module")
def step():
    return Golden("monodepth2_step_resnet18")


def published(method: Monodepth2) -> None:
    """The recorded checkpoint, in the published layout without the unused classifier."""
    files = {"encoder": "encoder", "depth": "depth", "pose_encoder": "pose_encoder", "pose": "pose"}
    for child, file in files.items():
        weights = state_dict(f"monodepth2_{file}_resnet18")
        kept = {key: value for key, value in weights.items() if ".fc." not in key}
        getattr(method, child).load_state_dict(kept)


@pytest.mark.parametrize("name", ["default", "no_automask"])
def test_a_whole_training_step_is_the_published_one(step, name):
    given = {key: tensor(value) for key, value in step.inputs().items()}
    method = build(name).train()
    published(method)
    K = torch.from_numpy(Golden("monodepth2_loss")["K"])[:3, :3].expand(2, 3, 3)
    images = {0: given["frame_0"], -1: given["frame_m1"], 1: given["frame_p1"]}
    batch = Batch(images, K, torch.arange(2))
    prediction = method(batch)
    terms = method.losses(batch, prediction)
    total = sum(terms.values())
    total.backward()

    step.close(f"{name}.loss", total)
    if name == "default":
        step.close("T_m1", prediction.T_source_from_target[-1])
        step.close("T_p1", prediction.T_source_from_target[1])
        for scale, disparity in prediction.disparities.items():
            step.close(f"disp_{scale}", disparity)
    for child in ("encoder", "depth", "pose_encoder", "pose"):
        gradients = dict(getattr(method, child).named_parameters())
        norms = [gradients[key].grad.norm().item() for key in step[f"{child}.param_names"]]
        step.close(f"{name}.{child}.grad_norm", np.array(norms), relative=2e-2)
    step.close(f"{name}.encoder.conv1.grad", method.encoder.encoder.conv1.weight.grad, relative=2e-2)
    step.close(
        f"{name}.pose.net.3.bias.grad", dict(method.pose.named_parameters())["net.3.bias"].grad, relative=2e-2
    )
    running = dict(method.pose_encoder.named_buffers())
    norms = [running[key].norm().item() for key in step["pose_encoder.running_names"]]
    step.close("pose_encoder.running_norm", np.array(norms))
    assert method.pose_encoder.encoder.bn1.num_batches_tracked == step["pose_encoder.num_batches_tracked"]


def test_every_parameter_gets_a_gradient():
    """So that DistributedDataParallel needs no search for unused ones."""
    for name in CONFIGS:
        method = build(name)
        images = {frame: torch.rand(2, 3, 64, 96) for frame in method.frame_ids}
        K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]).expand(2, 3, 3)
        poses = {"s": torch.eye(4).expand(2, 4, 4)} if "s" in images else {}
        batch = Batch(images, K, torch.arange(2), poses)
        sum(method.losses(batch, method(batch)).values()).backward()
        without = [key for key, parameter in method.named_parameters() if parameter.grad is None]
        assert not without, f"{name}: {without}"


@pytest.mark.parametrize("encoder", ["hrnet18", "timm/hrnet_w18_small", "convnext_atto", "resnet18"])
def test_unread_features_leave_no_parameter_without_gradient(encoder):
    method = build(encoder=encoder, scales=(3,), pose_model_type="posecnn")
    assert method.training and all(module.training for module in method.modules())
    K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]).expand(2, 3, 3)
    batch = Batch({frame: torch.rand(2, 3, 64, 96) for frame in (0, -1, 1)}, K, torch.arange(2))
    sum(method.losses(batch, method(batch)).values()).backward()
    trained = [(key, parameter) for key, parameter in method.named_parameters() if parameter.requires_grad]
    assert [key for key, parameter in trained if parameter.grad is None] == []
    frozen = sum(not parameter.requires_grad for parameter in method.encoder.parameters())
    assert bool(frozen) == ("hrnet" in encoder)


@pytest.mark.parametrize("kind", ["separate_resnet", "shared", "posecnn"])
def test_pose_from_five_frames_at_once(kind):
    frames = (0, -2, -1, 1, 2)
    method = build(frame_ids=frames, pose_model_type=kind, pose_model_input="all", scales=(0,))
    K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]).expand(1, 3, 3)
    batch = Batch({frame: torch.rand(1, 3, 64, 96) for frame in frames}, K, torch.arange(1))
    poses = method(batch).T_source_from_target
    assert list(poses) == [-2, -1, 1, 2]
    assert not any(torch.equal(poses[2], poses[frame]) for frame in (-2, -1, 1))


def test_geometry_and_losses_stay_float32_under_autocast(drawn_batch):
    method = with_views(build(), {"local_crop": True, "patch_reshuffle": True})
    batch = dataclasses.replace(drawn_batch, extra={"draws": torch.full((2, 5), 0.3)})
    plain = method.losses(batch, method(batch))
    with torch.autocast("cpu", torch.bfloat16):
        around = method.losses(batch, method(batch))
    for name, term in plain.items():
        torch.testing.assert_close(around[name], term)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"frame_ids": (1, 0)}, "frame_ids must begin with 0"),
        ({"frame_ids": (0,)}, "training needs a source frame: --frame_ids 0 -1 1"),
        ({"frame_ids": (0, 1, 1)}, "name a frame twice"),
        ({"predictive_mask": True}, "add --disable_automasking"),
        ({"pose_model_type": "posecn"}, "did you mean 'posecnn'"),
        ({"decoder": "resnet"}, "networks/resnet.py does not turn features into disparities"),
        ({"losses": {"smothness": {}}}, "did you mean 'smoothness'"),
        (
            {"losses": {"photometric": {"weight": 0}}, "disparity_smoothness": 0.0},
            "all loss terms have a weight",
        ),
        ({"losses": {"smoothness": {"wait": 1}}}, "loss smoothness has no setting 'wait'"),
        (
            {"decoder": "grid_decoder", "scales": (1, 2)},
            r"not among \[1, 2\]; add 0 to --scales",
        ),
        ({"min_depth": 3.0, "max_depth": 2.0}, "0 < --min_depth < --max_depth, got 3.0 and 2.0"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**settings)


def test_loss_falls_over_twenty_steps_on_one_scene(drawn_batch):
    torch.manual_seed(0)
    method = build(scales=(0,), disable_automasking=True, min_depth=0.02, max_depth=20.0)
    optimizer = torch.optim.Adam(method.parameters(), 3e-4)
    history = []
    for _ in range(20):
        total = sum(method.losses(drawn_batch, method(drawn_batch)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert np.mean(history[-3:]) < 0.2 * history[0]


def test_depth_and_pose_are_predicted_from_images():
    method = build().eval()
    with torch.no_grad():
        depth = method.predict_depth(torch.rand(2, 3, H, W))
        T = method.predict_pose(torch.rand(2, 3, H, W), torch.rand(2, 3, H, W))
    assert depth.shape == (2, 1, H, W)
    assert depth.min() >= 0.1 - 1e-6
    assert depth.max() <= 100 + 1e-3
    assert T.shape == (2, 4, 4)


@pytest.mark.parametrize("v1_multiscale", [False, True])
def test_logged_images_have_the_targets_size_at_coarse_scales(drawn_batch, v1_multiscale):
    views = {"local_crop": True, "patch_reshuffle": True}
    method = with_views(build(scales=(2, 3), v1_multiscale=v1_multiscale), views)
    shown = method.log_images(drawn_batch, method(drawn_batch))
    assert len(shown) == 8
    assert {tuple(images.shape[-2:]) for images in shown.values()} == {(64, 96)}


def test_depth_has_the_images_size_for_any_finest_scale():
    with torch.no_grad():
        depth = build(scales=(2, 1)).eval().predict_depth(torch.rand(1, 3, 64, 96))
    assert depth.shape == (1, 1, 64, 96)


def test_checkpoint_without_pose_networks_predicts_only_depth(tmp_path):
    for file, name in (("encoder", "encoder"), ("depth", "depth")):
        weights = state_dict(f"monodepth2_{file}_resnet18")
        extra = {"height": H, "width": W, "use_stereo": False} if file == "encoder" else {}
        torch.save({**weights, **extra}, tmp_path / f"{name}.pth")
    method, _ = load_method(tmp_path)
    images = torch.rand(1, 3, H, W)
    with torch.no_grad():
        assert method.predict_depth(images).shape == (1, 1, H, W)
    with pytest.raises(InputError, match="no pose network"):
        method.predict_pose(images, images)


@pytest.mark.parametrize("v1_multiscale", [False, True])
def test_sources_are_projected_with_the_camera_of_the_batch(drawn_batch, v1_multiscale):
    torch.manual_seed(0)
    method = build(v1_multiscale=v1_multiscale, scales=(0, 1)).eval()
    straight = BrownConrady(drawn_batch.intrinsics.clone(), torch.zeros(2, 4))
    bent = BrownConrady(straight.intrinsics, torch.tensor([[-0.3, 0.1, 0, 0]]).repeat(2, 1))
    with torch.no_grad():
        plain, through, lens = (
            method(dataclasses.replace(drawn_batch, camera=camera)) for camera in (None, straight, bent)
        )
    assert torch.allclose(through.warped[0], plain.warped[0], atol=1e-4)
    assert through.warped[1].shape == plain.warped[1].shape
    assert (lens.warped[0] - plain.warped[0]).abs().max() > 1e-3
    assert torch.allclose(lens.depths[0], plain.depths[0])


def test_terms_follow_the_schedule_and_name_a_collapse(drawn_batch):
    method = build(losses={"velocity": {"weight": 0.1}, "supervised_depth": {"progressive_scaling": 0.2}})
    assert method.loss_terms["supervised_depth"].scales_in_use(4) == 4
    method.on_epoch_start(5, 10)
    assert method.loss_terms["supervised_depth"].scales_in_use(4) == 2
    batch = dataclasses.replace(
        drawn_batch,
        speed={frame: torch.full((2,), 3.0) for frame in (-1, 1)},
        time_step={frame: torch.full((2,), 0.1 * frame) for frame in (-1, 1)},
    )
    moved = torch.eye(4).repeat(2, 1, 1)
    moved[:, 0, 3] = 0.3
    flat = Prediction(
        {}, depths={0: torch.full((2, 1, 64, 96), 5.0)}, T_source_from_target={-1: moved, 1: moved}
    )
    (sentence,) = method.diagnose(batch, flat)
    assert "depth is constant" in sentence
    flat.depths[0] = 1 + torch.rand(2, 1, 64, 96)
    assert method.diagnose(batch, flat) == []
