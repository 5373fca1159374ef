"""Split lists: the content of ours, the formats, and refusals of broken lists."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datasets import splits
from datasets.splits import (
    SplitLine,
    compact_lines,
    eigen_to_benchmark_ids,
    load_split,
    parts,
    published_lines,
    read_split_file,
    split_names,
)
from utils import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
PUBLISHED = SHARED / "splits" / "kitti"  # the published lists, where they are at hand

COUNTS = {
    ("eigen", "test"): 697,
    ("eigen_benchmark", "test"): 652,
    ("eigen_refine", "train"): 697,
    ("eigen_refine", "val"): 697,
    ("eigen_full", "train"): 45200,
    ("eigen_full", "val"): 1776,
    ("eigen_zhou", "train"): 39810,
    ("eigen_zhou", "val"): 4424,
    ("benchmark", "train"): 72084,
    ("benchmark", "val"): 6060,
    ("benchmark", "test"): 500,
    ("odom", "train"): 36671,
    ("odom", "val"): 4075,
    ("odom", "test_09"): 1590,
    ("odom", "test_10"): 1200,
}
EACH_LIST = pytest.mark.parametrize(("split", "part"), COUNTS, ids=[" ".join(key) for key in COUNTS])


def kitti(split, part):
    return [line.key for line in load_split("kitti", split, part)]


def drives(split, part):
    return {line.folder for line in load_split("kitti", split, part)}


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def refusal(path):
    with pytest.raises(InputError) as error:
        read_split_file(path)
    return str(error.value)


# ------------------------------------------------------------------------------------- content of our lists


@EACH_LIST
def test_a_list_has_as_many_samples_as_published_and_none_twice(split, part):
    samples = kitti(split, part)
    assert len(samples) == len(set(samples)) == COUNTS[split, part]


@EACH_LIST
def test_a_list_holds_what_the_published_one_does(split, part):
    kind, _, which = part.partition("_")
    published = PUBLISHED / split / f"{kind}_files{'_' if which else ''}{which}.txt"
    if not published.exists():
        pytest.skip("the published lists are not at hand")
    expected = [line.key for line in read_split_file(published)]
    ours = kitti(split, part)
    assert ours == expected if kind == "test" else Counter(ours) == Counter(expected)


def test_kitti_has_these_splits_and_parts():
    assert {(split, part) for split in split_names("kitti") for part in parts("kitti", split)} == set(COUNTS)


def test_every_split_names_its_source():
    assert all((splits.SPLITS / "kitti" / split / "README.md").is_file() for split in split_names("kitti"))


def test_the_eigen_list_keeps_its_order():
    drive = "2011_09_26/2011_09_26_drive_0002_sync"
    assert kitti("eigen", "test")[:4] == [
        (drive, 69, "l"),
        (drive, 54, "l"),
        (drive, 42, "l"),
        (drive, 57, "l"),
    ]
    assert kitti("eigen", "test")[-1] == ("2011_10_03/2011_10_03_drive_0047_sync", 768, "l")


def test_improved_ground_truth_has_eigen_frames_in_order():
    eigen, ids = kitti("eigen", "test"), eigen_to_benchmark_ids()
    assert ids.shape == (652,) and ids.dtype == np.int64 and (np.diff(ids) > 0).all()
    assert [eigen[i] for i in ids] == kitti("eigen_benchmark", "test")


def test_the_benchmark_ids_are_the_published_ones():
    published = PUBLISHED / "benchmark" / "eigen_to_benchmark_ids.npy"
    if not published.exists():
        pytest.skip("the published lists are not at hand")
    np.testing.assert_array_equal(eigen_to_benchmark_ids(), np.load(published))


def test_improved_ground_truth_is_missing_only_at_drive_ends():
    with_ground_truth = set(kitti("eigen_benchmark", "test"))
    last = {folder: frame for folder, frame, _ in sorted(with_ground_truth)}
    for folder, frame, side in kitti("eigen", "test"):
        inside = 5 <= frame <= last[folder]
        assert ((folder, frame, side) in with_ground_truth) == inside


@pytest.mark.parametrize("split", ["eigen_zhou", "eigen_full", "benchmark", "odom"])
def test_no_sample_is_both_trained_on_and_validated(split):
    assert not set(kitti(split, "train")) & set(kitti(split, "val"))


@pytest.mark.parametrize("split", ["eigen_zhou", "eigen_full"])
def test_no_eigen_test_drive_is_trained_on(split):
    assert not (drives(split, "train") | drives(split, "val")) & drives("eigen", "test")


def test_eigen_full_is_33_drives_from_both_cameras():
    samples = set(kitti("eigen_full", "train") + kitti("eigen_full", "val"))
    last = {folder: frame for folder, frame, _ in sorted(samples)}
    assert len(last) == 33
    assert samples == {(d, f, side) for d in last for f in range(last[d] + 1) for side in "lr"}


def test_zhou_trains_on_moving_frames_that_have_both_neighbours():
    static = SHARED / "splits" / "sfmlearner" / "static_frames.txt"
    if not static.exists():
        pytest.skip("SfMLearner's list of static frames is not at hand")
    still = {
        (f"{date}/{drive}", int(frame))
        for date, drive, frame in map(str.split, static.read_text().splitlines())
    }
    full = kitti("eigen_full", "train") + kitti("eigen_full", "val")
    last = {folder: frame for folder, frame, _ in sorted(full)}
    moving = {(d, f, side) for d, f, side in full if 0 < f < last[d] and (d, f) not in still}
    assert set(kitti("eigen_zhou", "train") + kitti("eigen_zhou", "val")) == moving


def test_benchmark_has_zhous_frames_minus_four_at_each_end():
    zhou = kitti("eigen_zhou", "train") + kitti("eigen_zhou", "val")
    full = kitti("eigen_full", "train") + kitti("eigen_full", "val")
    benchmark = kitti("benchmark", "train") + kitti("benchmark", "val")
    last = {folder: frame for folder, frame, _ in sorted(full)}
    assert {s for s in benchmark if s[0] in last} == {s for s in zhou if 5 <= s[1] <= last[s[0]] - 5}


def test_odometry_trains_on_0_to_8_and_tests_on_9_and_10():
    assert drives("odom", "train") == drives("odom", "val") == set("012345678")
    assert kitti("odom", "test_09") == [("9", frame, "l") for frame in range(1590)]
    assert kitti("odom", "test_10") == [("10", frame, "l") for frame in range(1200)]


def test_images_of_the_server_have_a_number_without_side():
    first, second, *_ = load_split("kitti", "benchmark", "test")
    assert (first.folder, first.frame, first.side) == ("image", 0, None)
    assert (second.folder, second.frame, second.side) == ("image", 1, None)


def test_all_kitti_lists_together_stay_small():
    assert sum(path.stat().st_size for path in (splits.SPLITS / "kitti").rglob("*.txt")) < 60_000


def test_longest_list_loads_fast():
    start = time.process_time()
    load_split("kitti", "benchmark", "train")
    assert time.process_time() - start < 1  # about 0.1 s on an idle machine


# ------------------------------------------------------------------------------------------ how a list reads


def test_a_compact_line_holds_runs_of_both_cameras(tmp_path):
    path = write(tmp_path, "a.txt", "# a comment\n\n2011_09_26_drive_0022 lr 4-5,9\n")
    folder = "2011_09_26/2011_09_26_drive_0022_sync"
    lines = read_split_file(path)
    assert [(line.frame, line.side) for line in lines] == [(f, side) for f in (4, 5, 9) for side in "lr"]
    assert {line.folder for line in lines} == {folder}


def test_a_list_includes_another_and_leaves_out_a_third(tmp_path):
    write(tmp_path, "all.txt", "8 lr 0-3\n9 l 7\n")
    write(tmp_path, "val.txt", "8 r 2\n")
    path = write(tmp_path, "train.txt", "include all.txt\nwithout val.txt\nwithout 8 l 0-1\n")
    samples = [line.key for line in read_split_file(path)]
    assert samples == [
        ("8", 0, "r"),
        ("8", 1, "r"),
        ("8", 2, "l"),
        ("8", 3, "l"),
        ("8", 3, "r"),
        ("9", 7, "l"),
    ]


def test_a_published_line_holds_folder_frame_and_side(tmp_path):
    path = write(tmp_path, "a.txt", "a/b 0000000069 l\na/b 3 r\n\na/b 4 2\na/b 4 3\n")
    samples = [line.key for line in read_split_file(path)]
    assert samples == [("a/b", 69, "l"), ("a/b", 3, "r"), ("a/b", 4, "l"), ("a/b", 4, "r")]


def test_a_published_list_of_images_leaves_out_side_or_frame(tmp_path):
    numbered, named = (
        write(tmp_path, "a.txt", "image 0\nimage 7\n"),
        write(tmp_path, "b.txt", "one.jpg\ntwo.jpg\n"),
    )
    assert [line.key for line in read_split_file(numbered)] == [("image", 0, ""), ("image", 7, "")]
    assert [line.key for line in read_split_file(named)] == [("one.jpg", 0, ""), ("two.jpg", 0, "")]
    assert read_split_file(numbered)[0].side is None


def test_a_sample_knows_the_line_it_comes_from(tmp_path):
    path = write(tmp_path, "a.txt", "\na/b 5 l\n")
    assert read_split_file(path)[0].source == f"{path}, line 2"
    assert load_split("kitti", "eigen", "test")[0].source == "splits/kitti/eigen/test.txt, line 3"
    assert load_split("kitti", "eigen_benchmark", "test")[0].source == "splits/kitti/eigen/test.txt, line 3"


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa/b 5 l\r\na/b 6 r\r\n")
    assert [line.key for line in read_split_file(path)] == [("a/b", 5, "l"), ("a/b", 6, "r")]


def test_a_folder_of_your_own_is_a_split(tmp_path, monkeypatch):
    write(tmp_path / "mine", "train_files.txt", "a/b 5 l\n")
    write(tmp_path / "mine", "test_files_09.txt", "a/b 6 l\n")
    assert parts("kitti", str(tmp_path / "mine")) == ["test_09", "train"]
    assert load_split("kitti", str(tmp_path / "mine"), "test_09")[0].frame == 6
    monkeypatch.chdir(tmp_path)
    assert load_split("kitti", "mine", "train")[0].frame == 5


@pytest.mark.parametrize("keep_order", [False, True])
def test_packed_list_is_read_back_unchanged(tmp_path, keep_order):
    lines = ["8 12 l", "8 11 l", "8 11 r", "8 12 r", "8 12 r", "x/y 3 l", "x/y 4 r", "10 0 l", "9 0 l"]
    lines += [f"2011_09_26/2011_09_26_drive_0001_sync {frame} l" for frame in (5, 3, 4)]
    samples = read_split_file(write(tmp_path, "published.txt", "\n".join(lines)))
    packed = write(tmp_path, "packed.txt", "\n".join(compact_lines(samples, keep_order)))
    back = published_lines(read_split_file(packed))
    assert back == lines if keep_order else sorted(back) == sorted(lines)


def test_packing_joins_neighbouring_frames_and_equal_cameras():
    samples = [SplitLine("8", frame, side, "") for frame in (7, 1, 3, 2) for side in "rl"]
    samples += [
        SplitLine("2011_09_26/2011_09_26_drive_0001_sync", 5, "l", ""),
        SplitLine("image", 0, None, ""),
    ]
    assert compact_lines(samples) == ["8 lr 1-3,7", "image - 0", "2011_09_26_drive_0001 l 5"]


# ------------------------------------------------------------------------------ how a broken list is answered


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("a/b 5", "expected '<folder> <frame> <side>', got 'a/b 5'"),
        ("a/b 5 l 7", "expected '<folder> <frame> <side>', got 'a/b 5 l 7'"),
        ("a/b five l", "expected '<folder> <frame> <side>' with a frame number from 0 on, got 'a/b five l'"),
        ("a/b -5 l", "expected '<folder> <frame> <side>' with a frame number from 0 on, got 'a/b -5 l'"),
        ("a/b 5.0 l", "expected '<folder> <frame> <side>' with a frame number from 0 on, got 'a/b 5.0 l'"),
        ("a/b 5 x", "expected '<folder> <frame> <side>' with side l, r, 2 or 3, got 'a/b 5 x'"),
    ],
)
def test_a_published_line_that_does_not_parse_is_quoted(tmp_path, line, answer):
    path = write(tmp_path, "train_files.txt", f"a/b 4 l\n{line}\n")
    assert refusal(path) == f"{path}, line 2: {answer}"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("8 x 5", "expected '<drive> <l, r, lr or -> <frames such as 1-5,9>', got '8 x 5'"),
        ("8 l 5,", "expected '<drive> <l, r, lr or -> <frames such as 1-5,9>', got '8 l 5,'"),
        ("8 l -5", "expected '<drive> <l, r, lr or -> <frames such as 1-5,9>', got '8 l -5'"),
        ("8 5", "expected '<drive> <l, r, lr or -> <frames such as 1-5,9>', got '8 5'"),
        ("8 l 5-1", "the run 5-1 goes backwards; did you mean 1-5?"),
        (
            "8 l 0-99999999999",
            "the run 0-99999999999 has more than 1000000 frames; is there a digit too many?",
        ),
    ],
)
def test_a_compact_line_that_does_not_parse_is_quoted(tmp_path, line, answer):
    path = write(tmp_path, "train.txt", f"8 l 4\n{line}\n")
    assert refusal(path) == f"{path}, line 2: {answer}"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "8 l 5\nwithout 8 l 5\n"])
def test_a_list_without_samples_is_refused(tmp_path, text):
    path = write(tmp_path, "train.txt", text)
    assert refusal(path) == f"{path} holds no sample"


def test_missing_list_is_named(tmp_path):
    assert refusal(tmp_path / "train.txt") == f"there is no file {tmp_path}/train.txt"
    path = write(tmp_path, "train.txt", "8 l 5\nwithout val.txt\n")
    assert refusal(path) == f"{path}, line 2: there is no file {tmp_path}/val.txt"


def test_lists_that_include_each_other_are_refused(tmp_path):
    path = write(tmp_path, "train.txt", "8 l 5\nwithout val.txt\n")
    write(tmp_path, "val.txt", "8 l 6\nwithout train.txt\n")
    assert refusal(path) == f"{path} includes itself"


def test_image_is_not_a_list(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    assert refusal(path) == f"{path} is not a text file"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (("kitty", "eigen", "test"), "there are no splits for 'kitty'; did you mean 'kitti'?"),
        (("kitti", "eigen_zou", "train"), "kitti has no split 'eigen_zou'; did you mean 'eigen_zhou'?"),
        (("kitti", "", "train"), "kitti has no split '' (available: benchmark, "),
        (("kitti", "odom", "test_9"), "split 'odom' has no part 'test_9'; did you mean 'test_09'?"),
        (("kitti", "splits/nowhere", "train"), "there is no folder splits/nowhere"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(request_, answer):
    with pytest.raises(InputError) as error:
        load_split(*request_)
    assert str(error.value).startswith(answer)


def test_folder_without_lists_or_with_a_duplicate_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no split list; expected"):
        load_split("kitti", str(tmp_path), "train")
    write(tmp_path, "train.txt", "8 l 5\n")
    write(tmp_path, "train_files.txt", "8 5 l\n")
    with pytest.raises(InputError, match=r"holds both train\.txt and train_files\.txt; keep one"):
        load_split("kitti", str(tmp_path), "train")
