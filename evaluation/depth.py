"""Depth against ground truth: by each protocol, one row of errors for each image.

    predict(batch).depths[0] -> metrics.sample_prediction -> metrics.errors_at_points -> result.Row

Each image is read and predicted once, whatever the number of protocols. Protocols with equal caps and crop
share the valid pixels of the ground truth; those that resize alike share the sampled prediction.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.sequence import SequenceDataset
from evaluation.details import DetailChoice
from evaluation.loop import Loading, Predict, Samples, predict_samples
from evaluation.regions import MovingMasks
from evaluation.result import Result, Row, gather
from evaluation.verdict import CONSTANT, PIXEL_MEAN, structure, typical_depth
from metrics import (
    METRICS,
    GroundTruth,
    Measured,
    Protocol,
    align_prediction,
    errors_at_points,
    sample_prediction,
)
from processes import Processes
from utils import InputError

GroundTruths = dict[tuple, GroundTruth]  # by the protocol's caps and crop, see `_mask_key`

# model, baselines by name, structure, details
Of = tuple[Measured, dict[str, Measured], Tensor, dict[str, Tensor]]
FLIP_WORDS = {False: "none", True: "flip averaging (Monodepth post-processing)"}


def evaluate(
    predict: Predict,
    dataset: SequenceDataset,
    protocols: Mapping[str, Protocol] | None = None,
    loading: Loading | None = None,
    about: Mapping[str, str] | None = None,
    details: DetailChoice | None = None,
    mean_depth: Tensor | None = None,
) -> dict[str, Result]:
    """Predict every image of a dataset and evaluate it by each protocol.

    Args:
        predict: a float Batch on the device to a Prediction with `depths[0]`, (B·N, 1, h, w). Networks must
            be in eval mode. With a false attribute `reads_images`, as `saved.SavedInverseDepths` has, images
            are not read and the Batch holds indices only.
        dataset: a dataset of single images with ground truth.
        protocols: name -> protocol; None for the dataset's own under the name "".
        loading: batch size, device, workers, flip averaging, shard; None for `Loading()`.
        about: further lines of the protocol card; `flip` is added.
        details: further errors of each image; None for those by distance.
        mean_depth: (H, W) metres, the mean depth of each pixel of a training set, see
            `baselines.mean_depth_map`: a second baseline next to one constant depth.

    Returns:
        name -> result. With `loading.indices` a result holds these samples only, and may be empty; `gather`
        joins the shards of all ranks.

    Raises:
        InputError: none of the samples has valid ground truth, an image cannot be read, the data lack what
            `details` needs.
    """
    protocols = {"": dataset.protocol} if protocols is None else protocols
    loading, details = loading or Loading(), details or DetailChoice()
    if loading.indices is None:  # a shard may lack ground truth that others have
        check_ground_truth(dataset)
    reads_images = getattr(predict, "reads_images", True)
    masks = details.masks(dataset)
    read = functools.partial(_valid_pixels, dataset, tuple(protocols.values()), details, masks)
    samples = Samples(dataset, read, _join_ground_truths, images=reads_images)
    baselines = _baselines(dataset, protocols.values(), mean_depth)
    rows: dict[str, list[Row]] = {name: [] for name in protocols}
    for indices, prediction, ground_truths in predict_samples(predict, samples, loading):
        measured = _measure(prediction.depths[0], ground_truths, protocols, baselines, details)
        for name in protocols:
            rows[name] += _rows(measured[name], indices, dataset)
    evaluated = len(samples if loading.indices is None else loading.indices) * dataset.cameras
    for name, protocol in protocols.items():
        if not rows[name] and loading.indices is None:
            raise InputError(
                f"no pixel of {protocol.name}'s ground truth is valid; look at the protocol's caps and crop"
            )
    about = dict(about or {})
    about.setdefault("flip", FLIP_WORDS[loading.flip] if reads_images else "as saved")
    names = tuple(dataset.camera_names)
    return {
        name: Result(protocol, rows[name], evaluated, dict(about), names)
        for name, protocol in protocols.items()
    }


def evaluate_all(
    predict: Predict,
    dataset: SequenceDataset,
    protocols: Mapping[str, Protocol],
    loading: Loading,
    about: Mapping[str, str] | None = None,
    details: DetailChoice | None = None,
    mean_depth: Tensor | None = None,
) -> dict[str, Result]:
    """`evaluate` of this rank's share, `loading.indices`; every rank gets the results of all samples.

    Raises:
        InputError: no ground truth is valid, or a rank cannot read an image; every rank raises it.
    """
    ranks = Processes(torch.device("cpu"))
    shares = ranks.together(
        lambda: evaluate(predict, dataset, protocols, loading, about, details, mean_depth)
    )
    return {name: gather(result) for name, result in shares.items()}


def check_ground_truth(dataset: SequenceDataset) -> None:
    """Refuse a dataset without any ground truth, before its first image is read.

    Raises:
        InputError: says what ground truth was looked for.
    """
    if all(dataset.depth(index) is None for index in range(len(dataset))):
        protocol = dataset.protocol
        raise InputError(
            f"none of the {len(dataset)} samples of {protocol.name} has ground truth "
            f"({protocol.ground_truth}); is it unpacked next to the images?"
        )


def _baselines(
    dataset: SequenceDataset, protocols: Iterable[Protocol], mean_depth: Tensor | None
) -> dict[str, Tensor]:
    """Name -> (h, w) metres of each baseline."""
    metric = next((protocol for protocol in protocols if protocol.alignment == "none"), None)
    constant = typical_depth(dataset, metric) if metric else 1.0  # any constant, if it is aligned
    further = {} if mean_depth is None else {PIXEL_MEAN: mean_depth}
    return {CONSTANT: torch.full((1, 1), constant), **further}


def _mask_key(protocol: Protocol) -> tuple:
    """Caps and crop, which decide the valid pixels of the ground truth."""
    return protocol.min_depth, protocol.max_depth if protocol.cap_ground_truth else None, protocol.crop


def _valid_pixels(
    dataset: SequenceDataset,
    protocols: Sequence[Protocol],
    details: DetailChoice,
    masks: MovingMasks | None,
    index: int,
) -> GroundTruths:
    maps = dataset.depth(index)
    by_mask = {_mask_key(protocol): protocol for protocol in protocols}
    dynamic = None if maps is None else dataset.dynamic_mask(index)
    maps = np.zeros((dataset.cameras, 1, 1)) if maps is None else maps
    return {
        key: details.complete(GroundTruth.of(maps, protocol, dynamic), dataset, index, masks)
        for key, protocol in by_mask.items()
    }


def _join_ground_truths(samples: list[GroundTruths]) -> GroundTruths:
    return {key: GroundTruth.cat([sample[key] for sample in samples]) for key in samples[0]}


def _measure(
    depth: Tensor,
    ground_truths: GroundTruths,
    protocols: Mapping[str, Protocol],
    baselines: Mapping[str, Tensor],
    details: DetailChoice,
) -> dict[str, Of]:
    """By each protocol: a batch's errors, those of (h, w) baselines in metres, `structure` and `details`."""
    depth = depth.cpu() if depth.device.type == "mps" else depth  # which has no float64
    ground_truths = {key: ground_truth.to(depth.device) for key, ground_truth in ground_truths.items()}
    sampled: dict[tuple, Tensor] = {}
    measured = {}
    for name, protocol in protocols.items():
        ground_truth = ground_truths[_mask_key(protocol)]
        key = (*_mask_key(protocol), protocol.resize, protocol.align_corners)
        if key not in sampled:
            sampled[key] = sample_prediction(depth, ground_truth, protocol)
        measured[name] = (
            errors_at_points(sampled[key], ground_truth, protocol),
            {
                name: errors_at_points(
                    _sample_baseline(metres, ground_truth, protocol), ground_truth, protocol
                )
                for name, metres in baselines.items()
            },
            structure(sampled[key], ground_truth),
            details.measure(depth, align_prediction(sampled[key], ground_truth, protocol)[0], ground_truth),
        )
    return measured


def _sample_baseline(metres: Tensor, ground_truth: GroundTruth, protocol: Protocol) -> Tensor:
    repeated = metres.to(ground_truth.depth.device).expand(len(ground_truth.sizes), 1, -1, -1)
    return sample_prediction(repeated, ground_truth, protocol) / protocol.scale


def _rows(measured: Of, indices: Sequence[int], dataset: SequenceDataset) -> Iterator[Row]:
    model, baselines, structures, further = measured
    errors, ratios, pixels = model.errors.tolist(), model.ratio.tolist(), model.pixels.tolist()
    references = {name: one.errors.tolist() for name, one in baselines.items()}
    structures = structures.tolist()
    further = {name: values.tolist() for name, values in further.items()}
    for n, count in enumerate(pixels):
        if count:
            index, camera = indices[n // dataset.cameras], n % dataset.cameras
            numbers = dict(zip(METRICS, errors[n]))
            others = {name: dict(zip(METRICS, values[n])) for name, values in references.items()}
            name = dataset.name(index)
            more = {key: values[n] for key, values in further.items() if math.isfinite(values[n])}
            yield Row(index, camera, name, count, ratios[n], numbers, others, tuple(structures[n]), more)
