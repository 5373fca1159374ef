"""Label files next to a video: labels of target and sources, mirrored with the images; refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets._label_files import with_label_files
from datasets.augmentation import mirror
from losses._moving_objects import MovingObjects
from structures import Batch, Prediction
from utils import InputError


@pytest.fixture
def video(tmp_path):
    """Four images of a road; frame n has its car (id 26) in columns 8n to 8n + 15."""
    for folder in ("video", "labels"):
        (tmp_path / folder).mkdir()
    for n in range(4):
        Image.fromarray(np.full((64, 96, 3), 40 * n, np.uint8)).save(tmp_path / "video" / f"{n}.jpg")
        labels = np.full((64, 96), 7, np.uint8)
        labels[20:40, 8 * n : 8 * n + 16] = 26
        Image.fromarray(labels).save(tmp_path / "labels" / f"{n}.png")
    (tmp_path / "video" / "cam.txt").write_text("60 60 47.5 31.5\n")
    return tmp_path


def open_video(root, **section):
    options = {"dataset": "folder", "data_path": root / "video", "height": 64, "width": 96}
    dataset = build_dataset(options, part="all")
    return with_label_files(dataset, {"label_files": {"path": root / "labels", **section}})


def test_labels_of_target_and_sources_follow_the_frames(video):
    sample = open_video(video)[0]
    assert sample.maps["labels"].shape == (1, 1, 64, 96) and sample.maps["labels"].dtype == torch.uint8
    assert sample.maps["source_labels"].shape == (1, 2, 64, 96)
    car = torch.cat([sample.maps["labels"], sample.maps["source_labels"]], 1)[0, :, 30] == 13
    assert [row.nonzero()[0].item() for row in car] == [8, 0, 16]  # frames 1, 0 and 2


def test_instances_keep_their_numbers(video):
    Image.fromarray(np.full((64, 96), 3000, np.uint16)).save(video / "labels" / "1.png")
    sample = open_video(video, instances=True)[0]
    assert (sample.maps["instances"] == 3000).all() and sample.maps["source_instances"].shape[1] == 2


def test_a_moving_car_is_masked_where_it_was_is_and_will_be(video):
    batch = open_video(video)[0].to("cpu")
    batch = mirror(batch, torch.tensor([True]))
    grid = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], (1, 1, 64, 96), align_corners=True)
    term = MovingObjects(labels="files", from_epoch=0)
    term.threshold.fill_(0.9)
    mask = term(batch, Prediction({}, grids={0: grid.expand(2, 1, -1, -1, -1)}))
    assert (mask[0, 0, 30] == 0).nonzero().flatten().tolist() == list(range(96 - 32, 96))


def test_samples_are_collated(video):
    dataset = open_video(video)
    assert Batch.cat([dataset[0], dataset[1]]).maps["source_labels"].shape == (2, 2, 64, 96)


@pytest.mark.parametrize(
    "section, words",
    [
        ({"paht": "x"}, "label_files has no setting 'paht'; did you mean 'path'"),
        ({"table": "kity"}, "there is no label table kity"),
    ],
)
def test_invalid_section_is_refused(video, section, words):
    with pytest.raises(InputError, match=words):
        open_video(video, **section)


def test_a_frame_without_labels_is_named_when_the_dataset_opens(video):
    (video / "labels" / "2.png").unlink()
    with pytest.raises(InputError, match=r"2.jpg has no label file .*2.png"):
        open_video(video)


def test_labels_of_another_size_are_refused(video):
    Image.fromarray(np.full((32, 96), 7, np.uint8)).save(video / "labels" / "1.png")
    with pytest.raises(InputError, match=r"1.png has the shape \(32, 96\) and its image .*1.jpg is 96x64"):
        open_video(video)[0]


def test_no_section_leaves_the_dataset_unchanged(video):
    dataset = open_video(video).dataset
    assert with_label_files(dataset, {"label_files": {}}) is dataset
    with pytest.raises(InputError, match=r"--label_files\.path"):
        with_label_files(dataset, {"label_files": {"table": "cityscapes"}})
