"""Exported ground truth: what is written is what the dataset reads back, whoever wrote it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets._ground_truth import ExportedDepth, write_exported
from datasets.kitti import Kitti
from tools import export_gt_depth
from utils import InputError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five frames with improved ground truth of 1, 2, ... metres; none for the last."""
    for frame in range(5):
        picture = tmp_path / DRIVE / f"image_02/data/{frame:010d}.png"
        truth = tmp_path / DRIVE / f"proj_depth/groundtruth/image_02/{frame:010d}.png"
        for path in (picture, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 32)).save(picture)
        if frame < 4:
            Image.fromarray(np.full((32, 96), 256 * (frame + 1), np.uint16)).save(truth)
    lines = [f"{DRIVE} {frame} l\n" for frame in range(5)]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/test_files.txt").write_text("".join(lines))
    (tmp_path / "lists/val_files.txt").write_text(lines[2])
    return tmp_path


def run(root: Path, *more: str) -> None:
    data = ["--data_path", str(root), "--split", str(root / "lists"), "--set", "intrinsics=fixed"]
    export_gt_depth.main([*data, "--ground_truth", "improved", *more])


def open_kitti(root: Path, part: str = "test", **more) -> Kitti:
    settings = {"ground_truth": "improved", "intrinsics": "fixed", "frame_ids": (0,), **more}
    return Kitti(root, str(root / "lists"), part, **settings)


def lose_measurements(root: Path) -> None:
    for path in (root / DRIVE / "proj_depth").glob("**/*.png"):
        path.unlink()


def test_what_was_exported_is_read_back_when_the_measurements_are_gone(root, capsys):
    run(root, "--part", "test", "val")
    assert "1 pictures have no ground truth" in capsys.readouterr().out
    lose_measurements(root)
    dataset = open_kitti(root)
    for index in range(4):
        assert np.array_equal(dataset.depth(index), np.full((1, 32, 96), index + 1.0))
    assert dataset.depth(4) is None
    assert open_kitti(root, "val").depth(0)[0, 0, 0] == 3


def test_shards_are_read_together(root):
    for shard in ("1/3", "2/3", "3/3"):
        run(root, "--shard", shard)
    lose_measurements(root)
    dataset = open_kitti(root)
    assert [dataset.depth(index)[0, 0, 0] for index in range(4)] == [1, 2, 3, 4]
    names = sorted(path.name for path in (root / "gt_depths").iterdir())
    assert names == [f"lists_test_improved.{shard}of3.npz" for shard in (1, 2, 3)]


def test_several_processes_write_the_same_bytes_as_one(root, monkeypatch):
    run(root, "--workers", "1", "--out", str(root / "one"))
    monkeypatch.setattr(export_gt_depth, "WORTH_A_PROCESS", 2)
    run(root, "--workers", "2", "--out", str(root / "two"))
    one, two = (np.load(root / folder / "lists_test_improved.npz") for folder in ("one", "two"))
    assert one["names"].tolist() == two["names"].tolist() == [f"{DRIVE} {frame} l" for frame in range(4)]
    assert all(one[key].tobytes() == two[key].tobytes() for key in one.files)


def test_a_list_that_changed_gets_the_maps_of_its_own_samples(root):
    run(root)
    lines = (root / "lists/test_files.txt").read_text().splitlines()
    (root / "lists/test_files.txt").write_text("\n".join(reversed(lines)))
    lose_measurements(root)
    dataset = open_kitti(root)
    assert dataset.depth(0) is None and dataset.depth(1)[0, 0, 0] == 4


def test_a_worker_process_reads_with_a_file_position_of_its_own(root):
    run(root)
    dataset = open_kitti(root)
    dataset.depth(0)
    copied = pickle.loads(pickle.dumps(dataset))  # what a spawned loader worker gets
    assert np.array_equal(copied.depth(1), dataset.depth(1))


def test_the_exported_file_needs_no_pickle_and_appears_only_when_complete(tmp_path):
    def broken():
        yield "a", np.ones((1, 2, 3))
        raise InputError("a broken scan")

    path = tmp_path / "maps.npz"
    with pytest.raises(InputError, match="a broken scan"):
        write_exported(path, broken())
    assert list(tmp_path.iterdir()) == []
    write_exported(path, [("a", np.ones((1, 2, 3)))])
    arrays = np.load(path, allow_pickle=False)
    assert arrays["names"].tolist() == ["a"] and arrays["000000"].dtype == np.float32


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--ground_truth", "velodyne"], "there is no ground truth to write to .*lists_test_velodyne.npz"),
        (["--ground_truth", "improve"], "did you mean 'improved'"),
        (["--dataset", "kity"], "did you mean 'kitti'"),
        (["--part", "tets"], "did you mean 'test'"),
        (
            ["--set", "intrinsics=fixed", "intrinsic=fixed"],
            "no setting 'intrinsic'; did you mean 'intrinsics'",
        ),
    ],
)
def test_a_wrong_request_is_answered_with_the_right_ones(root, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        run(root, *arguments)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "2", "a/b"])
def test_a_shard_is_counted_from_one(root, shard, capsys):
    with pytest.raises(SystemExit):
        run(root, "--shard", shard)
    assert "must be 1/N to N/N" in capsys.readouterr().err


def test_a_file_of_another_kind_is_named(tmp_path):
    np.savez(tmp_path / "maps.npz", data=np.ones(3))
    with pytest.raises(InputError, match=r"maps.npz cannot be read as exported ground truth"):
        ExportedDepth(tmp_path / "maps.npz").get("a")
    (tmp_path / "maps.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"maps.npz cannot be read as exported ground truth"):
        ExportedDepth(tmp_path / "maps.npz").get("a")
