"""SGDepth's JSON lists: which frames of them are samples, and what they say if they do not fit."""

import json

import pytest

from datasets.cityscapes import Cityscapes
from datasets.kitti import Kitti
from datasets.splits import load_split, parts
from utils import InputError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


def write(folder, part="train", **categories):
    """A list; a category is its files with their positions."""
    folder.mkdir(exist_ok=True)
    content = {
        "names": list(categories),
        "types": ["image"] * len(categories),
        "folders": [[]] * len(categories),
        "files": [[file for file, _ in rows] for rows in categories.values()],
        "positions": [[row for _, row in rows] for rows in categories.values()],
    }
    (folder / f"{part}.json").write_text(json.dumps(content))
    return folder


def images(camera, count=6, drive=DRIVE):
    return [
        (f"Raw_data/{drive}/image_0{camera}/data/{n:010d}.png", [n, n, count - 1 - n, n])
        for n in range(count)
    ]


def test_frames_of_both_cameras_with_two_neighbours_train(tiny_kitti, tmp_path):
    lists = write(tmp_path / "kitti_zhou_split", color=images(2), color_right=images(3))
    write(lists, "validation", color=images(2))
    assert parts("kitti", str(lists)) == ["train", "val"]
    dataset = Kitti(tiny_kitti, lists, "train", height=64, width=96)
    keys = [sample.key for sample in dataset.samples]
    assert keys == [(DRIVE, n, side) for side in "lr" for n in (1, 2, 3, 4)]
    assert dataset[0].images[1].shape == (1, 3, 64, 96)
    assert len(load_split("kitti", str(lists), "val")) == 6  # single frames are evaluated


def test_only_labelled_frames_of_cityscapes_are_read(worlds, tmp_path):
    root = worlds.get("cityscapes")
    image = next((root / "leftImg8bit/train").rglob("*.png")).relative_to(root)
    other = image.with_name("aachen_000009_000019_leftImg8bit.png")
    labels = str(image).replace("leftImg8bit", "gtFine").replace("_gtFine.", "_gtFine_labelIds.")
    color = [(str(image), [0, 0, 0, 0]), (str(other), [1, 0, 0, 1])]
    lists = write(tmp_path / "lists", color=color, segmentation=[(labels, [0, 0, 0, 0])])
    dataset = Cityscapes(root, lists, "train", frame_ids=(0,), labels=True, top_rows=1, height=64, width=96)
    assert [dataset.name(0)] == ["_".join(image.name.split("_")[:3])] and len(dataset) == 1
    assert dataset[0].maps["labels"].float().std() > 0


def test_a_list_of_missing_files_names_the_first(tiny_kitti, tmp_path):
    rows = [*images(2), *images(2, drive="2011_09_26/2011_09_26_drive_0009_sync")]
    lists = write(tmp_path / "lists", color=rows)
    words = r"lists/train.json, color 7: no image at .*drive_0009_sync/.*; 4 of 8 samples .*--skip_missing"
    with pytest.raises(InputError, match=words):
        Kitti(tiny_kitti, lists, "train", height=64, width=96)
    assert len(Kitti(tiny_kitti, lists, "train", height=64, width=96, skip_missing=True)) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"lists/train.json is not a list of SGDepth's data library \(.*\); it needs names, files and"),
        ("{}", "no entry 'names'"),
        ('{"names": ["color"], "files": [], "positions": []}', "names, files and positions of equal length"),
        (
            '{"names": ["color"], "files": [["a"]], "positions": [[[1]]]}',
            "'color' needs .* four whole numbers",
        ),
        ('{"names": ["depth"], "files": [[]], "positions": [[]]}', "has no category color; .* are depth"),
        ('{"names": ["color"], "files": [[]], "positions": [[]]}', "train.json holds no sample"),
        (
            '{"names": ["color"], "files": [["a/7.png"]], "positions": [[[0, 1, 1, 0]]]}',
            "train.json, color 0: 'a/7.png' is neither an image of KITTI raw nor of Cityscapes; write train",
        ),
    ],
)
def test_other_json_is_refused(tmp_path, content, words):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.json").write_text(content)
    with pytest.raises(InputError, match=words):
        load_split("kitti", str(tmp_path / "lists"), "train")
