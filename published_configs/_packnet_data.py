"""The section `datasets` of a published PackNet-SfM config: which data are read, and how often.

Its lists are as long as there are datasets, or hold one value for all. The first dataset is our `dataset`,
the others are `joined` with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checkpoints.packnet import DATASETS
from datasets.surround import RING
from published_configs._packnet_keys import as_list
from utils import InputError, nearest_name

SPLITS = {"eigen_zhou_files": "eigen_zhou", "eigen_test_files": "eigen"}
GROUND_TRUTHS = {"velodyne": "velodyne", "groundtruth": "improved", "lidar": "lidar"}
CAMERAS = {
    "camera_01": "front",
    "camera_05": "front_left",
    "camera_06": "front_right",
    "camera_07": "back_left",
    "camera_08": "back_right",
    "camera_09": "back",
}
LISTS = ("dataset", "path", "split", "depth_type", "input_depth_type", "cameras", "repeat")


def common_repeat(given: Mapping[str, Any]) -> int:
    """Passes over all data in an epoch there; 1 if the datasets differ in it, which `joined.repeat` holds."""
    repeats = as_list(given["datasets.train.repeat"])
    return int(repeats[0]) if len(set(repeats)) == 1 else 1


def data_options(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Our `dataset`, `joined` and `split`; sentences on what differs are added to `notes`.

    Raises:
        InputError: lists of different lengths; a dataset, camera or kind of depth that does not exist.
    """
    part = "train" if as_list(given["datasets.train.dataset"]) else "test"
    entries = _entries(given, part)
    if not entries:
        return {}
    sections = [_section(entry, part, given, notes) for entry in entries]
    options: dict[str, Any] = {}
    first = sections[0]
    if split := first.pop("split", None):
        options["split"] = split
    options["dataset"] = first
    if len(sections) == 1:
        return options
    joined: dict[str, Any] = {"others": sections[1:]}
    repeats = [int(entry["repeat"]) for entry in entries]
    if common_repeat(given) == 1 and set(repeats) != {1}:
        joined["repeat"] = repeats
    for number, other in enumerate(sections[1:]):
        if other["name"] != first["name"]:
            other["data_path"] = entries[number + 1]["path"]
            notes.append(f"joined.others[{number}] is read from {other['data_path']}, as the config says")
    return {**options, "joined": joined}


def _entries(given: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The datasets of a part, each with its own value of every list."""
    lists = {key: as_list(given.get(f"datasets.{part}.{key}", [1])) for key in LISTS}
    if lists["cameras"] and not isinstance(lists["cameras"][0], (list, tuple)):
        lists["cameras"] = [lists["cameras"]]  # a flat list is one dataset's
    if not lists["dataset"]:
        return []
    count = max(len(values) for values in lists.values())
    for key, values in lists.items():
        if len(values) not in (0, 1, count):
            raise InputError(
                f"datasets.{part}.{key} has {len(values)} values for {count} datasets; give one for all, "
                "or one "
                "for each"
            )
    for key, values in lists.items():
        lists[key] = values if len(values) == count else (values or [""]) * count
    return [{key: values[number] for key, values in lists.items()} for number in range(count)]


def _section(
    entry: Mapping[str, Any], part: str, given: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """One dataset as a section of ours."""
    if entry["dataset"] not in DATASETS:
        raise InputError(
            f"datasets.{part}.dataset: there is no "
            f"'{entry['dataset']}'{nearest_name(entry['dataset'], DATASETS)}"
        )
    name = DATASETS[entry["dataset"]]
    section: dict[str, Any] = {"name": name}
    stem = str(entry["split"]).rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if name == "kitti":
        if stem in SPLITS:
            section["split"] = SPLITS[stem]
        else:
            notes.append(f"no split of ours is {stem or 'empty'}: --split names a folder of lists")
    if name == "ddad":
        section["camera_names"] = _cameras(f"datasets.{part}.cameras", entry["cameras"], notes)
    evaluated = [kind for kind in as_list(given["datasets.test.depth_type"]) if kind]
    if name == "kitti" and evaluated:
        section["ground_truth"] = _depth_kind("datasets.test.depth_type", evaluated[0])
    if part == "train" and given["model.name"].startswith("SemiSup"):  # others do not read depth in training
        section |= _measured_depth(name, entry, section.get("ground_truth"), notes)
    if crop := as_list(given["datasets.augmentation.crop_train_borders"]):
        section["crop_borders"] = crop
    if given["model.name"] == "VelSupModel":
        section["speed"] = "positions" if name == "kitti" else True  # distances of recorded poses, as there
    return section


def _cameras(key: str, names: Any, notes: list[str]) -> list[str]:
    cameras = [str(camera).lower() for camera in as_list(names)]
    unknown = [camera for camera in cameras if camera not in CAMERAS]
    if unknown:
        raise InputError(f"{key}: there is no '{unknown[0]}'{nearest_name(unknown[0], CAMERAS)}")
    if len(cameras) > 1:
        notes.append(f"batch_size counts images there and frame sets of {len(cameras)} cameras here")
    return sorted(map(CAMERAS.get, cameras), key=RING.index)


def _measured_depth(
    name: str, entry: Mapping[str, Any], evaluated: str | None, notes: list[str]
) -> dict[str, Any]:
    """Settings of a dataset for depth that supervises and depth that is completed."""
    settings: dict[str, Any] = {}
    if entry["input_depth_type"]:
        settings["input_depth"] = _depth_kind("datasets.train.input_depth_type", entry["input_depth_type"])
    if entry["depth_type"]:
        kind = _depth_kind("datasets.train.depth_type", entry["depth_type"])
        settings["supervision"] = True
        if name == "kitti":
            settings["ground_truth"] = kind
            if evaluated and evaluated != kind:
                notes.append(f"training reads depth of kind {kind}: evaluate with --ground_truth {evaluated}")
    return settings


def _depth_kind(key: str, kind: str) -> str:
    if kind not in GROUND_TRUTHS:
        raise InputError(f"{key}: there is no '{kind}'{nearest_name(kind, GROUND_TRUTHS)}")
    return GROUND_TRUTHS[kind]
