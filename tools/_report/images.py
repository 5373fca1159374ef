"""Predictions of a run's model: best and worst images of an evaluation with error maps, a point cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clouds import point_cloud
from datasets.opening import open_dataset
from datasets.sequence import SequenceDataset
from evaluation.choice import DatasetChoice, Model, open_images
from evaluation.comparison_grid import draw_image
from images import as_image
from methods.metric_scale import trained_on
from metrics import ACCURACIES, METRICS, Protocol
from predictor import Predictor
from tools._page import Figure
from tools._report.reading import Evaluation
from utils import InputError, data_root

SHOWN = 3  # best and worst images of an evaluation
CLOUD_POINTS = 20_000
NEARER = 0.9  # share of the nearest depths in a cloud; beyond is mostly sky
PARTS = ("train", "val", "test")

Cloud = tuple[np.ndarray, np.ndarray]  # (P, 3) x right, y down, z forward; (P, 3) uint8 RGB


def open_evaluated(model: Model, evaluation: Evaluation, data_path: Path | None) -> SequenceDataset:
    """The dataset of an evaluation, as its protocol card names it.

    Args:
        model: the run's model.
        evaluation: whose images are needed.
        data_path: root of the dataset that the run was trained on; None for that of its options. Another
            dataset is looked for below $PARALLAX_DATA.

    Raises:
        InputError: the dataset is not there.
    """
    name, _, words = evaluation.results["card"]["split"].partition(" ")
    split, _, part = words.rpartition("/")
    if not split and part.partition("_")[0] not in PARTS:
        split, part = part, ""
    trained_name, settings = trained_on(model.options)
    own = settings.get("split") or model.options.get("split")
    if own and Path(own).name == split:  # the card holds the name only of a folder of lists
        split = own
    path = (data_path or model.options.get("data_path")) if name == trained_name else None
    where = DatasetChoice(name, path or data_root() / name)
    return open_images(where, model, split or None, part or None).images


def best_and_worst(model: Model, evaluation: Evaluation, images: SequenceDataset) -> list[Figure]:
    """The images with the lowest and the highest error in the protocol's goal, with error maps.

    Raises:
        InputError: the dataset does not hold these images.
    """
    settings = evaluation.results["protocol"]
    protocol = Protocol(**{**settings, "reported": tuple(settings["reported"])})
    column = METRICS.index(protocol.goal)
    sign = -1 if protocol.goal in ACCURACIES else 1
    errors = evaluation.images.errors
    order = sorted(
        (key for key in errors if np.isfinite(errors[key][column])),
        key=lambda key: sign * errors[key][column],
    )
    index_of = {images.name(index): index for index in range(len(images))}
    best, worst = order[:SHOWN], order[SHOWN:][::-1][:SHOWN]
    if missing := [name for name, _ in (*best, *worst) if name not in index_of]:
        raise InputError(
            f"the dataset does not hold the evaluated image '{missing[0]}'; give its --data_path"
        )
    figures = []
    for words, keys in (("Best", best), ("Worst", worst)):
        panels = []
        for name, camera in keys:
            value = f"{protocol.goal} {errors[name, camera][column]:.3f}"
            shown = draw_image(model, images, protocol, index_of[name], camera)
            labels = (" ".join((value, name, camera)).strip(), "depth", "error, black 0 to yellow 30 %")
            panels += list(zip(labels, shown))
        if panels:
            figures.append(Figure(f"{words} images of {evaluation.name}", panels))
    return figures


def cloud_of(predictor: Predictor, images: SequenceDataset) -> Cloud:
    """Points of the middle image, of a rig's first camera, at most `CLOUD_POINTS` chosen at random."""
    batch = images[len(images) // 2].to(next(predictor.method.parameters()).device)
    depth = (1 / predictor.predict_batch(batch)[0][0, 0]).cpu().double().numpy()
    near = depth <= np.quantile(depth, NEARER)
    image, intrinsics = as_image(batch.images[0][0].cpu()), batch.intrinsics[0].cpu().double().numpy()
    points, colours = point_cloud(depth, intrinsics, image, kept=near)
    chosen = np.random.default_rng(0).permutation(len(points))[:CLOUD_POINTS]
    return points[chosen], colours[chosen]


def validation_images(model: Model, data_path: Path | None) -> SequenceDataset:
    """The validation images of a model's training, for a run that has no evaluation.

    Raises:
        InputError: the dataset is not there.
    """
    name, settings = trained_on(model.options)
    path = data_path or model.options.get("data_path") or data_root() / name
    options = {**model.options, "dataset": {"name": name, **settings}, "data_path": path}
    return open_dataset(options, "val")
