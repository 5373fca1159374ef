"""Segmentation loss: the published value, ignored pixels, helpful refusals."""

import math

import numpy as np
import pytest
import torch

from losses.segmentation import Segmentation
from structures import Batch, Prediction
from tests import goldens
from utils import InputError


def scene(logits, labels):
    images = {0: torch.zeros(len(logits), 3, *logits.shape[-2:])}
    record = Batch(images, torch.eye(3)[None], torch.zeros(1))
    companion = Batch(images, torch.eye(3)[None], torch.zeros(1), maps={"labels": labels})
    record.companion = companion
    return record, Prediction({}, companion=Prediction({}, logits=logits))


def published_scene():
    logits = goldens.tensor(goldens.uniform("B/sgdepth_seg_loss/logits", (2, 20, 32, 48), -4, 4))
    noise = goldens.uniform("B/sgdepth_seg_loss/target_noise", (2, 1, 32, 48), 0, 1)
    labels = np.floor(20 * noise)
    labels[labels == 19] = 255
    return logits.requires_grad_(), torch.from_numpy(labels.astype(np.uint8))


def test_loss_and_gradient_are_the_published_ones():
    golden = goldens.Golden("sgdepth_seg_loss")
    logits, labels = published_scene()
    loss = Segmentation()(*scene(logits, labels))
    golden.close("loss_seg", loss)
    loss.backward()
    golden.close("grad_logits", logits.grad[:, :, ::2, ::2])
    golden.close("class_weights", Segmentation().class_weights)


def test_confident_correct_logits_cost_nothing():
    labels = torch.randint(0, 19, (1, 1, 8, 8), dtype=torch.uint8)
    logits = 50 * torch.nn.functional.one_hot(labels[:, 0].long(), 19).permute(0, 3, 1, 2).float()
    assert Segmentation()(*scene(logits, labels)).item() < 1e-6


def test_equal_logits_cost_the_logarithm_of_the_classes():
    labels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    loss = Segmentation("equal")(*scene(torch.zeros(1, 5, 4, 4), labels))
    assert loss.item() == pytest.approx(math.log(5))


def test_ignored_pixels_change_nothing():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 19, 4, 8), torch.randint(0, 19, (1, 1, 4, 8), dtype=torch.uint8)
    labels[..., 4:] = 255
    half = Segmentation()(*scene(logits[..., :4], labels[..., :4]))
    assert torch.allclose(Segmentation()(*scene(logits, labels)), half)


def test_a_batch_without_a_label_costs_nothing():
    logits = torch.randn(1, 19, 4, 4, requires_grad=True)
    loss = Segmentation()(*scene(logits, torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(
    "weights, words",
    [("even", "a list of numbers or 'equal', got 'even'"), ([1.0, -2.0], "at least 0, got -2")],
)
def test_invalid_weights_are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        Segmentation(weights)


def test_wrong_number_of_weights_is_refused():
    with pytest.raises(InputError, match=r"20 class_weights for 7 classes; .*class_weights equal"):
        Segmentation()(*scene(torch.zeros(1, 7, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)))
