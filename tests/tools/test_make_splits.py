"""tools/make_splits.py, run as people run it."""

import subprocess
import sys

import numpy as np
import pytest

from datasets.splits import eigen_to_benchmark_ids, load_split, read_split_file
from utils import PROJECT


def make_splits(*arguments, cwd):
    command = [sys.executable, str(PROJECT / "tools" / "make_splits.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def samples(path):
    return [line.key for line in read_split_file(path)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every KITTI list in the published form; the folder and what was said."""
    folder = tmp_path_factory.mktemp("lists")
    return folder, make_splits("--export", folder, cwd=folder)


def test_export_writes_one_sample_per_line(exported):
    folder, result = exported
    assert result.returncode == 0, result.stderr
    lines = (folder / "kitti" / "eigen" / "test_files.txt").read_text().splitlines()
    assert len(lines) == 697 and lines[0] == "2011_09_26/2011_09_26_drive_0002_sync 69 l"
    assert f"{folder}/kitti/odom/test_files_09.txt: 1590 samples" in result.stdout


@pytest.mark.parametrize("split", ["eigen_zhou", "odom", "benchmark"])
def test_exported_lists_read_back_as_the_split(exported, split):
    folder, _ = exported
    ours = [line.key for line in load_split("kitti", split, "train")]
    assert samples(folder / "kitti" / split / "train_files.txt") == ours


def test_export_writes_the_benchmark_ids(exported):
    folder, _ = exported
    ids = np.load(folder / "kitti" / "benchmark" / "eigen_to_benchmark_ids.npy")
    np.testing.assert_array_equal(ids, eigen_to_benchmark_ids())


def test_one_split_can_be_exported_by_itself(tmp_path):
    result = make_splits("--export", "lists", "--dataset", "kitti", "--split", "eigen", cwd=tmp_path)
    assert result.stdout == "lists/kitti/eigen/test_files.txt: 697 samples\n"
    assert [path.name for path in (tmp_path / "lists" / "kitti").iterdir()] == ["eigen"]


def test_packing_train_without_val_gives_our_own_files(exported, tmp_path):
    lists = exported[0] / "kitti" / "eigen_zhou"
    make_splits("--pack", lists / "val_files.txt", "--out", "val.txt", cwd=tmp_path)
    packing = ["--pack", lists / "train_files.txt", "--without", "val.txt", "--out", "train.txt"]
    result = make_splits(*packing, cwd=tmp_path)
    assert result.stdout.startswith("train.txt: 39810 samples in 33 lines")
    for part in ("train.txt", "val.txt"):
        ours = (PROJECT / "splits" / "kitti" / "eigen_zhou" / part).read_text().splitlines()
        packed = (tmp_path / part).read_text().splitlines()
        assert [line for line in packed if line[0] != "#"] == [line for line in ours if line[0] != "#"]


def test_a_packed_test_list_keeps_its_order_when_asked(exported, tmp_path):
    published = exported[0] / "kitti" / "eigen" / "test_files.txt"
    make_splits("--pack", published, "--keep_order", "--out", "test.txt", cwd=tmp_path)
    assert samples(tmp_path / "test.txt") == samples(published)


def test_an_unknown_split_is_answered_in_one_sentence(tmp_path):
    result = make_splits("--export", "lists", "--split", "eigen_ful", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: kitti has no split 'eigen_ful'; did you mean 'eigen_full'?")


def test_lists_with_common_samples_cannot_be_packed_apart(tmp_path):
    (tmp_path / "train_files.txt").write_text("8 4 l\n8 5 l\n")
    (tmp_path / "val.txt").write_text("8 l 5\n")
    packing = ["--pack", "train_files.txt", "--without", "val.txt", "--out", "train.txt"]
    result = make_splits(*packing, cwd=tmp_path)
    assert result.stderr == (
        "error: train_files.txt and val.txt share 1 samples; --without needs none in common\n"
    )
    assert not (tmp_path / "train.txt").exists()
