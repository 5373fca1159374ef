"""SGDepth against its recorded training step, and by itself on a drawn scene."""

import numpy as np
import pytest
import torch

from checkpoints import load_weights
from checkpoints.sgdepth import rename_sgdepth_key
from methods.sgdepth import SGDepth
from structures import Batch
from tests import goldens

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


def test_segmentation_alone_teaches_shared_layers_a_tenth():
    golden = goldens.Golden(CASE)
    method, batch = published_method(), published_batch()
    method.losses(batch, method(batch))["segmentation"].backward()
    parameters = dict(method.named_parameters())
    names = [name for name in golden.arrays if name.startswith("grad_seg_only.")]
    assert len(names) == 3
    for name in names:
        golden.close(name, parameters[rename_sgdepth_key(name.partition(".")[2])].grad, relative=2e-2)
