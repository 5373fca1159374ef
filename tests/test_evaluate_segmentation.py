"""Evaluation of segmentation: a perfect predictor, the published rule, the command line, refusals."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_segmentation as entry
from checkpoints import Checkpoint, save_checkpoint
from datasets import build_dataset
from datasets.image_files import image_size
from evaluation import Loading
from evaluation.segmentation import default_protocol, evaluate_segmentation
from evaluation.segmentation_result import SegmentationResult
from methods import build_method
from structures import Prediction
from tests.tiny_models import OPTIONS
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import InputError

TABLE = """
classes:
  - {name: road, colour: [0, 0, 0], moves: false}
  - {name: car, colour: [255, 0, 0], moves: true}
ids: {0: road, 9: car, 255: ignored}
images: images/{name}.png
labels: labels/{name}.png
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two images: black is road, white is car; the first row is ignored."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "labels.yaml").write_text(TABLE)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for name, column in (("a", 32), ("b", 64)):
        labels = np.zeros((64, 96), np.uint8)
        labels[:, column:] = 9
        Image.fromarray((labels > 0).astype(np.uint8) * 255).save(root / "images" / f"{name}.png")
        labels[0] = 255
        Image.fromarray(labels).save(root / "labels" / f"{name}.png")
    return root


def open_drawn(root):
    options = {"dataset": "label_folder", "data_path": root, "height": 64, "width": 96}
    return build_dataset(options, part="all")


def brightness(batch):
    """Road where it is dark, car where it is bright, a third channel that nothing trained."""
    grey = batch.images[0].mean(1, keepdim=True)
    return Prediction({}, logits=torch.cat([1 - grey, grey, torch.full_like(grey, 0.2)], 1))


def test_a_perfect_predictor_has_an_iou_of_one(drawn):
    result = evaluate_segmentation(brightness, open_drawn(drawn), loading=Loading(2))
    assert result.confusion.counts.sum() == 2 * 63 * 96
    assert result.confusion.summary()["mean_iou"] == 1.0


def test_a_blind_predictor_has_the_share_of_its_class(drawn):
    def road(batch):
        logits = torch.zeros(len(batch), 2, 64, 96)
        logits[:, 0] = 1
        return Prediction({}, logits=logits)

    summary = evaluate_segmentation(road, open_drawn(drawn)).confusion.summary()
    assert summary["pixel_accuracy"] == pytest.approx(0.5)
    assert summary["mean_iou"] == pytest.approx((0.5 + 0) / 2)


def test_parts_of_a_dataset_add_up(drawn):
    dataset = open_drawn(drawn)
    whole = evaluate_segmentation(brightness, dataset)
    parts = [evaluate_segmentation(brightness, dataset, loading=Loading(indices=[n])) for n in (0, 1)]
    joined = SegmentationResult.join([*parts, parts[0]])
    assert torch.equal(joined.confusion.counts, whole.confusion.counts)
    assert joined.per_image() == whole.per_image()


def test_a_model_without_segmentation_is_refused(drawn):
    with pytest.raises(InputError, match="predicts no segmentation; train one with --method sgdepth"):
        evaluate_segmentation(lambda batch: Prediction({}), open_drawn(drawn))


def test_a_dataset_without_labels_is_refused(tiny_folder):
    dataset = build_dataset({"dataset": "folder", "data_path": tiny_folder, "height": 64, "width": 96})
    with pytest.raises(InputError, match="folder has no labels to compare with"):
        default_protocol(dataset)


@pytest.fixture(scope="module")
def sgdepth(tmp_path_factory):
    torch.manual_seed(0)
    options = {**OPTIONS, "method": "sgdepth", "pose_model_type": "separate_resnet"}
    folder = tmp_path_factory.mktemp("run")
    weights = build_method(options).state_dict()
    save_checkpoint(folder / "checkpoints" / "last.pt", Checkpoint(weights, options))
    return folder


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    root = tmp_path_factory.mktemp("segmentation") / "city"
    make(Plan("cityscapes", root, sequences=3, frames=5, height=64, width=96, seed=0, ext="png"))
    return root


@pytest.mark.parametrize("published", [[], ["--published"]])
def test_the_command_line_evaluates_a_run_on_cityscapes(sgdepth, city, tmp_path, capsys, published):
    part = next(p.name for p in sorted((city / "gtFine").iterdir()))
    size = ["--height", "64", "--width", "96", "--part", part, "--num_workers", "0", "--device", "cpu"]
    entry.main(
        ["--run", str(sgdepth), "--data_path", str(city), "--output", str(tmp_path), *size, *published]
    )
    assert "mean_iou" in capsys.readouterr().out
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["classes"]) == 19 and record["network size"] == "96x64"
    assert ("nearest" in record["protocol"]["resized"]) == bool(published)
    assert (tmp_path / "per_class.csv").read_text().startswith("class,iou,recall")
    assert (tmp_path / "per_image.csv").read_text().startswith("name,pixels,mean_iou")
    assert image_size(tmp_path / "confusion.png")[1] > 400


def test_a_folder_is_evaluated_at_the_size_of_training(sgdepth, drawn, tmp_path):
    # The classes differ from those the network knows; only the sizes are looked at.
    args = ["--run", str(sgdepth), "--dataset", "label_folder", "--data_path", str(drawn), "--part", "all"]
    entry.main([*args, "--output", str(tmp_path), "--num_workers", "0", "--device", "cpu"])
    assert json.loads((tmp_path / "results.json").read_text())["network size"] == "96x64"


@pytest.mark.parametrize(
    "more, words",
    [
        (["--batch_size", "0"], "--batch_size must be 1 or more, got 0"),
        (["--table", "bdd100k"], "--table is for --dataset label_folder"),
        (["--dataset", "kitti"], "--dataset kitti has no labels; give one of cityscapes, label_folder"),
        (["--dataset.top_row", "1"], "cityscapes has no setting 'top_row'; did you mean 'top_rows'"),
    ],
)
def test_flags_without_meaning_are_refused(sgdepth, city, more, words):
    with pytest.raises(InputError, match=words):
        entry.main(["--run", str(sgdepth), "--data_path", str(city), "--device", "cpu", *more])
