"""A window of the recorded image is what training sees: pixels, intrinsics, rays and measured depth alike."""

import numpy as np
import pytest
import torch

from cameras import KannalaBrandt
from datasets import open_dataset
from datasets._crop_borders import Window, check_borders, size_of, window_of
from datasets.ddad import Ddad
from datasets.exported_depth import SparseDepth
from datasets.image_files import read_image
from datasets.kitti import Kitti
from utils import InputError

BORDERS = [-32, 0, 0.5, 64]  # of 64 x 96 pixels: rows 32 to 64, columns 16 to 80


def open_kitti(root, **settings) -> Kitti:
    return Kitti(root, root / "splits", "train", frame_ids=(0,), **settings)


@pytest.mark.parametrize(
    ("borders", "window"),
    [
        ((-352, 0, 0.5, 1216), Window(23, 13, 352, 1216)),  # published for KITTI
        ((10, 100, 0, 0), Window(10, 0, 100, 1242)),
        ((0, -75, -1000, -42), Window(0, 242, 300, 958)),
        ((0.5, 100, 20, 200), Window(137, 20, 100, 200)),
        ((23, -26), Window(23, 0, 352, 1216)),
    ],
)
def test_borders_give_the_published_window(borders, window):
    assert window_of(borders, 375, 1242) == window


def test_a_window_of_fixed_sides_has_a_known_size():
    assert size_of((-352, 0, 0.5, 1216)) == (352, 1216) and size_of((-352, -32, 0, 640)) == (320, 640)
    assert size_of((0, 0, 0.5, 1216)) is None and size_of((23, -26)) is None


def test_pixels_and_intrinsics_are_those_of_the_window(tiny_kitti):
    whole = open_kitti(tiny_kitti, height=64, width=96)
    sample = open_kitti(tiny_kitti, height=32, width=64, crop_borders=BORDERS)[0]
    image = read_image(whole.paths(whole.samples[0], 0)[0])
    assert torch.equal(sample.images[0][0], image[:, 32:64, 16:80])
    shift = whole[0].intrinsics - sample.intrinsics
    assert torch.allclose(shift[0], torch.tensor([[0.0, 0, 16], [0, 0, 32], [0, 0, 0]]))


def test_a_window_that_is_resized_keeps_its_rays(tiny_kitti):
    K, cut = (
        open_kitti(tiny_kitti, height=64, width=96, **crop)[0].intrinsics[0].double()
        for crop in ({}, {"crop_borders": BORDERS})
    )
    pixel = torch.tensor([40.0, 48, 1], dtype=torch.float64)  # of the recorded image
    inside = torch.tensor([(40.5 - 16) * 96 / 64 - 0.5, (48.5 - 32) * 64 / 32 - 0.5, 1], dtype=torch.float64)
    assert torch.allclose(K.inverse() @ pixel, cut.inverse() @ inside, atol=1e-6)


@pytest.mark.parametrize("kind", ["velodyne", "improved"])
def test_measured_depth_stays_on_its_pixels(tiny_kitti, kind):
    settings = {"supervision": True, "input_depth": "velodyne", "ground_truth": kind}
    whole = open_kitti(tiny_kitti, height=64, width=96, **settings)[0].maps
    cut = open_kitti(tiny_kitti, height=32, width=64, crop_borders=BORDERS, **settings)[0].maps
    for name in ("depth", "input_depth"):
        assert torch.equal(cut[name], whole[name][..., 32:64, 16:80]) and (cut[name] > 0).sum() > 100


def test_beams_are_of_the_scan_and_points_of_the_window(tiny_kitti):
    beams = {"input_depth": True, "keep_beams": 8}
    whole = open_kitti(tiny_kitti, height=64, width=96, **beams)[0].maps["input_depth"]
    cut = open_kitti(tiny_kitti, height=32, width=64, crop_borders=BORDERS, **beams)[0].maps["input_depth"]
    assert torch.equal(cut, whole[..., 32:64, 16:80]) and cut.any()
    points = {"input_depth": True, "keep_points": 30, "crop_borders": BORDERS}
    assert (open_kitti(tiny_kitti, height=32, width=64, **points)[0].maps["input_depth"] > 0).sum() == 30


def test_known_pixels_are_cut_as_the_map_around_them():
    dense = np.random.default_rng(0).uniform(0, 9, (2, 6, 8)).astype(np.float32)
    dense[dense < 5] = 0
    known = np.flatnonzero(dense)
    window = Window(1, 2, 4, 5)
    cut = window.depth(SparseDepth(dense.shape, known, dense.reshape(-1)[known]))
    assert np.array_equal(cut.dense(), dense[:, 1:5, 2:7]) and np.array_equal(
        window.depth(dense), cut.dense()
    )


def test_a_lens_follows_the_window():
    K = torch.tensor([[[30.0, 0, 47], [0, 30, 31], [0, 0, 1]]])
    camera = KannalaBrandt(K, torch.tensor([[0.05, -0.01, 0.002, 0.0]]))
    rays = camera.rays(64, 96).unflatten(2, (64, 96))
    cut = Window(32, 16, 32, 64).camera(camera, (32, 64)).rays(32, 64).unflatten(2, (32, 64))
    assert torch.allclose(cut, rays[..., 32:64, 16:80], atol=1e-5)


def test_a_rigs_published_principal_point_follows_the_window(tiny_ddad):
    settings = {"height": 32, "width": 64, "published_intrinsics": True, "frame_ids": (0,)}
    whole = Ddad(tiny_ddad, height=64, width=96, published_intrinsics=True, frame_ids=(0,))[0].intrinsics
    cut = Ddad(tiny_ddad, **settings, crop_borders=BORDERS)[0].intrinsics
    assert torch.allclose(whole[:, :2, 2] - cut[:, :2, 2], torch.tensor([16.0, 32.0]))


def test_evaluation_sees_the_whole_image(tiny_kitti):
    section = {"name": "kitti", "crop_borders": BORDERS}
    options = {"dataset": section, "data_path": tiny_kitti, "split": tiny_kitti / "splits"}
    options |= {"height": 64, "width": 96}
    trained, validated = (open_dataset(options, purpose) for purpose in ("train", "val"))
    assert trained.crop_borders == tuple(BORDERS) and validated.crop_borders is None
    assert validated.intrinsics(validated.samples[0], 0, 64, 96)[0, 2] == pytest.approx(
        validated[0].intrinsics[0, 0, 2].item()
    )


@pytest.mark.parametrize(
    ("borders", "words"),
    [
        ([-352, 0, 0.5, 1216], r"gives rows -288 to 64 and columns -560 to 656, and an image has 64 rows"),
        ([1, 2, 3], r"got \[1, 2, 3\]; try '\[-352, 0, 0.5, 1216\]'"),
        ([0.5, 0.5], r"or \(y, x\) in whole pixels; got \[0.5, 0.5\]"),
        ([0, 1.5, 0, 0], r"in whole pixels, y and x also as a share"),
    ],
)
def test_an_impossible_window_is_refused(tiny_kitti, borders, words):
    with pytest.raises(InputError, match=words):
        open_kitti(tiny_kitti, height=64, width=96, crop_borders=borders)[0]


def test_what_does_not_follow_the_window_is_refused(tiny_ddad):
    dataset = Ddad(tiny_ddad, height=32, width=64, masks=True, crop_borders=BORDERS, frame_ids=(0,))
    with pytest.raises(InputError, match="does not crop ego_mask; leave out the setting that reads it"):
        dataset[0]


def test_no_borders_crop_nothing():
    assert check_borders([]) is None and check_borders(None) is None
