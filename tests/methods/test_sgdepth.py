"""SGDepth: its recorded training step, and a synthetic scene."""

import numpy as np
import pytest
import torch

from checkpoints import load_weights
from checkpoints.sgdepth import rename_sgdepth_key
from methods.sgdepth import SGDepth
from structures import Batch
from tests import goldens
from utils import InputError
from views import with_views

CASE = "sgdepth_step"
NAMES = {0: "0", -1: "m1", 1: "1"}
PUBLISHED = {"photometric": {"noise": 0.0}, "smoothness": {"image_resize": "bilinear"}}


def build(**settings) -> SGDepth:
    torch.manual_seed(0)
    return SGDepth(**{"weights_init": "scratch", **settings})


def published_batch() -> Batch:
    golden = goldens.Golden(CASE)
    images = {
        frame: goldens.tensor(goldens.image(f"B1/{CASE}/frame_{name}", 2, 64, 96))
        for frame, name in NAMES.items()
    }
    labelled = goldens.tensor(goldens.image(f"B1/{CASE}/segmentation_picture", 2, 64, 96))
    labels = np.floor(20 * goldens.uniform(f"B1/{CASE}/target_noise", (2, 1, 64, 96), 0, 1))
    labels[labels == 19] = 255
    maps = {"labels": torch.from_numpy(labels.astype(np.uint8))}
    K = torch.from_numpy(golden["K"])
    companion = Batch({0: labelled}, K, torch.arange(2), maps=maps)
    return Batch(images, K, torch.arange(2), companion=companion)


def published_method(align_corners=True) -> SGDepth:
    method = build(losses=PUBLISHED, align_corners=align_corners)
    weights = goldens.state_dict("sgdepth_full_r18")
    for leaf in ("weight", "bias"):
        weights[f"pose.decoder.conv_3.{leaf}"] *= 0.01
    load_weights(method, {rename_sgdepth_key(key): value for key, value in weights.items()})
    return method.train()


@pytest.mark.parametrize("convention", ["ac1", "ac0"])
def test_a_training_step_is_the_published_one(convention):
    golden = goldens.Golden(CASE)
    method, batch = published_method(convention == "ac1"), published_batch()
    prediction = method(batch)
    for scale, step in {0: 2, 1: 2, 2: 1, 3: 1}.items():
        golden.close(f"disp_{scale}", prediction.disparities[scale][:, :, ::step, ::step])
    golden.close("segmentation_logits", prediction.companion.logits[:, :, ::4, ::4])
    golden.close("cam_T_cam_next", prediction.T_source_from_target[1][:, None, None])
    terms = method.losses(batch, prediction)
    golden.close("loss_seg", terms["segmentation"])
    golden.close(f"loss_depth_{convention}", terms["photometric"] + terms["smoothness"])

    sum(terms.values()).backward()
    parameters = {name: p for name, p in method.named_parameters() if p.grad is not None}
    norm = torch.stack([p.grad.norm() for p in parameters.values()]).norm()
    golden.close(f"grad_norm_{convention}", norm, relative=2e-2)
    names = [name for name in golden.arrays if name.startswith(f"grad_{convention}.")]
    assert len(names) == 8
    for name in names:
        ours = rename_sgdepth_key(name.partition(".")[2])
        golden.close(name, parameters[ours].grad, relative=2e-2)


def test_segmentation_gradient_in_shared_layers_is_a_tenth():
    golden = goldens.Golden(CASE)
    method, batch = published_method(), published_batch()
    method.losses(batch, method(batch))["segmentation"].backward()
    parameters = dict(method.named_parameters())
    names = [name for name in golden.arrays if name.startswith("grad_seg_only.")]
    assert len(names) == 3
    for name in names:
        golden.close(name, parameters[rename_sgdepth_key(name.partition(".")[2])].grad, relative=2e-2)


def drawn_batch(size=(64, 96), companion_size=None) -> Batch:
    """A textured wall that moves by two pixels a frame; companion images whose bright half is a car."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    wall = torch.nn.functional.interpolate(
        torch.rand(2, 3, 16, 32, generator=generator), (height, width + 8), mode="bicubic"
    ).clamp(0, 1)
    images = {frame: wall[..., 4 - 2 * frame : 4 - 2 * frame + width] for frame in (0, -1, 1)}
    K = torch.tensor([[60.0, 0, width / 2], [0, 60, height / 2], [0, 0, 1]]).repeat(2, 1, 1)
    height, width = companion_size or size
    labelled = torch.full((2, 3, height, width), 0.2)
    labels = torch.zeros(2, 1, height, width, dtype=torch.uint8)
    for n, column in enumerate((width // 3, width // 2)):
        labelled[n, ..., column:] = 0.9
        labels[n, ..., column:] = 13
    companion = Batch({0: labelled}, K, torch.arange(2), maps={"labels": labels})
    return Batch(images, K, torch.arange(2), companion=companion)


MASKED = {"photometric": {"noise": 0.0, "moving_objects": {"from_epoch": 0}}}


def test_loss_falls_on_one_scene():
    method, batch = build(losses=MASKED).train(), drawn_batch()
    optimizer = torch.optim.Adam(method.parameters(), 5e-4)
    method.on_epoch_start(0, 3)
    history = []
    for _ in range(20):
        terms = method.losses(batch, method(batch))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append({name: term.item() for name, term in terms.items()})
    first, last = history[0], history[-1]
    assert last["segmentation"] < 0.1 * first["segmentation"]
    lowest = min(terms["photometric"] for terms in history)  # it rises again while segmentation is learned
    assert lowest < 0.98 * first["photometric"]
    labels = method(batch).companion.logits.argmax(1)  # running statistics need more steps than these
    assert (labels == batch.companion.maps["labels"][:, 0]).float().mean() > 0.9


class Calls:
    """Counts the forward passes of networks and their input images."""

    def __init__(self, **networks):
        self.seen = {name: [] for name in networks}
        for name, network in networks.items():
            network.register_forward_hook(
                lambda _, inputs, __, name=name: self.seen[name].append(len(inputs[0]))
            )


def test_masking_runs_neither_depth_branch_nor_pose_network():
    method, batch = build(losses=MASKED).train(), drawn_batch()
    calls = Calls(
        encoder=method.encoder, pose=method.pose_encoder, depth=method.depth.depth_steps["step_9"],
        segmentation=method.depth.segmentation_head,
    )  # fmt: skip
    method.on_epoch_start(0, 3)
    prediction = method(batch)
    assert calls.seen == {"encoder": [4, 6], "pose": [2, 2], "depth": [2], "segmentation": [2, 6]}
    assert prediction.logits.shape == prediction.sources[1].logits.shape == (2, 20, 64, 96)
    assert not prediction.logits.requires_grad and method.encoder.training
    method.losses(batch, prediction)
    assert method.loss_terms["photometric"].moving_objects.count == 2


def test_before_its_first_epoch_masking_costs_nothing():
    losses = {"photometric": {"moving_objects": {"from_epoch": 2}}}
    method, batch = build(losses=losses).train(), drawn_batch()
    calls = Calls(encoder=method.encoder)
    method.on_epoch_start(1, 4)
    prediction = method(batch)
    assert calls.seen["encoder"] == [4] and prediction.logits is None


def test_a_moving_car_is_left_out_of_the_loss_after_an_epoch():
    method, batch = build(losses=MASKED).train(), drawn_batch()
    term = method.loss_terms["photometric"]
    labels = {frame: torch.zeros(2, 64, 96, dtype=torch.long) for frame in (0, -1, 1)}
    for frame in labels:
        labels[frame][0, 20:40, 10:30] = 13  # parked
        labels[frame][1, 20:40, 30 + 15 * frame : 50 + 15 * frame] = 13  # fast

    def step():
        prediction = method(batch)
        identity = torch.nn.functional.affine_grid(
            torch.eye(2, 3).repeat(2, 1, 1), (2, 1, 64, 96), align_corners=True
        )
        prediction.grids[0] = identity.expand(2, -1, -1, -1, -1)  # only the car moves
        scores = {f: torch.nn.functional.one_hot(v, 20).permute(0, 3, 1, 2) for f, v in labels.items()}
        prediction.logits = scores[0]
        for frame in (-1, 1):
            prediction.sources[frame].logits = scores[frame]
        return term.per_scale(batch, prediction)[0], term.maps(batch, prediction)[0][0]

    method.on_epoch_start(0, 3)
    loss, error = step()
    assert loss == error.mean()
    method.on_epoch_end(0, [])
    method.on_epoch_start(1, 3)
    loss, error = step()
    error[1, 0, 20:40, 15:65] = 0  # where the car was, is and will be
    assert loss.item() == pytest.approx(error.mean().item(), rel=1e-5)


def test_every_trained_parameter_gets_a_gradient():
    for settings in ({}, {"losses": {"segmentation": {"weight": 0}}}, {"classes": 0}, {"split_position": 4}):
        method, batch = build(**settings).train(), drawn_batch()
        sum(method.losses(batch, method(batch)).values()).backward()
        lacking = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not lacking, (settings, lacking[:3])


def test_depth_training_needs_no_companion():
    method, batch = build(losses={"segmentation": {"weight": 0}}).train(), drawn_batch()
    batch.companion = None
    prediction = method(batch)
    assert prediction.companion is None
    assert set(method.losses(batch, prediction)) == {"photometric", "smoothness"}


def test_a_prediction_has_depth_and_logits_of_the_target():
    method, batch = build().eval(), drawn_batch()
    with torch.no_grad():
        prediction = method.predict(batch)
        assert torch.equal(prediction.depths[0], method.predict_depth(batch.images[0]))
        torch.testing.assert_close(prediction.logits, method.segment(batch.images[0]))
    assert prediction.depths[0].shape == (2, 1, 64, 96)


def test_a_companion_of_another_size_is_refused_in_training_only():
    method, batch = build(), drawn_batch(companion_size=(96, 160))
    with pytest.raises(InputError, match=r"companion's images are 160x96 and the video's 96x64; crop them"):
        method.train()(batch)
    with torch.no_grad():
        assert method.eval()(batch).companion.logits.shape[-2:] == (96, 160)


def test_a_pose_network_on_shared_features_is_refused():
    with pytest.raises(InputError, match="--pose_model_type separate_resnet or posecnn"):
        build(pose_model_type="shared")


def test_a_predictive_mask_is_predicted_as_well():
    method = build(predictive_mask=True, disable_automasking=True).train()
    prediction = method(drawn_batch())
    assert prediction.masks[0].shape == (2, 2, 64, 96)


def test_augmented_views_train_both_tasks_and_measure_iou_once():
    views = with_views(build(losses=MASKED), {"local_crop": True, "patch_reshuffle": True}).train()
    batch = drawn_batch()
    views.method.on_epoch_start(0, 3)
    terms = views.losses(batch, views(batch))
    assert {"photometric", "smoothness", "segmentation", "depth_agreement"} == set(terms)
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert views.method.loss_terms["photometric"].moving_objects.count == 2
