"""Exported ground truth: what is written is what the dataset reads back, whoever wrote it."""

import errno
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import exporting
from datasets.exported_depth import ExportedDepth, exported_path, shard_path
from datasets.exporting import Export, encode, write_exported
from datasets.ground_truth import SparseDepth
from datasets.kitti import Kitti
from evaluation import export
from tools import export_gt_depth
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import InputError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five frames with improved ground truth of 1, 2, ... metres; none for the last."""
    for frame in range(5):
        image = tmp_path / DRIVE / f"image_02/data/{frame:010d}.png"
        ground_truth = tmp_path / DRIVE / f"proj_depth/groundtruth/image_02/{frame:010d}.png"
        for path in (image, ground_truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 32)).save(image)
        if frame < 4:
            Image.fromarray(np.full((32, 96), 256 * (frame + 1), np.uint16)).save(ground_truth)
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


def test_last_of_several_points_in_a_pixel_is_kept():
    rng = np.random.default_rng(0)
    shape = (6, 1216, 1936)  # its pixel numbers need more than 16 bits, and more than 23
    rows, columns = rng.integers(0, 4, (6, 5000)) * 405, rng.integers(0, 1936, (6, 5000))
    metres = rng.integers(0, 9, (6, 5000)).astype(np.float64)  # 0 is unknown, even as the last value
    expected = np.zeros(shape, np.float32)
    for camera in range(6):
        for row, column, depth in zip(rows[camera], columns[camera], metres[camera]):
            expected[camera, row, column] = depth
    known = SparseDepth.of_pixels(*shape[1:], list(zip(rows, columns, metres)))
    np.testing.assert_array_equal(known.dense(), expected)
    assert (np.diff(known.indices) > 0).all() and (known.metres != 0).all()


def test_exported_depth_is_read_without_the_raw_data(root, capsys):
    run(root, "--part", "test", "val")
    assert "1 samples have no ground truth" in capsys.readouterr().out
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


def test_a_shard_without_samples_says_that_it_wrote_nothing(root, capsys):
    for shard in ("1/2", "2/2"):
        run(root, "--part", "val", "--shard", shard)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("wrote the depth of 1 samples")
    assert out[1] == "lists_val_improved.2of2.npz: nothing to write, there are fewer samples than shards"
    assert open_kitti(root, "val").depth(0) is not None


def test_shard_without_ground_truth_is_exported_next_to_others(root):
    for frame in (1, 3):  # as in recordings where every other image is annotated
        (root / DRIVE / f"proj_depth/groundtruth/image_02/{frame:010d}.png").unlink()
    for shard in ("1/2", "2/2"):
        run(root, "--shard", shard)
    dataset = open_kitti(root)
    assert [None if dataset.depth(n) is None else dataset.depth(n)[0, 0, 0] for n in range(4)] == [
        1,
        None,
        3,
        None,
    ]
    lose_measurements(root)
    with pytest.raises(InputError, match=r"no ground truth to write to .*1of3\.npz: none of the 2 samples"):
        run(root, "--shard", "1/3")


def test_a_list_of_any_name_finds_its_exported_files(tmp_path):
    """A name may hold what patterns of files are made of."""
    path = exported_path(tmp_path, "lists [v2]", "test", "lidar")
    for count, file in enumerate((path, shard_path(path, 1, 2), shard_path(path, 2, 2)), 1):
        write_exported(file, [("a", np.ones((1, 2, 3)))])
        assert len(ExportedDepth(path).paths) == count


def test_missing_shard_is_named_if_raw_data_is_missing(root):
    for shard in ("1/3", "3/3"):
        run(root, "--shard", shard)
    dataset = open_kitti(root)
    assert dataset.depth(1)[0, 0, 0] == 2  # from the measurements
    lose_measurements(root)
    assert dataset.depth(0)[0, 0, 0] == 1
    with pytest.raises(
        InputError, match=r"0001_sync 1 l has no .*improved\.2of3\.npz is not there, but other"
    ):
        dataset.depth(1)
    (root / "gt_depths/lists_test_improved.3of3.npz").rename(root / "gt_depths/lists_test_improved.npz")
    assert open_kitti(root).depth(1) is None  # a whole file has all there is


def test_full_disk_is_named_and_the_export_can_be_resumed(root, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exporting.Archive, "close", full)
        with pytest.raises(InputError, match="gt_depths cannot be written: the disk is full"):
            run(root)
    run(root)
    assert os.listdir(root / "gt_depths") == ["lists_test_improved.npz"]


def test_several_processes_write_the_same_bytes_as_one(root, monkeypatch):
    run(root, "--workers", "1", "--out", str(root / "one"))
    monkeypatch.setattr(export, "WORTH_A_PROCESS", 2)
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


def test_exported_file_has_no_pickle_and_is_always_complete(tmp_path):
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


def rig(known: float, seed: int = 0) -> np.ndarray:
    """(6, 40, 60) metres, known at the share `known` of the pixels and 0 elsewhere."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((6, 40, 60)) < known, rng.uniform(1, 200, (6, 40, 60)), 0).astype(np.float32)


@pytest.mark.parametrize("known", [0.0, 0.01, 0.2, 0.6, 1.0])
def test_maps_come_back_to_the_bit_however_much_is_known(tmp_path, known):
    path, maps = tmp_path / "maps.npz", {f"frame set {seed}": rig(known, seed) for seed in range(3)}
    assert write_exported(path, maps.items()) == 3
    for name, depth in maps.items():
        read = ExportedDepth(path).get(name)
        assert read.dtype == np.float32 and np.array_equal(read, depth)
    keys = np.load(path).files
    assert ("000002.gaps" in keys) == (known < 0.25) and ("000002" in keys) == (known > 0.25)


def test_one_percent_known_takes_two_percent_of_the_size(tmp_path):
    depth = np.zeros((6, 304, 484), np.float32)
    depth.reshape(-1)[::100] = np.random.default_rng(0).uniform(1, 200, 8829)
    write_exported(tmp_path / "maps.npz", [("frame set", depth)])
    assert (tmp_path / "maps.npz").stat().st_size < 0.02 * depth.nbytes
    arrays = np.load(tmp_path / "maps.npz", allow_pickle=False)
    again = np.zeros(arrays["000000.shape"], np.float32)
    again.flat[np.cumsum(arrays["000000.gaps"])] = arrays[
        "000000.metres"
    ]  # all that a stranger needs to know
    assert np.array_equal(again, depth)


def test_the_archive_is_a_zip_to_others(tmp_path):
    write_exported(tmp_path / "maps.npz", [(f"{n}", rig(0.1, n)) for n in range(4)])
    with zipfile.ZipFile(tmp_path / "maps.npz") as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "names.npy" and len(archive.namelist()) == 13


def stop_at(monkeypatch, frame: int | None) -> list[int]:
    """Let the measurement of a frame fail, save after each sample; returns what is measured from now on."""
    measured = []
    original = Kitti._improved_depth

    def improved(self, line):
        if line.frame == frame:
            raise InputError("the power is gone")
        measured.append(line.frame)
        return original(self, line)

    monkeypatch.setattr(Kitti, "_improved_depth", improved)
    monkeypatch.setattr(exporting, "SAVE_EVERY", 0)
    return measured


@pytest.fixture
def interrupted(root, monkeypatch) -> Path:
    """The folder of an export that stopped before frame 3."""
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(InputError, match="the power is gone"):
            run(root)
    assert not (root / "gt_depths/lists_test_improved.npz").exists()
    return root / "gt_depths/lists_test_improved.partial"


def test_an_interrupted_export_goes_on_where_it_stopped(root, interrupted, monkeypatch):
    assert len(list(interrupted.iterdir())) == 3
    assert stop_and_run(root, monkeypatch) == [3, 4]
    assert os.listdir(root / "gt_depths") == ["lists_test_improved.npz"]
    resumed = (root / "gt_depths/lists_test_improved.npz").read_bytes()
    run(root, "--out", str(root / "whole"))
    assert (root / "whole/lists_test_improved.npz").read_bytes() == resumed


def stop_and_run(root: Path, monkeypatch) -> list[int]:
    measured = stop_at(monkeypatch, None)
    run(root)
    return measured


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "half written"])
def test_a_damaged_chunk_is_made_again(root, interrupted, damage, monkeypatch):
    chunk = interrupted / "000001.npz"
    data = bytearray(chunk.read_bytes())
    if damage == "cut":
        chunk.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        data[60] ^= 1
        chunk.write_bytes(data)
    elif damage == "empty":
        chunk.write_bytes(b"")
    else:
        chunk.rename(interrupted / ".000001.npz.abc.part")
    assert stop_and_run(root, monkeypatch) == [1, 3, 4]
    lose_measurements(root)
    assert [open_kitti(root).depth(n)[0, 0, 0] for n in range(4)] == [1, 2, 3, 4]


def test_chunks_of_another_list_are_not_used(root, interrupted, monkeypatch):
    lines = (root / "lists/test_files.txt").read_text().splitlines()
    (root / "lists/test_files.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    assert stop_and_run(root, monkeypatch) == [1, 0, 3, 4]


def test_chunks_of_other_measurements_are_not_used(root, interrupted, monkeypatch):
    moved = root / "copy"
    moved.mkdir()
    for item in (DRIVE.split("/")[0], "lists"):
        (root / item).rename(moved / item)
    measured = stop_at(monkeypatch, None)
    data = ["--data_path", str(moved), "--split", str(moved / "lists"), "--set", "intrinsics=fixed"]
    export_gt_depth.main([*data, "--ground_truth", "improved", "--out", str(root / "gt_depths")])
    assert measured == [0, 1, 2, 3, 4]


def test_a_killed_export_loses_what_it_had_not_saved(tmp_path):
    def begin() -> Export:
        return Export(tmp_path / "maps.npz", [f"{n}" for n in range(5)], "drawn")

    killed = begin()
    killed.add(0, encode(rig(0.1, 0)))
    killed.add(1, None)
    killed.save()
    killed.add(2, encode(rig(0.1, 2)))
    again = begin()
    assert again.left == [2, 3, 4]
    for n in again.left:
        again.add(n, encode(rig(0.1, n)))
    assert again.finish() == 4
    exported = ExportedDepth(tmp_path / "maps.npz")
    assert np.array_equal(exported.get("2"), rig(0.1, 2)) and exported.get("1") is None


def test_a_finished_export_is_written_again(root, monkeypatch):
    run(root)
    assert stop_and_run(root, monkeypatch) == [0, 1, 2, 3, 4]


def test_a_folder_that_cannot_be_written_is_named(root, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="gt_depths cannot be written; give another folder with --out"):
        run(root)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--ground_truth", "velodyne"], r"to write to .*lists_test_velodyne\.npz: none of the 5 samples"),
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
def test_a_shard_is_counted_from_one(root, shard):
    with pytest.raises(InputError, match="--shard must be 1/N to N/N"):
        run(root, "--shard", shard)


def test_a_dataset_without_depth_is_named(tmp_path):
    make(Plan("kitti_odom", tmp_path, 2, 3, 32, 64, 0, "png"))
    words = ["--dataset", "kitti_odom", "--data_path", str(tmp_path), "--split", str(tmp_path / "splits")]
    with pytest.raises(InputError, match="kitti_odom has no depth, so there is nothing to export"):
        export_gt_depth.main(words)


def test_a_file_of_another_kind_is_named(tmp_path):
    np.savez(tmp_path / "maps.npz", data=np.ones(3))
    with pytest.raises(InputError, match=r"maps.npz cannot be read as exported ground truth"):
        ExportedDepth(tmp_path / "maps.npz").get("a")
    (tmp_path / "maps.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"maps.npz cannot be read as exported ground truth"):
        ExportedDepth(tmp_path / "maps.npz").get("a")


def test_leading_tilde_is_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    settings = ["--ground_truth", "improved", "--set", "intrinsics=fixed"]
    export_gt_depth.main(
        ["--data_path=~", "--split=~/lists", "--part", "val", "--out=~/ground_truth", *settings]
    )
    assert (root / "ground_truth/lists_val_improved.npz").is_file() and not Path("~").exists()
