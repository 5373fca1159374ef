"""The one way in which a run, an evaluation, a prediction or a tool opens the dataset that its options name.

    purpose    settings of the section `dataset`                      frames
    train      all                                                    those of the run
    val        all except those that only losses read                 0
    evaluate   those of val, except ground_truth; none if another     0
    predict    dataset is opened; in another folder than the          0
               training's none that describe a folder
    inspect    all                                                    those given, else the dataset's own

An evaluation or a prediction in the training's folder at its size reads the training's packed images as well.

The dataset classes declare which settings only losses read (`for_losses`) and which describe one folder of
data (`describes_folder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import DATASETS
from datasets._label_files import with_label_files
from datasets._measured_depth import check_measured_depth
from datasets._pseudo_depth import with_pseudo_depth
from datasets.augmentation import Augment
from datasets.companion import with_companion
from datasets.joined import with_joined
from datasets.sequence import SequenceDataset
from datasets.sizes import section_of
from utils import InputError, check_settings, nearest_name

PURPOSES = ("train", "val", "evaluate", "predict", "inspect")
IMAGES = ("height", "width", "resize")  # options of a training that its evaluation keeps
SAME_DATASET = ("data_path", "split", "intrinsics")  # options that it keeps on the same dataset as well


def build_dataset(options: Mapping[str, Any], **overrides: Any) -> Any:
    """Build the dataset that `options["dataset"]` names; overrides win over options. See `Registry.build`."""
    return DATASETS.build("dataset", options, **overrides)


def open_dataset(options: Mapping[str, Any], purpose: str, **overrides: Any) -> SequenceDataset:
    """The dataset that the options of a run name, with the settings that a purpose needs.

    Args:
        options: options of a run; `dataset` is a name or a section of settings.
        purpose: `train` and `val` for the two parts of a run, `evaluate` for images with ground truth,
            `predict` for images without, `inspect` for tools.
        overrides: settings that win, such as part, split or data_path; None stands for not given. `name`
            chooses another dataset than the run's.

    Returns:
        The dataset; under `train` with its label files, its pseudo-depth, joined datasets and its companion.

    Raises:
        InputError: an unknown purpose, dataset or setting; what the dataset refuses.
    """
    if purpose not in PURPOSES:
        raise InputError(f"there is no purpose '{purpose}'{nearest_name(purpose, PURPOSES)}")
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if purpose == "train":
        part = overrides.pop("part", "train")
        dataset = build_dataset(options, part=part, **overrides)
        check_measured_depth(dataset)
        completed = with_pseudo_depth(with_label_files(dataset, options), options)
        if completed is not dataset and dataset.crop_borders:
            raise InputError(
                "--dataset.crop_borders does not crop label_files and pseudo_depth_files; leave out one of "
                "them"
            )
        joined = with_joined(completed, options, part)
        return with_companion(joined, options, part)
    if purpose == "inspect":
        return build_dataset(options, **overrides)
    own_name, section = section_of(options)
    name = overrides.pop("name", own_name)
    overrides = {"frame_ids": (0,), **({} if purpose == "evaluate" else {"part": "val"}), **overrides}
    cls, same = DATASETS.get(name), name == own_name
    check_settings(f"dataset {name}", cls, overrides)
    shared = dict(options)
    if section.get("crop_borders"):
        shared.pop("packed", None)  # its images are the training's windows
    if purpose != "val":
        shared = {key: options.get(key) for key in (*IMAGES, *(SAME_DATASET if same else ()))}
        if same and not section.get("crop_borders") and _packed(options, overrides, cls):
            shared["packed"] = options["packed"]
    settings = _kept(cls, section, purpose, options, overrides) if same else {}
    return build_dataset({**shared, "dataset": {**settings, "name": name}}, **overrides)


def _kept(
    cls: type[SequenceDataset],
    section: Mapping[str, Any],
    purpose: str,
    options: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of a training's dataset that hold for a purpose.

    One printed line names those that describe the training's own folder, if another is opened.
    """
    kept = {key: value for key, value in section.items() if key not in cls.for_losses}
    if purpose == "val":
        return kept
    kept.pop("ground_truth", None)  # it belongs to the evaluated split
    if _in_same_folder(options, overrides):
        return kept
    opened_in = overrides["data_path"]
    of_folder = {key: value for key, value in kept.items() if key in cls.describes_folder}
    if untold := [f"--dataset.{key} {value}" for key, value in of_folder.items() if key not in overrides]:
        print(
            f"not used for {opened_in}, since it describes the training's own folder: {', '.join(untold)}; "
            "give it to use it here as well"
        )
    return {key: value for key, value in kept.items() if key not in of_folder}


def _in_same_folder(options: Mapping[str, Any], overrides: Mapping[str, Any]) -> bool:
    """Whether the data of the training are opened."""
    trained_in = options.get("data_path")
    opened_in = overrides.get("data_path", trained_in)
    if opened_in == trained_in:
        return True
    return bool(trained_in) and Path(opened_in).resolve() == Path(trained_in).resolve()


def _packed(options: Mapping[str, Any], overrides: Mapping[str, Any], cls: type[SequenceDataset]) -> bool:
    """Whether the packed images of a training are those that are opened: same data, same pixels.

    A folder that was removed after the training is not missed, since the files have the same pixels.
    """
    if not options.get("packed") or not Path(options["packed"]).is_dir():
        return False
    same_size = all(overrides.get(key, options.get(key)) == options.get(key) for key in IMAGES)
    same_pixels = not set(overrides) & set(cls.pixel_settings)
    return same_size and same_pixels and _in_same_folder(options, overrides)


def build_augmentation(options: Mapping[str, Any]) -> Augment:
    """The augmentation of a run: its section `augment`, and the section of that name in `companion`.

    Raises:
        InputError: an unknown or impossible setting.
    """
    settings = {"seed": options.get("seed", 0), **(options.get("augment") or {})}
    if own := (options.get("companion") or {}).get("augment"):
        settings["companion"] = {**(settings.get("companion") or {}), **own}
    check_settings("augment", Augment, settings)
    return Augment(**settings)
