"""The one way in which a run, an evaluation, a prediction or a tool opens the dataset that its options name.

    purpose    settings of the section `dataset`                      frames
    train      all                                                    those of the run
    val        all except those that only losses read                 0
    evaluate   those of val, except ground_truth; none if another     0
    predict    dataset is opened; in another folder than the          0
               training's none that describe a folder
    inspect    all                                                    those given, else the dataset's own

The dataset classes declare which settings only losses read (`for_losses`) and which describe one folder of
data (`describes_folder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import DATASETS
from datasets._label_files import with_label_files
from datasets._pseudo_depth import with_pseudo_depth
from datasets.augmentation import Augment
from datasets.companion import with_companion
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
        The dataset; under `train` with its label files, its pseudo-depth and its companion.

    Raises:
        InputError: an unknown purpose, dataset or setting; what the dataset refuses.
    """
    if purpose not in PURPOSES:
        raise InputError(f"there is no purpose '{purpose}'{nearest_name(purpose, PURPOSES)}")
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if purpose == "train":
        part = overrides.pop("part", "train")
        labelled = with_label_files(build_dataset(options, part=part, **overrides), options)
        return with_companion(with_pseudo_depth(labelled, options), options, part)
    if purpose == "inspect":
        return build_dataset(options, **overrides)
    own_name, section = section_of(options)
    name = overrides.pop("name", own_name)
    overrides = {"frame_ids": (0,), **({} if purpose == "evaluate" else {"part": "val"}), **overrides}
    check_settings(f"dataset {name}", DATASETS.get(name), overrides)
    shared: Mapping[str, Any] = options
    if purpose != "val":
        shared = {key: options.get(key) for key in (*IMAGES, *(SAME_DATASET if name == own_name else ()))}
    settings = _kept(DATASETS.get(name), section, purpose, options, overrides) if name == own_name else {}
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
    trained_in = options.get("data_path")
    opened_in = overrides.get("data_path", trained_in)
    if opened_in == trained_in or (trained_in and Path(opened_in).resolve() == Path(trained_in).resolve()):
        return kept
    of_folder = {key: value for key, value in kept.items() if key in cls.describes_folder}
    if untold := [f"--dataset.{key} {value}" for key, value in of_folder.items() if key not in overrides]:
        print(
            f"not used for {opened_in}, since it describes the training's own folder: {', '.join(untold)}; "
            "give it to use it here as well"
        )
    return {key: value for key, value in kept.items() if key not in of_folder}


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
