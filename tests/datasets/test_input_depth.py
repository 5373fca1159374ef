"""Measured depth as an input of the network: which kind, how many of its points, where they lie."""

import pytest
import torch

from datasets.folder import Folder
from datasets.kitti import Kitti
from datasets.loading import EpochIndex
from utils import InputError


def open_kitti(root, **settings) -> Kitti:
    return Kitti(root, root / "splits", "train", frame_ids=(0,), height=64, width=96, **settings)


def test_the_input_is_the_ground_truth_unless_named(tiny_kitti):
    maps = open_kitti(tiny_kitti, supervision=True, input_depth=True)[0].maps
    assert torch.equal(maps["depth"], maps["input_depth"]) and (maps["depth"] > 0).sum() > 100


def test_scans_are_the_input_with_another_ground_truth(tiny_kitti):
    dataset = open_kitti(tiny_kitti, ground_truth="improved", input_depth="velodyne", supervision=True)
    scan = open_kitti(tiny_kitti, ground_truth="velodyne", supervision=True)
    maps = dataset[0].maps
    assert torch.equal(maps["input_depth"], scan[0].maps["depth"])
    assert not torch.equal(maps["input_depth"], maps["depth"])


def test_points_are_drawn_again_each_epoch(tiny_kitti):
    whole = open_kitti(tiny_kitti, input_depth=True)[0].maps["input_depth"]
    dataset = open_kitti(tiny_kitti, input_depth=True, keep_points=20)
    first, again, later = (dataset[EpochIndex(0, epoch)].maps["input_depth"] for epoch in (0, 0, 1))
    assert (first > 0).sum() == 20 and torch.equal(first[first > 0], whole[first > 0])
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert torch.equal(first, dataset[0].maps["input_depth"])  # evaluation draws as epoch 0


def test_fewer_beams_leave_fewer_rows(tiny_kitti):
    whole = open_kitti(tiny_kitti, input_depth=True)[0].maps["input_depth"]
    few = open_kitti(tiny_kitti, input_depth=True, keep_beams=4)[0].maps["input_depth"]
    assert 0 < (few > 0).sum() < 0.3 * (whole > 0).sum()
    assert torch.equal(few[few > 0], whole[few > 0])


def test_a_range_gives_each_sample_and_epoch_its_own_number(tiny_kitti):
    dataset = open_kitti(tiny_kitti, input_depth=True, keep_points=[4, 64])
    counts = [int((dataset[EpochIndex(0, e)].maps["input_depth"] > 0).sum()) for e in range(40)]
    assert min(counts) >= 4 and max(counts) <= 64 and len(set(counts)) > 10
    assert 8 <= sorted(counts)[20] <= 32  # every doubling is equally likely: half are below 16
    assert dataset.input_words == "velodyne, 4 to 64 points"


def test_images_without_depth_have_an_empty_input(tiny_folder):
    sample = Folder(tiny_folder, height=64, width=96, input_depth=True)[0]
    assert sample.maps["input_depth"].shape == (1, 1, 64, 96) and not sample.maps["input_depth"].any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_depth": "velodine"}, "there is no ground truth 'velodine'; did you mean 'velodyne'"),
        ({"input_depth": True, "keep_points": -1}, "keep_points is 0 .all. or more, got -1"),
        ({"input_depth": True, "keep_beams": [64, 1]}, r"least and the most of a range, got \[64, 1\]; try"),
        ({"input_depth": True, "keep_beams": [1, 65]}, r"least and the most of a range, got \[1, 65\]; try"),
        ({"input_depth": True, "keep_beams": 65}, "keep_beams is from 0 .all. to 64, got 65"),
        ({"depth_resize": "bilinear"}, "there is no depth_resize 'bilinear'"),
    ],
)
def test_impossible_input_depth_is_refused(tiny_kitti, settings, words):
    with pytest.raises(InputError, match=words):
        open_kitti(tiny_kitti, **settings)[0]
