"""Choices of an evaluation: split, dataset and its settings, alignment and scale, the protocol card's lines.

A flag wins over the model's training, and that over the dataset's own protocol. Alignment follows the one
rule of `methods/metric_scale.py`: a metric model is not aligned, every other model is aligned by each
image's median. A rig is evaluated with alignment and without it, from the same predictions, as
SurroundDepth does.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from datasets import DATASETS, open_dataset
from datasets.frame_lists import FrameList
from datasets.sequence import SequenceDataset
from datasets.splits import evaluated_part, split_names
from datasets.surround import SurroundDataset
from evaluation.audit import card_lines
from evaluation.loop import Predict
from methods.metric_scale import (
    learned_from,
    metric_scale,
    scale_error,
    stereo_scale,
    trained_on,
    unit_of,
)
from metrics import Protocol
from utils import InputError, data_root, settings_of

RIG_ALIGNMENTS = {"scale-ambiguous": "median", "scale-aware": "none"}  # a rig is evaluated by both
NO_BENCHMARK = ("folder",)  # a leaking evaluation of these keeps its name
NO_NAME = "none, since training data overlap the evaluated frames"
# Dataset settings that have a flag of their own, and that flag.
FLAGS = {
    "name": "--dataset",
    "data_path": "--data_path",
    "height": "--height",
    "width": "--width",
    "split": "--eval_split",
    "part": "--eval_split SPLIT/PART",
    "gt_path": "--gt_path",
    "ground_truth": "--ground_truth",
    "skip_missing": "--skip_missing",
}


@dataclass(frozen=True)
class Model:
    """A trained model, or nothing but the settings under which predictions were saved.

    Attributes:
        method: in eval mode on its device; None for saved predictions.
        options: options of its training; the size may be the flags'.
        source: run folder, checkpoint or file of predictions; None for a model in memory.
    """

    method: nn.Module | None
    options: Mapping[str, Any]
    source: str | Path | None = None

    @property
    def predict(self) -> Predict:
        """`Method.predict` of this model."""
        return self.method.predict


@dataclass(frozen=True)
class DatasetChoice:
    """The data that a model is evaluated on. None stands for the model's own or the dataset's default.

    Attributes:
        name: a file of datasets/; None for the dataset that the model was trained on.
        data_path: root of the dataset.
        split: a split, `<split>/<part>`, or a folder of lists; see `choose_split`.
        gt_path: folder of exported ground truth.
        ground_truth: another than the split's own, such as `velodyne_camera`.
        skip_missing: leave out samples that lack an image.
        settings: further settings of the dataset, `--dataset.KEY VALUE`.
    """

    name: str | None = None
    data_path: str | Path | None = None
    split: str | None = None
    gt_path: str | Path | None = None
    ground_truth: str | None = None
    skip_missing: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProtocolChoice:
    """How predictions are scaled and aligned, and changes to the dataset's protocol.

    Attributes:
        stereo: True: metric by the stereo baseline. False: align each image by its median. None: as the
            model was trained.
        align: False leaves out the alignment of a model that is not metric.
        scale: factor for predicted depth; None for the model's metric scale, or 1.
        changes: settings of the protocol, such as crop, max_depth, median.
        allow_overlap: print the benchmark's name although the training data overlap the evaluated frames.
    """

    stereo: bool | None = None
    align: bool = True
    scale: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    allow_overlap: bool = False


@dataclass(frozen=True)
class Opened:
    """A dataset that is ready to be evaluated.

    Attributes:
        name: its file in datasets/.
        split, part: None if the dataset has no such thing.
        images: its single images; None if saved predictions and ground truth need none.
    """

    name: str
    split: str | None
    part: str | None
    images: SequenceDataset | None

    @property
    def title(self) -> str:
        """Dataset, split and part in words, such as `kitti eigen/test`."""
        words = "/".join(Path(word).name for word in (self.split, self.part) if word)
        return f"{self.name} {words}".strip()


# ----------------------------------------------------------------------------------------- split and dataset


def choose_split(
    name: str, options: Mapping[str, Any], wanted: str | None = None
) -> tuple[str | None, str | None]:
    """Split and part to evaluate on; None if the dataset has no such thing.

    Args:
        name: name of the dataset.
        options: options of the training.
        wanted: a split, `<split>/<part>`, or a folder of lists. If it is not given: the folder of lists that
            the model was trained with; Eigen's 697 images for KITTI; for other datasets the split of the
            training or the dataset's default. The part is test, or val if there is no test.
    """
    trained_name, settings = trained_on(options)
    own = settings.get("split") or options.get("split") if name == trained_name else None
    dataset = DATASETS.get(name)
    taken = settings_of(dataset)
    if "split" not in taken and wanted is None:
        return None, "test" if "part" in taken else None
    if wanted is None:
        own_lists = own and Path(own).is_dir() and own not in split_names("kitti")
        default = inspect.signature(dataset).parameters["split"].default
        wanted = "eigen" if name == "kitti" and not own_lists else own or default
    if wanted is None:
        return None, evaluated_part(name, None)
    match = re.fullmatch(r"(.+)/((?:train|val|test)(?:_\w+)?)", str(wanted))
    if match and not Path(wanted).is_dir():
        return match[1], match[2]
    return str(wanted), evaluated_part(name, str(wanted))


def open_images(choice: DatasetChoice, model: Model, split: str | None, part: str | None) -> Opened:
    """A dataset's single images, at the size and with the resizing that the model was trained with.

    Settings of the training apply if the same dataset is evaluated; see `datasets.opening.open_dataset`.

    Raises:
        InputError: no such dataset or folder; a setting that it does not take, that has a flag of its own,
            or that evaluation does not read.
    """
    trained_name, trained = trained_on(model.options)
    name = choice.name or trained_name
    check_dataset_settings(name, choice.settings)
    images = open_dataset(
        {**model.options, "dataset": {"name": trained_name, **trained}},
        "evaluate",
        name=name,
        data_path=choice.data_path or data_root() / name,
        split=split,
        part=part,
        gt_path=choice.gt_path,
        ground_truth=choice.ground_truth,
        skip_missing=choice.skip_missing,
        **choice.settings,
    )
    return Opened(name, split, part, images)


def check_dataset_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings of `--dataset.KEY` that have a flag of their own or no effect on an evaluation.

    Raises:
        InputError: names the flag to use instead, or says that evaluation does not read the setting.
    """
    for key in settings:
        if key in FLAGS:
            raise InputError(f"--dataset.{key} would shadow {FLAGS[key]}; give {FLAGS[key]}")
        dataset = DATASETS.get(name)
        if key in (*dataset.for_losses, "frame_ids") and key in settings_of(dataset):
            raise InputError(f"--dataset.{key} has no effect on an evaluation; leave it out")


def check_cameras(method: nn.Module | None, dataset: SequenceDataset, name: str) -> None:
    """Refuse a dataset that lacks cameras of a rig model; a model of one camera takes any dataset.

    Raises:
        InputError: gives both numbers of cameras.
    """
    cameras = getattr(method, "cameras", 1)
    if cameras not in (1, dataset.cameras):
        count = f"{dataset.cameras} cameras" if dataset.cameras > 1 else "one camera"
        raise InputError(
            f"this model predicts {cameras} cameras together and {name} has {count} here; "
            f"evaluate it on a rig of {cameras}, such as --ddad_path or --nuscenes_path"
        )


# ------------------------------------------------------------------------------------------------- protocols


def choose_scale(how: ProtocolChoice, model: Model) -> tuple[bool, float]:
    """Whether depth is metric, and the factor it is multiplied by."""
    if how.stereo is False:
        return False, how.scale or 1.0
    known = stereo_scale(model.options) if how.stereo else metric_scale(model.method, model.options)
    return known is not None, how.scale or known or 1.0


def choose_protocols(how: ProtocolChoice, model: Model, dataset: SequenceDataset) -> dict[str, Protocol]:
    """Name → protocol: the dataset's, with alignment, scale and changes.

    A rig is evaluated by both `RIG_ALIGNMENTS`, unless a flag names one. Every other dataset has one
    protocol, under the name "".
    """
    metric, scale = choose_scale(how, model)
    alignments = {"": "none" if metric or not how.align else "median"}
    if isinstance(dataset, SurroundDataset) and how.stereo is None and how.align:
        alignments = RIG_ALIGNMENTS
    changes = {key: value for key, value in how.changes.items() if value is not None}
    return {
        name: dataclasses.replace(dataset.protocol, **{"alignment": alignment, "scale": scale, **changes})
        for name, alignment in alignments.items()
    }


def describe(opened: Opened, model: Model) -> dict[str, str]:
    """The protocol card's lines about split, training, input depth and, if it is off, the scale."""
    about = {"split": opened.title}
    options = model.options
    if "height" in options:
        sources = learned_from(model.method, options)
        about["trained on"] = f"{sources}, {options['width']} x {options['height']}"
    if scale_error(model.method, options):
        about["depth"] = unit_of(model.method, options)
    words = getattr(opened.images, "input_words", "")
    if words and getattr(model.method, "takes_input_depth", False):
        about["input depth"] = words
    if model.source is not None:
        about["predictions"] = str(model.source)
    return about


def withhold_name(protocols: Mapping[str, Protocol], how: ProtocolChoice, name: str) -> dict[str, Protocol]:
    """The protocols of a leaking evaluation: their numbers must not pass as the benchmark's.

    Own images are not a benchmark; their name stays.
    """
    if how.allow_overlap or name in NO_BENCHMARK:
        return dict(protocols)
    return {
        key: dataclasses.replace(protocol, name=f"{NO_NAME}; --allow_overlap prints '{protocol.name}'")
        for key, protocol in protocols.items()
    }


def choose_and_describe(
    how: ProtocolChoice, model: Model, opened: Opened
) -> tuple[dict[str, Protocol], dict[str, str]]:
    """`choose_protocols` and `describe`, after the leak audit (evaluation/audit.py)."""
    protocols, about = choose_protocols(how, model, opened.images), describe(opened, model)
    if model.method is None:  # saved predictions: their training is unknown
        return protocols, about
    records = getattr(model.method, "training_data", None)
    lines, leaks = card_lines(records, FrameList.of_dataset(opened.images), model.options)
    return withhold_name(protocols, how, opened.name) if leaks else protocols, {**about, **lines}
