"""Depth of one frame set of a rig: each camera's outputs, all cameras in one image, one point cloud."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clouds import RIG_AXES, surround_cloud, write_cloud
from datasets import DATASETS, open_dataset
from datasets.surround import SurroundDataset
from images import save_image, surround_grid
from methods.metric_scale import trained_on
from prediction.bridges import Bridge, BridgedImage
from prediction.images import in_words
from prediction.outputs import Predicted, Wanted, write_outputs
from predictor import Predictor, enlarge
from utils import InputError


def predict_frame_set(
    predictor: Predictor, dataset: SurroundDataset, name: str, sample: str, folder: Path, wanted: Wanted
) -> str:
    """Predict one sample and write its outputs.

    Args:
        predictor: a model of single images or of the dataset's cameras.
        dataset: result of `open_rig`.
        name: the dataset's name, which begins the names of the files.
        sample: index, or the end of a sample's name.
        folder: folder for the outputs.
        wanted: the outputs to write; points of all cameras are written together.

    Returns:
        A sentence that names the written files and the unit of depth, and a line for each bridge.
    """
    index = find_sample(dataset, sample)
    line = dataset.samples[index]
    images = dataset.read_images(line, 0)
    K = [dataset.intrinsics(line, n, *image.shape[-2:]) for n, image in enumerate(images)]
    inverse, logits = predictor.predict(images, torch.from_numpy(np.stack(K)).float())
    stem = name + "_" + re.sub(r"[^\w.-]+", "_", dataset.name(index))
    depths, shown = [], [image.permute(1, 2, 0).numpy() for image in images]
    for camera, (image, part) in enumerate(zip(images, inverse)):
        output = folder / f"{stem}_{dataset.camera_names[camera]}"
        depths.append(1 / enlarge(part[None], *image.shape[-2:])[0, 0].cpu().numpy())
        scores = None if logits is None else logits[camera]
        predicted = Predicted(image, part, scores, K[camera], unit=predictor.unit)
        write_outputs(output, predicted, replace(wanted, clouds=(), bridges=()))
    grid = folder / f"{stem}_surround.png"
    save_image(grid, surround_grid(shown, depths, dataset.camera_names))
    written, words = [grid], in_words(predictor)
    bridged = []
    if wanted.clouds or wanted.bridges:
        scale, how = (1.0, "") if predictor.is_metric else scale_of(dataset, index, depths)
        rig, depths = dataset.rig_from_camera(line), [scale * depth for depth in depths]
        ego_masks = full_size_ego_masks(dataset, line, images)
        points, colours = surround_cloud(depths, K, shown, rig, ego_masks)
        for ending in wanted.clouds:
            written.append(folder / f"{stem}{ending}")
            write_cloud(written[-1], points, colours, "metres" + how, RIG_AXES)
        words += f"; the points are in metres{how}" if wanted.clouds else ""
        views = [
            BridgedImage(camera, *view, world_from_camera=pose, vertical="z")
            for camera, *view, pose in zip(dataset.camera_names, shown, depths, K, rig)
        ]
        bridged = [sentence for bridge in wanted.bridges for sentence in bridge_views(bridge, views)]
    said = f"wrote {', '.join(map(str, written))} and the files of each camera in {folder}; depth is {words}"
    return "\n".join([said, *bridged])


def bridge_views(bridge: Bridge, views: Sequence[BridgedImage]) -> list[str]:
    """Write the cameras of a frame set, in metres, into a bridge; returns its sentences."""
    bridge.unit, bridge.is_metric = "metres", True
    bridges = {view.name: bridge.of_camera(view.name) for view in views}
    for view in views:
        bridges[view.name].add(view)
    return [one.finish() for one in dict.fromkeys(bridges.values())]


def open_rig(name: str, predictor: Predictor, points: bool, **settings: Any) -> SurroundDataset:
    """The dataset called `name` at the network's size, with the cameras that the model was trained on.

    Args:
        name: a file of datasets/.
        predictor: the model.
        points: a point cloud is wanted, which leaves out the ego masks.
        settings: `data_path`, `split`, `part` and further settings of the dataset.

    Raises:
        InputError: the dataset has one camera, or another number of cameras than the model needs.
    """
    if not issubclass(DATASETS.get(name), SurroundDataset):
        raise InputError(f"{name} has one camera; give its images with --image_path")
    trained_name, section = trained_on(predictor.options)
    if points and trained_name == name and section.get("masks"):  # only the points need them
        settings.setdefault("masks", "auto" if section["masks"] is True else section["masks"])
    if predictor.cameras == 1:  # such a model takes any camera
        section.pop("camera_names", None)
    sizes = {"height": predictor.height, "width": predictor.width, "resize": predictor.resize}
    options = {**predictor.options, **sizes, "dataset": {"name": trained_name, **section}}
    dataset = open_dataset(options, "predict", name=name, **settings)
    if dataset.cameras % predictor.cameras:
        raise InputError(
            f"this model predicts {predictor.cameras} cameras of one frame set together, and {name} has "
            f"{dataset.cameras}"
        )
    return dataset


def find_sample(dataset: SurroundDataset, wanted: str) -> int:
    """Index of a sample, from its index as text or the end of its name.

    Raises:
        InputError: no sample, or several, end with this text.
    """
    if wanted.isdigit() and int(wanted) < len(dataset):
        return int(wanted)
    found = [index for index in range(len(dataset)) if dataset.name(index).endswith(wanted)]
    if len(found) != 1:
        how = f"{len(found)} samples end with" if found else "there is no sample"
        raise InputError(
            f"{how} '{wanted}'; give a number from 0 to {len(dataset) - 1} or a name: {dataset.name(0)}"
        )
    return found[0]


def scale_of(dataset: SurroundDataset, index: int, depths: Sequence[np.ndarray]) -> tuple[float, str]:
    """Scale factor from predicted depth to metres, one for all cameras, and its origin in words.

    It is the ratio of the medians of ground truth and prediction at pixels with ground truth.

    Raises:
        InputError: the sample has no ground truth.
    """
    ground_truth = dataset.depth(index)
    if ground_truth is None or not (ground_truth > 0).any():
        raise InputError(
            "this model's depth has no metric scale and the sample has no ground truth to take it from, so "
            "the points of several cameras cannot be combined; leave --ply, --glb and --bridge out"
        )
    valid = [known > 0 for known in ground_truth]
    known = np.concatenate([depth[pixels] for depth, pixels in zip(ground_truth, valid)])
    found = np.concatenate([depth[pixels] for depth, pixels in zip(depths, valid)])
    return float(np.median(known) / np.median(found)), ", by the median of the sample's ground truth"


def full_size_ego_masks(
    dataset: SurroundDataset, line: object, images: Sequence[Tensor]
) -> list[np.ndarray] | None:
    """(h, w) bool of each camera at its image's size, True on its own vehicle; None without ego masks."""
    ego_mask = dataset.maps(line).get("ego_mask")
    if ego_mask is None:
        return None
    sizes = [image.shape[-2:] for image in images]
    return [F.interpolate(m[None].float(), size)[0, 0].numpy() > 0 for m, size in zip(ego_mask, sizes)]
