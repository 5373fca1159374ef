"""Segmentation metrics: published numbers, known matrices, tables and images."""

import json

import numpy as np
import pytest
import torch

from evaluation.segmentation_result import LabelledImage, SegmentationResult, confusion_image
from segmentation_metrics import SUMMARY, Confusion, SegmentationProtocol
from tests import goldens
from utils import InputError

CASE = "sgdepth_segmentation_metrics"


def published_update(n):
    noise, guess, keep = (
        goldens.uniform(f"B/{CASE}/{name}_{n}", (2, 32, 48))
        for name in ("target_noise", "prediction_noise", "keep")
    )
    target = np.floor(17 * noise)
    target[target == 16] = 255
    prediction = np.where((keep < 0.6) & (target < 20), target, np.floor(20 * guess))
    return torch.from_numpy(prediction).long(), torch.from_numpy(target).long()


@pytest.mark.parametrize("classes", [20, 19])
def test_counts_and_ratios_are_the_published_ones(classes):
    golden = goldens.Golden(CASE)
    confusion = Confusion.empty(classes)
    for n in range(3):
        confusion.add(*published_update(n))
    assert np.array_equal(confusion.counts.numpy(), golden[f"confusion_{classes}"])
    found = {"iou": confusion.iou(), "acc": confusion.recall(), "prec": confusion.precision()}
    for name, values in found.items():
        assert np.allclose(values.numpy(), golden[f"{name}_{classes}"], equal_nan=True, atol=1e-7), name
    assert np.allclose(list(confusion.summary().values()), golden[f"summary_{classes}"], atol=1e-7)


def test_a_perfect_prediction_scores_one():
    labels = torch.tensor([[0, 1], [2, 255]])
    confusion = Confusion.empty(3)
    confusion.add(labels, labels)
    assert confusion.counts.sum() == 3
    assert set(confusion.summary().values()) == {1.0}


def test_half_a_class_confused_has_known_ratios():
    confusion = Confusion(torch.tensor([[4, 4], [0, 8]]))
    assert confusion.iou().tolist() == pytest.approx([4 / 8, 8 / 12])
    assert confusion.recall().tolist() == pytest.approx([0.5, 1.0])
    assert confusion.precision().tolist() == pytest.approx([1.0, 8 / 12])
    summary = confusion.summary()
    assert summary["pixel_accuracy"] == pytest.approx(12 / 16)
    assert summary["weighted_iou"] == pytest.approx(0.5 * 4 / 8 + 0.5 * 8 / 12)


def test_a_class_that_never_occurs_is_left_out_of_the_mean():
    confusion = Confusion(torch.tensor([[4, 0, 0], [0, 2, 2], [0, 0, 0]]))
    assert confusion.iou()[2] == 0  # predicted, though it never occurs
    absent = Confusion(torch.tensor([[4, 0, 0], [1, 2, 0], [0, 0, 0]]))
    assert absent.iou()[2].isnan() and absent.summary()["mean_iou"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_no_pixel_at_all_gives_nan():
    assert all(value != value for value in Confusion.empty(3).summary().values())


def test_the_untrained_channel_is_predicted_only_as_published():
    logits = torch.zeros(1, 4, 2, 2)
    logits[:, 3] = 2.0
    logits[:, 1] = 1.0
    protocol = SegmentationProtocol("drawn", ("road", "car", "sky"))
    assert (protocol.labels(logits, 4, 4) == 1).all()
    published = SegmentationProtocol("drawn", ("road", "car", "sky"), all_channels=True)
    assert (published.labels(logits, 4, 4) == 3).all()


def test_nearest_and_bilinear_logits_differ_between_two_pixels():
    logits = torch.tensor([[[[4.0, 0.0]], [[0.0, 9.0]]]])
    nearest = SegmentationProtocol("drawn", ("a", "b"), resize="nearest").labels(logits, 1, 8)
    bilinear = SegmentationProtocol("drawn", ("a", "b")).labels(logits, 1, 8)
    assert nearest[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert bilinear.shape == (1, 1, 8) and bilinear.sum() == 5  # b is stronger


def test_a_result_has_a_table_json_and_an_image():
    classes = ("road", "traffic light", "sky")
    counts = torch.tensor([[9, 1, 0], [2, 8, 0], [0, 0, 0]])
    images = [LabelledImage(0, "first", counts), LabelledImage(1, "second", torch.zeros_like(counts))]
    result = SegmentationResult(SegmentationProtocol("drawn", classes), images)
    table = result.table()
    assert all(name in table for name in (*classes, *SUMMARY))
    record = json.loads(json.dumps(result.to_json()))
    assert record["classes"][2]["iou"] is None and record["confusion"][0] == [9, 1, 0]
    image = result.image()
    assert image.dtype == np.uint8 and image.shape[0] == image.shape[1] > 3 * 26
    corner = image[-26:, -26:].reshape(-1, 3)
    assert (corner == corner[0]).all()  # the last cell is 0 and has no number


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: SegmentationProtocol("x", ()), "at least one class"),
        (lambda: SegmentationProtocol("x", ("a",), resize="cubic"), "bilinear or nearest, got 'cubic'"),
        (
            lambda: SegmentationProtocol("x", ("a", "b")).labels(torch.zeros(1, 1, 2, 2), 2, 2),
            "predicts 1 classes and x has 2",
        ),
        (lambda: Confusion.empty(2).add(torch.zeros(2, 2), torch.zeros(2, 3)), "resize the logits first"),
        (lambda: confusion_image(torch.zeros(2, 2), ["a"]), "2 classes need 2 names, got 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
