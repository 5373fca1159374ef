"""The same frame in every published form; lists, hashes and what a checkpoint stores."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from datasets.frame_lists import FrameList, read_frames, training_list
from datasets.frame_names import ALL, Frame, parse_frame
from utils import PROJECT, InputError

SPLITS = PROJECT.parent / "shared" / "splits"
TOKEN = "3e8750f331d7499e9b5123e9eb70f2e2"
KITTI = Frame("2011_09_26_drive_0002", "l", 69)


@pytest.mark.parametrize(
    "line",
    [
        "2011_09_26/2011_09_26_drive_0002_sync 69 l",
        "2011_09_26/2011_09_26_drive_0002_sync 0000000069 l",
        "2011_09_26/2011_09_26_drive_0002_sync 69 2",
        "2011_09_26_drive_0002_sync_02 0000000069",
        "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png",
        "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png "
        "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png 721.5377",
        "/data/KITTI/2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.jpg None",
        "2011_09_26_drive_0002_sync_02/0000000069.jpg",
    ],
)
def test_every_form_names_the_same_kitti_frame(line):
    assert parse_frame(line) == KITTI


def test_line_without_side_means_both_cameras():
    assert parse_frame("2011_09_26 2011_09_26_drive_0009_sync 0000000386").camera == ""


def test_odometry_frame_is_a_frame_of_its_raw_drive():
    assert parse_frame("8 5 r") == Frame("2011_09_30_drive_0028", "r", 1105)
    assert parse_frame("sequences/09/image_2/000012.png") == Frame("2011_09_30_drive_0033", "l", 12)


def test_cityscapes_scene_is_the_city():
    ulm = Frame("ulm", "", 2_000_025)
    assert parse_frame("ulm ulm_000002_000025") == ulm
    assert parse_frame("leftImg8bit/train/ulm/ulm_000002_000025_leftImg8bit.png") == ulm


def test_token_is_the_same_frame_with_and_without_its_scene():
    alone, named = parse_frame(TOKEN), parse_frame(f"scene-0103 {TOKEN}")
    assert (alone.scene, named.scene) == ("", "scene-0103")
    assert alone.key == named.key


def test_only_a_scene_means_all_its_frames():
    assert parse_frame("scene-0103") == Frame("scene-0103", "", ALL)
    assert parse_frame("000150/scene_0a1b.json") == Frame("000150", "", ALL)


def test_file_name_with_blanks_is_one_path():
    assert parse_frame("my walk/frame 0012.jpg") == Frame("my walk/frame ", "", 12)


def test_hash_ignores_order_repetition_and_form(tmp_path):
    one = ["2011_09_26/2011_09_26_drive_0002_sync 69 l", "2011_09_26/2011_09_26_drive_0002_sync 70 r"]
    two = ["2011_09_26_drive_0002_sync_03 70", *one[:1], "2011_09_26_drive_0002_sync_02 69"]
    three = ["2011_09_26_drive_0002 l 69", "2011_09_26_drive_0002 r 70"]  # our compact form
    hashes = []
    for number, lines in enumerate((one, two, three)):
        path = tmp_path / f"{number}.txt"
        path.write_text("\n".join(lines) + "\n")
        hashes.append(read_frames(path).hash)
    assert len(set(hashes)) == 1
    assert FrameList([KITTI], "").hash != hashes[0]


def test_packed_list_unpacks_to_the_same_frames():
    names = ["12-13", "a=b", "0012"]
    frames = [Frame("s", "l", n) for n in (1, 2, 3, 7)] + [Frame("s t", "", name) for name in names]
    frames.append(Frame("whole", "", ALL))
    packed = FrameList(frames, "").pack()
    assert packed[0] == "s\tl\t1-3,7"
    assert set(FrameList.unpack(packed, "").frames) == set(frames)


@pytest.mark.parametrize("line", ["a/b\tl", "a/b\tl\t5-x", "a/b\tl\t0-99999999999"])
def test_damaged_packed_list_is_refused(line):
    with pytest.raises(InputError, match=r"the list of training frames of kitti is damaged at 'a/b"):
        FrameList.unpack([line], "kitti")


def test_json_of_dgp_needs_its_part(tmp_path):
    path = tmp_path / "ddad.json"
    parts = {"0": {"filenames": ["000000/scene_a.json"]}, "1": {"filenames": ["000150/scene_b.json"]}}
    path.write_text(json.dumps({"metadata": {"name": "DDAD"}, "scene_splits": parts}))
    assert read_frames(f"{path}#1").frames == [Frame("000150", "", ALL)]
    with pytest.raises(InputError, match=r"holds the parts 0, 1; write .*ddad.json#0"):
        read_frames(path)
    with pytest.raises(InputError, match="has no part '7'"):
        read_frames(f"{path}#7")


def test_json_entries_count_by_their_image(tmp_path):
    path = tmp_path / "list.json"
    entries = [
        {"rgb": "walk/0001.png", "depth": "depth/0001.png"},
        {"rgb": "walk/0002.png", "depth": "x.png"},
    ]
    path.write_text(json.dumps({"files": entries}))
    assert read_frames(path).frames == [Frame("walk", "", 1), Frame("walk", "", 2)]


def test_folder_and_folder_inside_it_share_scenes(tmp_path):
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "0001.jpg").touch()
    (tmp_path / "drive.mp4").touch()
    frames = read_frames(tmp_path)
    assert Frame(str(tmp_path.resolve() / "drive.mp4"), "", ALL) in frames.frames
    assert read_frames(tmp_path / "walk").frames[0] in frames.frames


def test_tokens_get_their_scenes_from_the_tables(tmp_path):
    tables = tmp_path / "v1.0-mini"
    tables.mkdir()
    (tables / "scene.json").write_text(json.dumps([{"token": "s", "name": "scene-0103"}]))
    (tables / "sample.json").write_text(json.dumps([{"token": TOKEN, "scene_token": "s"}]))
    (tmp_path / "list.txt").write_text(TOKEN + "\n")
    assert read_frames(tmp_path / "list.txt", tmp_path).frames == [Frame("scene-0103", "", TOKEN)]


def test_missing_or_empty_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="no list or folder"):
        read_frames(tmp_path / "absent.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no frame"):
        read_frames(tmp_path / "empty.txt")


class Drives(SimpleNamespace):
    def __len__(self):
        return len(self.names)

    def name(self, index):
        return self.names[index]


def test_record_holds_companion_and_earlier_lists_once():
    main, other = (
        Drives(names=["2011_09_26/2011_09_26_drive_0002_sync 69 l"]),
        Drives(names=["ulm ulm_000002_000025"]),
    )
    wrapped = SimpleNamespace(dataset=SimpleNamespace(dataset=main), companion=other)
    first = training_list(main)
    earlier = [*first, {"dataset": "x", "frames": 1, "hash": "h", "lines": ["a\t\t1"]}]
    records = training_list(wrapped, SimpleNamespace(training_data=earlier))
    assert [record["frames"] for record in records] == [1, 1, 1]
    assert {first[0]["hash"], "h"} < {record["hash"] for record in records}
    assert first[0]["lines"] == ["2011_09_26_drive_0002\tl\t69"]


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the lists in ../shared/splits")
def test_our_list_and_the_published_one_have_one_hash():
    ours = read_frames(PROJECT / "splits/kitti/eigen_zhou/train.txt")
    published = read_frames(SPLITS / "kitti/eigen_zhou/train_files.txt")
    assert len(ours) == 39_810
    assert ours.hash == published.hash == "11741875e93e"
