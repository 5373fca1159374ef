"""A scan is projected once; the kept projection is used while scan and calibration are unchanged."""

import shutil

import numpy as np
import pytest
import torch

from datasets._depth_cache import DepthCache
from datasets.exported_depth import SparseDepth
from datasets.kitti import Kitti


@pytest.fixture
def drives(tiny_kitti, tmp_path):
    return shutil.copytree(tiny_kitti, tmp_path / "kitti", ignore=shutil.ignore_patterns("gt_depths"))


def open_kitti(root, **settings) -> Kitti:
    given = {"supervision": True, "frame_ids": (0,), "height": 64, "width": 96, **settings}
    return Kitti(root, root / "splits", "train", **given)


def some_depth() -> SparseDepth:
    return SparseDepth((1, 8, 9), np.array([3, 40, 71]), np.array([1.5, 20, 60.25], np.float32))


def never(*_, **__):
    raise AssertionError("the scan was projected again")


@pytest.mark.parametrize("settings", [{}, {"ground_truth": "improved", "input_depth": "velodyne"}])
def test_the_second_epoch_projects_nothing_and_reads_the_same(drives, settings, monkeypatch):
    first = open_kitti(drives, **settings)[0].maps
    again = open_kitti(drives, **settings)
    monkeypatch.setattr("datasets.kitti.velodyne_pixels", never)
    maps = again[0].maps
    assert maps.keys() == first.keys() and (maps["depth"] > 0).any()
    assert all(torch.equal(maps[name], first[name]) for name in maps)


def test_a_changed_scan_or_calibration_is_projected_again(drives):
    dataset = open_kitti(drives)
    first = dataset[0].maps["depth"]
    sample = dataset.samples[0]
    scan = drives / sample.folder / f"velodyne_points/data/{sample.frame:010d}.bin"
    points = np.fromfile(scan, "<f4").reshape(-1, 4)
    points[:, :3] *= 2  # the same pixels, twice as far
    points.tofile(scan)
    farther = open_kitti(drives)[0].maps["depth"]
    assert farther.max() > 1.5 * first.max()
    calibration = drives / sample.folder.split("/")[0] / "calib_velo_to_cam.txt"
    moved = ["T: 0 1.0 0" if line.startswith("T:") else line for line in calibration.read_text().splitlines()]
    calibration.write_text("\n".join(moved))
    assert not torch.equal(open_kitti(drives)[0].maps["depth"], farther)


def test_nothing_is_kept_without_training_or_if_told(drives):
    open_kitti(drives, supervision=False).depth(0)
    open_kitti(drives, depth_cache=False)[0]
    assert not (drives / "gt_depths").exists()


def test_the_folder_is_announced_once(drives, capsys):
    dataset = open_kitti(drives)
    dataset[0], dataset[1]
    assert capsys.readouterr().err.count(f"projected depth is kept in {drives / 'gt_depths/cache'}") == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "other data"])
def test_a_damaged_file_is_not_used(tmp_path, damage):
    cache, depth = DepthCache(tmp_path / "cache"), some_depth()
    cache.put("lidar", "a", "0123456789abcdef", depth)
    kept = cache.get("lidar", "a", "0123456789abcdef")
    assert np.array_equal(kept.dense(), depth.dense()) and kept.metres.dtype == np.float32
    assert cache.get("lidar", "b", "0123456789abcdef") is None
    path = cache.path("lidar", "a")
    data = path.read_bytes()
    if damage == "other data":
        assert cache.get("lidar", "a", "f" * 16) is None
        return
    path.write_bytes({"cut": data[:-4], "empty": b"", "changed": data[:-1] + b"\0"}[damage])
    assert cache.get("lidar", "a", "0123456789abcdef") is None


def test_dense_maps_are_not_kept(tmp_path):
    cache = DepthCache(tmp_path / "cache")
    cache.put("lidar", "a", "0" * 16, np.ones((1, 4, 4), np.float32))
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_is_only_named(tmp_path, capsys):
    (tmp_path / "cache").write_text("a file stands here")
    cache = DepthCache(tmp_path / "cache")
    cache.put("lidar", "a", "0" * 16, some_depth())
    cache.put("lidar", "b", "0" * 16, some_depth())
    said = capsys.readouterr().err
    assert said.count("projected depth is not kept") == 1 and "--dataset.gt_path names another folder" in said
    assert cache.get("lidar", "a", "0" * 16) is None
