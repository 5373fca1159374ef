"""FeatDepth: the published losses and networks, both stages on a drawn scene, and what they refuse."""

import copy
import dataclasses

import pytest
import torch

from cameras import BrownConrady
from checkpoints import load_weights
from checkpoints.featdepth import rename_featdepth_key
from methods.featdepth import FeatDepth
from methods.featdepth_autoencoder import FeatDepthAutoencoder
from methods.monodepth2 import Monodepth2
from tests import goldens
from tests.featdepth_goldens import TAGS, Case, mean_std
from utils import InputError
from views import with_views

TINY = {"num_layers": 18, "extractor_layers": 18, "weights_init": "scratch", "pose_size": None}
NOISELESS = {"photometric": {"noise": 0.0}}


def build(trained=True, **settings) -> FeatDepth:
    """A small model; `trained` stands for an extractor that was loaded."""
    torch.manual_seed(0)
    method = FeatDepth(**{**TINY, "losses": NOISELESS, **settings})
    if trained:
        method.extractor.load_state_dict(autoencoder().extractor.state_dict())
    return method


def autoencoder(**settings) -> FeatDepthAutoencoder:
    torch.manual_seed(1)
    return FeatDepthAutoencoder(18, "scratch", **settings)


def test_the_networks_are_the_published_ones():
    case = Case("featdepth_mono_fm_r50", (64, 96))
    batch, golden = case.batch(-1, 1), case.golden
    method = FeatDepth(num_layers=50, weights_init="scratch").eval()
    scaled = {"pointwise": 0.2, "DepthDecoder.disp": 0.5}
    weights = case.weights(scaled)
    for key in weights:
        if key.startswith("encoder.") and key.endswith(("bn3.weight", "bn3.bias")):
            weights[key] = 0.2 * weights[key]
    load_weights(method, weights)
    with torch.no_grad():
        prediction = method(batch)
    for n in range(4):
        golden.close(f"disp_{n}", prediction.disparities[n + 1])
    for frame, tag in TAGS.items():
        golden.close(f"cam_T_cam_{tag}", prediction.T_source_from_target[frame])
    features = prediction.extra["features"].target
    golden.close("extractor_feature_meanstd", mean_std(features))
    golden.close("extractor_feature", features[:, ::8, ::2, ::2])


CASES = {
    "featdepth_mono_fm_loss": ((48, 64), (-1, 1), {}, 2),
    "featdepth_mono_fm_loss_stereo": ((48, 64), (-1, 1, "s"), {}, 2),
    "featdepth_mono_fm_joint_loss": ((96, 128), (-1, 1), {"joint": True}, 4),
}


@pytest.mark.parametrize("convention", ["ac1", "ac0"])
@pytest.mark.parametrize("name", CASES)
def test_a_loss_and_its_gradients_are_the_published_ones(name, convention):
    size, frames, settings, step = CASES[name]
    case, joint = Case(name, size), "joint" in settings
    golden, batch, prediction = case.golden, case.batch(*frames), case.prediction()
    losses = {**NOISELESS, **({"reconstruction": {"image_resize": "bilinear"}} if joint else {})}
    method = build(
        False, frame_ids=(0, *frames), align_corners=convention == "ac1", losses=losses, **settings
    )
    load_weights(method, case.weights())
    method.eval()
    method.add_geometry(batch, prediction)
    terms, disparities = method.losses(batch, prediction), prediction.disparities

    photometric = method.loss_terms["photometric"].per_scale(batch, prediction)
    smooth = method.loss_weights["smoothness"] * method.loss_terms["smoothness"].per_scale(batch, prediction)
    for n in range(4):
        golden.close(f"min_reconstruct_loss_{n}_{convention}", photometric[n] / 4)
        golden.close(f"min_perceptional_loss_{n}_{convention}", terms["feature_metric"] / 4)
        if convention == "ac1":
            golden.close(f"smooth_loss_{n}_ac1", smooth[n] / 4)
    features = prediction.extra["features"]
    if joint and convention == "ac1":
        regular = method.loss_terms["feature_gradients"].per_level(batch.images[0], features.levels)
        images = method.loss_terms["reconstruction"].per_scale(batch.images[0], features.reconstructions)
        for n in range(5):
            golden.close(f"feature_regularization_loss_{n}_ac1", regular[n])
        for n in range(4):
            golden.close(f"img_reconstruct_loss_{n}_ac1", images[n] / 4)
    warped = method.loss_terms["feature_metric"].warped(prediction)[1]  # the later frame
    golden.close(f"feature_next_{convention}_meanstd", mean_std(warped))
    golden.close(f"feature_next_{convention}", warped[:, ::8, ::step, ::step])
    total = sum(terms.values())
    golden.close(f"total_{convention}", total)

    vectors = [vector for frame in TAGS for vector in case.vectors[frame]]
    names = [f"{part}_{TAGS[frame]}" for frame in TAGS for part in ("axisangle", "translation")]

    def close(name, slope, which):
        # The joint case has one feature on the border of a cell, since `sampling_grid` multiplies in another
        # order, and one pixel where the minimum over sources switches: nine elements, a share of a pose.
        relative = 5e-3 if joint and which in names else 2e-6
        golden.close(name, slope, relative=relative, outliers=2e-3 if joint else 1e-3)

    of_metric = torch.autograd.grad(
        terms["feature_metric"] / 4, [disparities[1], *vectors], retain_graph=True
    )
    for which, slope in zip(["disp_0", *names], of_metric, strict=True):
        close(f"grad_feature_metric_{which}_{convention}", slope, which)
    slopes = torch.autograd.grad(total, [*disparities.values(), *vectors])
    for which, slope in zip([*(f"disp_{n}" for n in range(4)), *names], slopes, strict=True):
        close(f"grad_{which}_{convention}", slope, which)


def test_a_step_of_the_auto_encoder_is_the_published_one():
    case = Case("featdepth_autoencoder_step", (96, 128))
    golden, image = case.golden, case.image("picture", 96, 128)
    method = autoencoder().train()
    load_weights(method, case.weights())
    batch = dataclasses.replace(Case("featdepth_mono_fm_loss", (48, 64)).batch(), images={0: image})
    prediction = method(batch)
    features = prediction.extra["features"]
    levels = method.loss_terms["feature_gradients"].per_level(image, features.levels)
    scales = method.loss_terms["reconstruction"].per_scale(image, features.reconstructions)
    for n in range(5):
        golden.close(f"smooth_loss_{n}", levels[n])
    for n, step in enumerate([4, 2, 1, 1]):
        golden.close(f"min_reconstruct_loss_{n}", scales[n] / 4)
        golden.close(f"picture_{n}", features.reconstructions[n][:, :, ::step, ::step])
    for n in range(2):
        golden.close(f"picture_{n}_meanstd", mean_std(features.reconstructions[n]))
    total = sum(method.losses(batch, prediction).values())
    golden.close("total", total)
    total.backward()
    norm = torch.stack([p.grad.norm() for p in method.parameters()]).norm()
    golden.close("grad_norm", norm, relative=2e-2)
    parameters = dict(method.named_parameters())
    names = [name for name in golden.arrays if name.startswith("grad.")]
    assert len(names) == 4
    for name in names:
        ours = rename_featdepth_key(name.partition(".")[2])
        golden.close(name, parameters[ours].grad, relative=2e-2)


# On a drawn scene.


def train(method, batch, steps=20, rate=5e-4):
    groups = method.parameter_groups()
    optimizer = torch.optim.Adam(groups, rate)
    model, history = method.train(), []
    for _ in range(steps):
        terms = model.losses(batch, model(batch))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append({name: term.item() for name, term in terms.items()})
    return history


def test_the_auto_encoder_learns_the_image(drawn_batch):
    history = train(autoencoder(), drawn_batch)
    assert history[-1]["reconstruction"] < 0.8 * history[0]["reconstruction"]


@pytest.mark.parametrize("joint", [False, True])
def test_depth_learns_from_frozen_and_from_joint_features(drawn_batch, joint):
    method = build(trained=not joint, joint=joint)
    before = copy.deepcopy(method.extractor.state_dict())
    history = train(method, drawn_batch.map(lambda tensor: tensor[:1]))
    assert sum(history[-1].values()) < 0.95 * sum(history[0].values())
    assert set(history[0]) == {"photometric", "smoothness", "feature_metric"} | (
        {"reconstruction", "feature_gradients"} if joint else set()
    )
    changed = [key for key, value in method.extractor.state_dict().items() if not value.equal(before[key])]
    assert bool(changed) == joint


def test_the_features_are_compared_where_the_wall_is(drawn_batch):
    """At the right depth warped features agree with the target's, and elsewhere they do not."""
    method, costs = build(pose_size=None), {}
    for depth in (3.0, 5.0, 9.0):
        disparity = torch.full((2, 1, 32, 48), (1 / depth - 0.01) / (10 - 0.01))
        T = {f: torch.eye(4).repeat(2, 1, 1) for f in (-1, 1)}
        for frame, matrix in T.items():
            matrix[:, 0, 3] = -0.3 * frame
        batch = dataclasses.replace(drawn_batch, T_source_from_target=T)
        prediction = method.run_networks(batch)
        prediction.disparities, prediction.extra["motions"] = {1: disparity}, {}
        method.eval().add_geometry(batch, prediction)
        costs[depth] = method.loss_terms["feature_metric"](batch, prediction).item()
    assert costs[5.0] < 0.5 * min(costs[3.0], costs[9.0])


def test_every_trained_parameter_gets_a_gradient(drawn_batch):
    for settings in ({}, {"joint": True}, {"scales": (2, 3)}, {"losses": {"feature_metric": {"weight": 0}}}):
        method = build(**settings).train()
        sum(method.losses(drawn_batch, method(drawn_batch)).values()).backward()
        trained = [p for group in method.parameter_groups() for p in group["params"]]
        lacking = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not lacking, (settings, lacking[:3])
        assert len(trained) == sum(p.requires_grad for p in method.parameters())
        frozen = not any(p.requires_grad for p in method.extractor.parameters())
        assert frozen != settings.get("joint", False)


def test_a_frozen_extractor_keeps_its_statistics_unless_told(drawn_batch):
    for norms, changes in (("running", False), ("batch", True)):
        method = build(extractor_norms=norms).train()
        before = method.extractor.encoder.bn1.running_mean.clone()
        method(drawn_batch)
        assert method.extractor.encoder.bn1.running_mean.equal(before) != changes


def test_frozen_features_need_one_layer_and_no_graph(drawn_batch):
    method = build().train()
    method.extractor.encoder.layer1.forward = None  # would fail if it ran
    features = method.extract(drawn_batch)
    assert features.sources.shape == (2, 2, 64, 32, 48) and not features.target.requires_grad


@pytest.mark.parametrize("joint", [False, True])
def test_it_trains_on_augmented_views(drawn_batch, joint):
    method = build(joint=joint)
    model = with_views(method, {"local_crop": True, "patch_reshuffle": True}).train()
    prediction = model(drawn_batch)
    terms = model.losses(drawn_batch, prediction)
    assert {"feature_metric", "depth_agreement"} <= set(terms)
    sum(terms.values()).backward()
    local = prediction.extra["views"]["local"][1].extra["features"]
    assert not torch.equal(local.target, prediction.extra["features"].target)
    shuffled = prediction.extra["views"]["reshuffled"][1].extra["features"]
    if not joint:
        assert torch.equal(shuffled.target, prediction.extra["features"].target)


def test_inference_needs_no_extractor(drawn_batch):
    method = build().eval()
    del method.extractor
    with torch.no_grad():
        prediction = method.predict(drawn_batch)
    assert prediction.depths[0].shape == (2, 1, 64, 96)
    assert method.predict_pose(*(drawn_batch.images[f] for f in (0, 1))).shape == (2, 4, 4)


def test_stereo_has_neither_automask_nor_normalised_disparity():
    stereo, video = build(frame_ids=(0, -1, 1, "s")), build()
    assert (stereo.loss_terms["photometric"].automask, video.loss_terms["photometric"].automask) == (
        False,
        True,
    )
    assert (stereo.loss_terms["smoothness"].normalise, video.loss_terms["smoothness"].normalise) == (
        False,
        True,
    )
    masked = build(frame_ids=(0, "s"), losses={"photometric": {"automask": True}})
    assert masked.loss_terms["photometric"].automask


def test_an_extractor_that_was_never_loaded_is_refused(drawn_batch):
    method = build(trained=False)
    method.eval()(drawn_batch)
    with pytest.raises(InputError, match="never trained; take them from an auto-encoder with --load_weights"):
        method.train()(drawn_batch)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: build(joint=True, losses={"reconstruction": {"weight": 0}}),
            "lets all features become equal",
        ),
        (lambda: build(losses={"feature_gradients": {}}), "is frozen; add --method.joint true"),
        (lambda: build(extractor_norms="none"), "there is no extractor_norms 'none'"),
        (lambda: build(pose_size=[192]), r"pose_size is height and width .* try \[192, 640\]"),
        (lambda: build(scales=(0, 1)), "try --scales 1 2 3 4"),
        (
            lambda: Monodepth2(weights_init="scratch", losses={"feature_metric": {}}),
            "losses.feature_metric reads extra.features .* --method featdepth predicts them",
        ),
    ],
)
def test_contradictions_are_refused(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_an_auto_encoder_predicts_neither_depth_nor_poses(drawn_batch):
    method = autoencoder()
    assert method.tasks == ()
    with pytest.raises(InputError, match="predicts neither depth nor poses; train --method featdepth"):
        method.predict_depth(drawn_batch.images[0])
    with pytest.raises(InputError, match="neither depth nor poses"):
        method.predict_pose(drawn_batch.images[0], drawn_batch.images[1])
    with pytest.raises(InputError, match="no depth for views to agree on; leave --views out"):
        with_views(method, {"patch_reshuffle": True}).train()(drawn_batch)


def test_images_for_the_logs_have_one_size(drawn_batch):
    for method in (autoencoder(), build()):
        shown = method.log_images(drawn_batch, method.eval()(drawn_batch))
        assert {image.shape[-2:] for image in shown.values()} == {(64, 96)}
        assert "target" in shown and ("reconstruction" in shown or "disparity" in shown)


def test_recorded_keys_are_all_of_the_model():
    for name, method in (
        ("featdepth_mono_fm_loss", build()),
        ("featdepth_mono_fm_joint_loss", build(joint=True)),
        ("featdepth_autoencoder_step", autoencoder()),
    ):
        named = {rename_featdepth_key(key) for key in goldens.state_dict(name)} - {""}
        assert named == set(method.state_dict())


def test_a_lens_without_distortion_warps_features_like_a_pinhole(drawn_batch):
    method = build().eval()
    camera = BrownConrady(drawn_batch.intrinsics, torch.zeros(2, 4))
    with torch.no_grad():
        plain = method(drawn_batch).extra["features"].grid
        lens = method(dataclasses.replace(drawn_batch, camera=camera)).extra["features"].grid
    assert torch.allclose(plain, lens, atol=1e-5)


def test_every_camera_of_a_rig_is_a_sample_of_its_own(drawn_batch):
    method = build().eval()
    rig = dataclasses.replace(drawn_batch, cameras=2, index=torch.arange(1))
    with torch.no_grad():
        one, two = (method.losses(batch, method(batch)) for batch in (drawn_batch, rig))
    assert one.keys() == two.keys() and all(one[name] == two[name] for name in one)
