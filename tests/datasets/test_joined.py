"""Joined datasets: which sample an index is, and a run on two of them."""

import pytest
import torch
from torch.utils.data import Dataset

from datasets import open_dataset
from datasets.frame_lists import training_list
from datasets.joined import Joined
from datasets.loading import EpochIndex, epoch_of
from structures import Batch
from tests import runs
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


class Numbered(Dataset):
    """Images of one colour: 10 times the epoch and the index."""

    def __init__(self, count, size=(8, 12), **maps):
        self.count, self.size, self.maps = count, size, maps

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.full((1, 3, *self.size), 10 * epoch_of(index) + int(index), dtype=torch.uint8)
        return Batch({0: image}, torch.eye(3)[None], torch.tensor([int(index)]), maps=dict(self.maps))


def test_each_part_comes_as_often_as_its_repeat_says():
    joined = Joined(Numbered(3), [Numbered(2)], [2, 3])
    assert len(joined) == 2 * 3 + 3 * 2
    found = [joined.locate(index) for index in range(len(joined))]
    assert found == [(0, n) for n in (0, 1, 2) * 2] + [(1, n) for n in (0, 1) * 3]
    assert [joined[n].index.item() for n in (0, 4, 11)] == [0, 4, 11]  # augmented each in its own way
    assert joined[EpochIndex(4, 2)].images[0].unique().tolist() == [21]


@pytest.mark.parametrize(
    ("others", "repeat", "words"),
    [
        ([Numbered(2)], [1], "or one for each of the 2 joined datasets, got .1."),
        ([Numbered(2)], 0, "--joined.repeat is a whole number from 1 on, .* got 0"),
        (
            [Numbered(2, (4, 4))],
            1,
            r"joined.others.0. does not fit the first dataset: images of one batch must",
        ),
        ([Numbered(2), Numbered(2, depth=torch.ones(1, 1, 8, 12))], 1, r"joined.others.1. does not .*depth"),
    ],
)
def test_what_does_not_fit_together_is_refused(others, repeat, words):
    with pytest.raises(InputError, match=words):
        Joined(Numbered(3), others, repeat)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, r"joined.others.0. names no dataset; write"),
        ({"name": "folder"}, r"joined.others.0. needs a folder of its own"),
        (
            {"name": "kitti", "height": 64},
            r"joined.others.0..height is an option of the run; write --height 64",
        ),
        ({"name": "kitti", "sped": "velocity"}, "has no setting 'sped'; did you mean 'speed'"),
        ({"name": "kiti"}, r"did you mean 'kitti'|needs a folder"),
    ],
)
def test_sections_that_name_nothing_are_refused(tiny_kitti, other, words):
    options = {"dataset": "kitti", "data_path": tiny_kitti, "split": tiny_kitti / "splits"}
    with pytest.raises(InputError, match=words):
        open_dataset({**options, "height": 64, "width": 96, "joined": {"others": [other]}}, "train")


def test_a_run_learns_from_video_of_two_datasets(tiny_kitti, tiny_folder, tmp_path):
    other = f"[{{name: folder, data_path: {tiny_folder}, val_fraction: 0}}]"
    settings = {"joined.others": other, "joined.repeat": "[1, 2]", "max_steps": 10, "num_val": 2}
    trainer = runs.train(runs.arguments(tiny_kitti, tmp_path, num_epochs=1, **settings))
    assert len(trainer.train_set) == 16 + 2 * 12 and trainer.progress.step == 10
    names = [record["dataset"] for record in training_list(trainer.train_set)]
    assert names == ["kitti", "folder"]
    assert "val/abs_rel" in runs.records(tmp_path)[-1]  # KITTI's own validation
    resumed = runs.build(
        [*runs.arguments(tiny_kitti, tmp_path, num_epochs=2, **settings), "--resume", "auto"]
    )
    assert resumed.progress.step == 10
