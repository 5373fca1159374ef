"""Label tables and folders: known values, public tables, and refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets._cityscapes_labels import LABEL_IDS, to_train_ids
from datasets._labels import TABLES, cityscapes_table, load_label_table
from datasets.label_folder import LabelFolder
from utils import InputError

TABLE = """
images: images/{part}/{name}.jpg
labels: labels/{part}/{name}.png
classes:
  - {name: road, colour: [128, 64, 128], moves: false}
  - {name: car, colour: [0, 0, 142], moves: true}
ids: {7: road, 26: car, 0: ignored}
"""


def save(path, values, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **settings)


def draw(root, table=TABLE, parts=("train", "val")):
    """Two parts of two images, left half road, right half car, upper row ignored."""
    (root / "labels.yaml").write_text(table)
    labels = np.full((64, 96), 7, np.uint8)
    labels[:, 48:] = 26
    labels[0] = 0
    for part in parts:
        for name in ("a", "b"):
            save(root / "images" / part / f"{name}.jpg", np.full((64, 96, 3), 99, np.uint8))
            save(root / "labels" / part / f"{name}.png", labels)
    return root


def open_folder(root, **settings):
    options = {"dataset": "label_folder", "data_path": root, "height": 32, "width": 96}
    return build_dataset({**options, **settings})


def test_a_folder_gives_images_with_train_ids_at_network_size(tmp_path):
    dataset = open_folder(draw(tmp_path), part="train")
    sample = dataset[0]
    labels = sample.maps["labels"]
    assert len(dataset) == 2 and dataset.name(0) == "images/train/a.jpg"
    assert sample.images[0].shape == (1, 3, 32, 96) and labels.shape == (1, 1, 32, 96)
    assert labels.dtype == torch.uint8 and set(labels.unique().tolist()) <= {0, 1, 255}
    assert (labels[0, 0, 5, :48] == 0).all() and (labels[0, 0, 5, 48:] == 1).all()
    assert (dataset.train_ids(dataset.samples[0])[0] == 255).all()
    assert dataset.label_table.names == ("road", "car") and dataset.label_table.moves == (1,)


def test_parts_may_have_other_names_on_disk(tmp_path):
    root = draw(tmp_path, TABLE + "parts: {val: validation}\n", parts=("train", "validation"))
    assert open_folder(root, part="val").name(0) == "images/validation/a.jpg"
    assert len(open_folder(root, part="all")) == 4


def test_share_is_held_out_without_parts(tmp_path):
    root = draw(tmp_path, TABLE.replace("{part}/", ""))
    parts = {p: {pair.image for pair in open_folder(root, part=p).samples} for p in ("train", "val", "all")}
    assert len(parts["all"]) == 4 and len(parts["val"]) == 1
    assert parts["train"] | parts["val"] == parts["all"] and not parts["train"] & parts["val"]


def test_colours_in_the_files_are_read_if_the_table_lists_them(tmp_path):
    table = TABLE.replace("ids: {7: road, 26: car, 0: ignored}", 'colours: {"9 9 9": road, "200 0 7": car}')
    root = draw(tmp_path, table)
    colours = np.full((64, 96, 3), 9, np.uint8)
    colours[:, 50:] = 200, 0, 7
    for name in "ab":
        save(root / "labels/train" / f"{name}.png", colours)
    labels = open_folder(root, part="train").train_ids(open_folder(root, part="train").samples[0])
    assert (labels[:, :50] == 0).all() and (labels[:, 50:] == 1).all()
    colours[3, 3] = 1, 2, 3
    save(root / "labels/train/a.png", colours)
    with pytest.raises(
        InputError, match=r'a.png: colour "1 2 3" is not in .*labels.yaml; add `"1 2 3": ignored`'
    ):
        open_folder(root, part="train")[0]


def test_ids_of_a_palette_image_are_ids(tmp_path):
    root = draw(tmp_path)
    palette = Image.fromarray(np.full((64, 96), 26, np.uint8)).convert("P")
    palette.putpalette([255, 0, 0] * 256)
    palette.save(root / "labels/train/a.png")
    assert (open_folder(root, part="train")[0].maps["labels"] == 1).all()


@pytest.mark.parametrize(
    "values, words",
    [
        (np.full((64, 96), 12, np.uint8), r"label id 12 is not in .*labels.yaml; add `12: ignored`"),
        (np.full((32, 96), 7, np.uint8), r"is 96x32 and its image .*a.jpg is 96x64"),
        (
            np.full((64, 96, 3), 7, np.uint8),
            r"holds colours \(shape \(64, 96, 3\)\).* take the files of label",
        ),
    ],
)
def test_label_files_that_do_not_fit_are_refused(tmp_path, values, words):
    root = draw(tmp_path)
    save(root / "labels/train/a.png", values)
    with pytest.raises(InputError, match=words):
        open_folder(root, part="train")[0]


def test_an_image_without_labels_is_named_and_can_be_skipped(tmp_path):
    root = draw(tmp_path)
    (root / "labels/train/b.png").unlink()
    with pytest.raises(InputError, match=r"b.jpg has no labels .*b.png; 1 of 2 images lack"):
        open_folder(root, part="train")
    assert len(open_folder(root, part="train", skip_missing=True)) == 1


@pytest.mark.parametrize(
    "change, words",
    [
        (("7: road", "7: raod"), "ids 7 names no class 'raod'; did you mean 'road'"),
        (("ids: {", "ids: {x: car, "), "a label id is a whole number of 0 to 65535, got 'x'"),
        (("ids", "idz"), "has a key 'idz' .* did you mean 'ids'"),
        (("moves: true", "moves: 1"), "class car moves: true or false, got 1"),
        (("[0, 0, 142]", "[0, 0]"), r"a colour is three numbers of 0 to 255, got \[0, 0\]"),
        (("ids: {7: road, 26: car, 0: ignored}", ""), "either `ids` or `colours`"),
        (("labels/{part}", "labels"), "need the same fields in braces"),
        (("name: car", "name: road"), "class names must differ"),
        (("ids: {", "ids: {{"), "labels.yaml is not valid YAML"),
        (("classes:", "classes: 3\nparts:"), "needs `classes`: cityscapes, or a list"),
        (("images/{part}", "photos/{part}"), r"there are no images photos/\{part\}"),
    ],
)
def test_invalid_table_is_refused(tmp_path, change, words):
    root = draw(tmp_path, TABLE.replace(*change))
    with pytest.raises(InputError, match=words):
        open_folder(root, part="train")


def test_a_video_is_not_read_from_single_images(tmp_path):
    with pytest.raises(InputError, match="frame_ids is 0, got 0 -1 1"):
        LabelFolder(draw(tmp_path), frame_ids=(0, -1, 1))


@pytest.mark.parametrize("name", sorted(file.stem for file in TABLES.glob("*.yaml")))
def test_public_tables_use_cityscapes_classes(name):
    table = load_label_table(name)
    assert len(table.names) == len(LABEL_IDS) == 19
    assert {table.names[n] for n in table.moves} == {
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    }  # fmt: skip
    assert set((table.ids or table.colours).values()) <= {*range(19), 255}


def test_cityscapes_table_agrees_with_its_reader():
    ids = np.arange(34, dtype=np.uint8)
    assert np.array_equal(cityscapes_table().to_train_ids(ids), to_train_ids(ids, "7.png"))
    image = cityscapes_table().colourise(np.array([[0, 13, 255]]))
    assert image.tolist() == [[[128, 64, 128], [0, 0, 142], [0, 0, 0]]]


@pytest.mark.parametrize("name, images", [("mapillary", 66), ("bdd100k", 20), ("kitti_semantic", 34)])
def test_public_tables_list_every_id(name, images):
    assert len(load_label_table(name).ids) == images


def test_unknown_table_is_refused_with_the_available_ones():
    with pytest.raises(InputError, match=r"no label table mapilary; .*mapillary, virtual_kitti"):
        load_label_table("mapilary")
