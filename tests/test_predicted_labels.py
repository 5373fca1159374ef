"""Labels that prediction writes: train ids, colours and overlay of images, panels of a video, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import methods
import test_simple
import test_video
from datasets._labels import cityscapes_table
from prediction.labels import table_of_training
from predictor import find_images
from structures import Batch, Prediction
from tests.test_videos import read_video
from tests.tiny_models import HEIGHT, WIDTH, save_run
from utils import InputError

ROAD, CAR = 0, 13
COLOURS = cityscapes_table().palette


class ByBrightness(torch.nn.Module):
    """Dark pixels are road, bright ones a car; the twentieth channel is highest and means nothing."""

    tasks = ("depth", "segmentation")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, batch: Batch) -> Prediction:
        grey = batch.images[0].mean(1, keepdim=True)
        logits = torch.zeros(len(grey), 20, *grey.shape[-2:])
        logits[:, ROAD : ROAD + 1], logits[:, CAR : CAR + 1], logits[:, 19] = 2 - grey, 1 + grey, 9.0
        return Prediction({}, {0: 5 + grey}, logits=logits)


@pytest.fixture
def by_brightness(monkeypatch):
    options = {"method": "sgdepth", "height": HEIGHT, "width": WIDTH}
    monkeypatch.setattr(methods, "load_method", lambda *_: (ByBrightness(), options))


@pytest.fixture(scope="module")
def sgdepth_run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("sgdepth"), method="sgdepth")


def street(path: Path, column: int = 60) -> Path:
    """70 x 120: black up to a column, white from there on."""
    image = np.zeros((70, 120, 3), np.uint8)
    image[:, column:] = 255
    Image.fromarray(image).save(path)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_label_files_hold_train_ids_colours_and_overlay(by_brightness, tmp_path, capsys):
    path = street(tmp_path / "a.png")
    test_simple.main(["--image_path", str(path), "--run", "x", "--save", "labels", "--device", "cpu"])
    with Image.open(tmp_path / "a_labels.png") as image:
        assert image.mode == "L" and image.size == (120, 70)
    labels, colours, over = (
        read(tmp_path / f"a_{name}.png") for name in ("labels", "label_colours", "overlay")
    )
    assert (labels[:, :55] == ROAD).all() and (labels[:, 65:] == CAR).all()
    assert (colours == COLOURS[labels]).all()
    assert np.abs(over.astype(float) - (colours / 2 + read(path) / 2)).max() <= 0.5
    assert "a_labels.png" in capsys.readouterr().out
    assert find_images(str(tmp_path)) == [path]  # outputs are not input


def test_label_colours_have_the_format_of_ext_and_ids_stay_png(by_brightness, tmp_path):
    path = street(tmp_path / "a.png")
    words = ["--image_path", str(path), "--run", "x", "--save", "labels", "--ext", "jpg", "--device", "cpu"]
    test_simple.main(words)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a.png", "a_disp.jpg", "a_label_colours.jpg", "a_labels.png", "a_overlay.jpg"
    ]  # fmt: skip


def test_a_video_shows_labels_and_overlay_next_to_depth(by_brightness, tmp_path):
    (tmp_path / "walk").mkdir()
    for n in range(3):
        street(tmp_path / f"walk/{n}.png", 40 + 10 * n)
    words = ["--image_path", str(tmp_path / "walk"), "--run", "x", "--device", "cpu"]
    test_video.main([*words, "--show", "labels", "overlay", "depth"])
    shown = read_video(tmp_path / "walk_depth.gif")
    assert [frame.shape for frame in shown] == [(56, 3 * WIDTH, 3)] * 3
    for n, frame in enumerate(shown):
        edge = round((40 + 10 * n) * WIDTH / 120)
        labels, over = frame[:, :WIDTH].astype(int), frame[:, WIDTH : 2 * WIDTH].astype(int)
        assert (labels[:, : edge - 3] == COLOURS[ROAD]).all()
        assert (labels[:, edge + 3 :] == COLOURS[CAR]).all()
        assert np.abs(over[:, edge + 3 :] - (COLOURS[CAR] / 2 + 127.5)).max() < 8


def test_sgdepth_writes_labels_of_one_pass_with_its_depth(sgdepth_run, tmp_path):
    path = street(tmp_path / "a.png")
    words = ["--image_path", str(path), "--run", str(sgdepth_run), "--device", "cpu"]
    test_simple.main([*words, "--save", "labels", "--save_npy"])
    assert read(tmp_path / "a_labels.png").max() < 19
    assert np.load(tmp_path / "a_depth.npy").shape == (70, 120)


@pytest.mark.parametrize(
    "main, more, flag",
    [
        (test_simple.main, ["--save", "labels"], "--save labels"),
        (test_video.main, ["--show", "overlay"], "--show overlay"),
    ],
)
def test_a_model_without_segmentation_writes_no_labels(tmp_path, main, more, flag):
    run = save_run(tmp_path / "run")
    path = street(tmp_path / "a.png")
    sentence = f"{flag} needs a model with segmentation, trained with --method sgdepth; this one, monodepth2,"
    with pytest.raises(InputError, match=sentence):
        main(["--image_path", str(path), "--run", str(run), *more, "--device", "cpu"])
    assert [file.name for file in tmp_path.glob("a*")] == ["a.png"]


def test_an_unknown_kind_of_file_is_refused(by_brightness, tmp_path):
    path = street(tmp_path / "a.png")
    with pytest.raises(InputError, match="--save has no kind 'label'; did you mean 'labels'"):
        test_simple.main(["--image_path", str(path), "--run", "x", "--save", "label", "--device", "cpu"])


def test_the_classes_are_those_of_the_label_folder_trained_on(tmp_path):
    table = "classes:\n  - {name: lawn, colour: [0, 255, 0], moves: false}\nids: {0: lawn}\n"
    (tmp_path / "labels.yaml").write_text(table)
    found = table_of_training({"companion": {"name": "label_folder", "data_path": str(tmp_path)}})
    assert found.names == ("lawn",)
    with pytest.raises(InputError, match=r"there is no label table .*gone.labels\.yaml"):
        table_of_training({"companion": {"name": "label_folder", "data_path": str(tmp_path / "gone")}})
