"""Exported ground truth is used only for the raw data that it was made from."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from datasets import build_dataset
from evaluation.export import export, export_at_first, outdated_sample
from utils import InputError


def open_kitti(data):
    options = {"dataset": {"name": "kitti", "ground_truth": "velodyne"}, "data_path": data}
    return build_dataset({**options, "split": str(data / "splits")}, part="val", frame_ids=(0,))


@pytest.fixture
def data(tiny_kitti, tmp_path):
    copy = shutil.copytree(tiny_kitti, tmp_path / "kitti")
    shutil.rmtree(copy / "gt_depths", ignore_errors=True)
    return copy


def move_lidar(data) -> dict:
    """Another translation in every calibration; returns the earlier texts."""
    before = {}
    for path in data.glob("*/calib_velo_to_cam.txt"):
        before[path] = path.read_text()
        lines = [line for line in before[path].splitlines() if not line.startswith("T:")]
        path.write_text("\n".join([*lines, "T: 0.5 -2.0 3.0"]) + "\n")
    return before


def test_map_of_another_calibration_is_not_used(data):
    export(open_kitti(data))
    first = open_kitti(data)
    right = first.depth(0)
    assert outdated_sample(first) is None
    before = move_lidar(data)
    moved = open_kitti(data)
    assert moved.exported.paths and outdated_sample(moved) == moved.name(0)
    assert not np.array_equal(moved.depth(0), right)
    assert np.array_equal(moved.depth(0), moved.depth_from_raw(0))
    for path, text in before.items():
        path.write_text(text)
    assert np.array_equal(open_kitti(data).depth(0), right)


def test_first_evaluation_writes_an_outdated_file_again(data, capsys):
    export_at_first(open_kitti(data), workers=1)
    before = move_lidar(data)
    changed = open_kitti(data)
    export_at_first(changed, workers=1)
    assert "was made from other raw data, such as those of" in capsys.readouterr().out
    assert outdated_sample(changed) is None
    assert np.array_equal(changed.exported.get(changed.name(0)), changed.depth_from_raw(0))
    for path, text in before.items():
        path.write_text(text)
    assert outdated_sample(open_kitti(data)) is not None


def test_exported_map_is_used_after_the_raw_data_are_removed(data):
    dataset = open_kitti(data)
    export(dataset)
    right = dataset.depth_from_raw(0)
    for folder in data.glob("*/*/velodyne_points"):
        shutil.rmtree(folder)
    assert np.array_equal(open_kitti(data).depth(0), right)
    for path in data.glob("*/calib_velo_to_cam.txt"):
        path.unlink()
    assert np.array_equal(open_kitti(data).depth(0), right)


def test_copied_data_keep_their_exported_file(data, tmp_path):
    export(open_kitti(data))
    copy = shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copy)  # other times
    assert outdated_sample(open_kitti(copy)) is None


def test_file_of_an_earlier_version_is_used(data):
    from datasets.exporting import write_exported

    dataset = open_kitti(data)
    marker = np.full_like(dataset.depth_from_raw(0), 7.0)
    write_exported(dataset.exported.path, [(dataset.name(0), marker)])
    assert np.array_equal(open_kitti(data).depth(0), marker)


@pytest.mark.parametrize("shape", [(1, 0, 8), (0, 4, 8), (4, 8), (2, 4, 8)])
def test_exported_map_of_another_shape_is_refused(data, shape):
    from datasets.exporting import write_exported

    dataset = open_kitti(data)
    for depth in (np.ones(shape, np.float32), np.zeros(shape, np.float32)):  # stored whole or sparse
        write_exported(dataset.exported.path, [(dataset.name(0), depth)])
        with pytest.raises(InputError, match=r"remove it or write it again with tools/export_gt_depth\.py"):
            open_kitti(data).depth(0)


@pytest.mark.parametrize("name", ["ddad", "nuscenes"])
def test_rigs_follow_their_calibration_too(name, worlds, tmp_path):
    root = worlds.copy(tmp_path / "rig", name, frames=4)
    options = {"dataset": name, "data_path": root}
    dataset = build_dataset(options, part="val", frame_ids=(0,))
    export(dataset)
    fresh = build_dataset(options, part="val", frame_ids=(0,))
    assert fresh.exported.origin(fresh.name(0)) and outdated_sample(fresh) is None
    scans = [path for path in root.rglob("*") if "LIDAR" in str(path) and path.suffix in (".npz", ".bin")]
    for path in scans:
        path.write_bytes(path.read_bytes()[::-1])
    assert outdated_sample(build_dataset(options, part="val", frame_ids=(0,))) is not None


RAW = {  # dataset → files of its raw depth, part with ground truth
    "cityscapes": ("disparity_sequence/*/*/*.png", "test"),
    "nyuv2": ("nyu_test/*.h5", "test"),
    "make3d": ("Gridlaserdata/*.mat", "test"),
    "folder": ("**/depth/*", "val"),
}


@pytest.mark.parametrize("name", RAW)
def test_single_camera_sets_follow_their_raw_depth(name, worlds, tmp_path):
    """A byte of every raw file is changed after the export: the exported maps are outdated."""
    pattern, part = RAW[name]
    root = worlds.copy(tmp_path / "data", name)
    lists = root / "splits"
    root = root / "training" if (root / "training").is_dir() else root
    options = {"dataset": name, "data_path": root, **({"split": str(lists)} if lists.is_dir() else {})}
    opened = build_dataset(options, part=part, frame_ids=(0,))
    export(opened)
    fresh = build_dataset(options, part=part, frame_ids=(0,))
    assert fresh.exported.origin(fresh.name(0)) and outdated_sample(fresh) is None
    files = list(root.glob(pattern))
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert outdated_sample(build_dataset(options, part=part, frame_ids=(0,))) == fresh.name(0)
