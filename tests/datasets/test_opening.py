"""Datasets from options: the settings that each purpose keeps, and the network size."""

import inspect

import pytest

import run
from datasets import DATASETS, SequenceDataset, SurroundDataset, network_size, open_dataset
from datasets.opening import build_augmentation
from options import parse
from tools import doctor
from utils import InputError, settings_of

RIG = {"dataset": {"name": "ddad", "masks": True, "poses": True}, "height": 64, "width": 96}
SMALL = [
    "--encoder",
    "timm/test_efficientnet",
    "--weights_init",
    "scratch",
    "--pose_model_type",
    "posecnn",
    "--scales",
    "0",
]
SMALL += ["--batch_size", "1", "--num_workers", "0", "--device", "cpu"]


def test_base_classes_come_without_underscores():
    assert issubclass(SurroundDataset, SequenceDataset)


def test_training_has_all_and_validation_no_settings_of_losses(tiny_ddad):
    options = {**RIG, "data_path": str(tiny_ddad), "frame_ids": (0, -1, 1)}
    train, val = (open_dataset(options, purpose) for purpose in ("train", "val"))
    assert train.masks and train.poses and train.frame_ids == (0, -1, 1)
    assert not val.masks and not val.poses and val.frame_ids == (0,)
    assert set(train[0].maps) == {"ego_mask"} and val[0].maps == {}


def test_a_rig_predicts_without_the_masks_it_was_trained_with(worlds):
    root = worlds.get("ddad", frames=4)
    options = {**RIG, "data_path": "elsewhere"}
    assert not open_dataset(options, "predict", data_path=root).masks
    assert not open_dataset(options, "predict", data_path=root, masks="auto").masks
    with pytest.raises(InputError, match=r"there is no mask .*tools/make_masks.py"):
        open_dataset(options, "predict", data_path=root, masks=True)


def test_masks_are_read_at_their_path(tiny_ddad):
    assert open_dataset({**RIG, "data_path": tiny_ddad}, "predict", masks="auto").masks


def test_settings_describes_folder_stay_with_it(tiny_folder, tmp_path):
    trained = {"name": "folder", "intrinsics": "70 70 48 32", "depth_scale": 1000.0, "stride": 2}
    options = {"dataset": trained, "data_path": str(tmp_path), "height": 64, "width": 96}
    other = open_dataset(options, "evaluate", data_path=tiny_folder, part="all")
    assert other.depth_scale == 256 and other.scenes[0].intrinsics[0, 0] == 60 and other.stride == 1
    same = open_dataset({**options, "data_path": tiny_folder}, "evaluate", data_path=tiny_folder, part="all")
    assert same.depth_scale == 1000 and same.scenes[0].intrinsics[0, 0] == 70


def test_another_dataset_inherits_only_the_image_size(tiny_folder, tmp_path):
    options = {"dataset": {"name": "kitti", "baseline": 0.54}, "data_path": str(tmp_path), "split": "eigen"}
    options |= {"height": 64, "width": 96, "skip_missing": True, "resize": "lanczos"}
    dataset = open_dataset(options, "evaluate", name="folder", data_path=tiny_folder, part="all")
    assert (dataset.height, dataset.width, dataset.resize) == (64, 96, "lanczos")


def test_inspection_keeps_settings_unchanged(tiny_folder):
    section = {"name": "folder", "val_fraction": 0}
    dataset = open_dataset({"dataset": section, "data_path": tiny_folder}, "inspect")
    assert dataset.frame_ids == (0, -1, 1) and (dataset.height, dataset.width) == (192, 640)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"dataset": "folder"}, "trian"), r"there is no purpose 'trian'; did you mean 'train'"),
        (({"dataset": "foldr"}, "val"), r"there is no datasets/foldr\.py; did you mean 'folder'"),
    ],
)
def test_unknown_purposes_and_datasets_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        open_dataset(*arguments)
    with pytest.raises(InputError, match="dataset folder has no setting 'split_'"):
        open_dataset({"dataset": "folder", "data_path": "."}, "evaluate", split_="x")


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"dataset": "nyuv2"}, (288, 384)),
        ({"dataset": {"name": "ddad"}}, (384, 640)),
        ({"dataset": "nuscenes"}, (352, 640)),
        ({"dataset": "cityscapes"}, (192, 512)),
        ({"dataset": "kitti", "height": None, "width": None}, (192, 640)),
        ({"dataset": "nyuv2", "height": 64, "width": None}, (64, 384)),
    ],
)
def test_option_overrides_the_size_of_the_dataset(options, size):
    assert network_size(options) == size


def test_run_doctor_and_dataset_agree_on_the_size(worlds, tmp_path, capsys):
    root = worlds.get("nyuv2", frames=6)
    words = ["--dataset", "nyuv2", "--data_path", str(root)]
    options = parse(words)
    assert (options.height, options.width) == (288, 384)
    run.main([*words, *SMALL, "--log_dir", str(tmp_path), "--dry_run"])
    printed = capsys.readouterr().out
    assert '"height": 288' in printed or "height: 288" in printed
    doctor.main([*words, "--out", str(tmp_path / "page.html")])
    assert "network 384x288" in capsys.readouterr().out + (tmp_path / "page.html").read_text()
    dataset = open_dataset({"dataset": "nyuv2", "data_path": root}, "inspect")
    assert (dataset.height, dataset.width) == (288, 384)


@pytest.mark.parametrize("name", DATASETS.names())
def test_only_the_base_constructor_has_a_size(name):
    cls = DATASETS.get(name)
    for owner in cls.__mro__:
        if "__init__" in vars(owner) and owner not in (SequenceDataset, object):
            assert not {"height", "width"} & set(inspect.signature(vars(owner)["__init__"]).parameters)
    assert {"height", "width", "resize", "skip_missing", "supervision"} <= set(settings_of(cls))


@pytest.mark.parametrize("name", DATASETS.names())
def test_declared_parameters_are_the_settings(name):
    cls = DATASETS.get(name)
    known = set(settings_of(cls)) | {"gt_path"}
    assert set(cls.for_losses) | set(cls.describes_folder) <= known
    assert all(isinstance(words, str) and words for words in cls.provides.values())


def test_options_of_the_run_are_not_dataset_settings():
    with pytest.raises(InputError, match="use --height 128"):
        parse(["--dataset.height", "128", "--height", "64", "--width", "96"])


def test_a_companion_has_a_section_for_its_augmentation():
    options = {"seed": 3, "augment": {"flip": 0.25}, "companion": {"name": "x", "augment": {"jitter": 1.0}}}
    augment = build_augmentation(options)
    assert augment.flip == 0.25 and augment.companion == {"jitter": 1.0}
    with pytest.raises(InputError, match=r"augment\.companion has no setting 'jiter'"):
        build_augmentation({"companion": {"augment": {"jiter": 1}}})
