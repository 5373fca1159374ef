"""A dataset evaluated: every image predicted, a `Result` by one protocol or by several at once.

    images -> predict, once or both ways -> metrics.measure -> one row an image -> table, json, csv

Batch by batch, so that a dataset of any size fits; predictions that were saved are evaluated likewise. The
trivial rivals look at no image and are what a table starts from.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from datasets.loading import outlive_sigterm
from datasets.sequence import SequenceDataset
from datasets.surround import RING
from metrics import METRICS, GroundTruth, Measured, Protocol, errors_at_points, sample_prediction
from structures import Batch
from utils import InputError, atomic_path

FLIP_WORDS = {False: "none", True: "both ways, joined at the borders"}

Predict = Callable[
    [Tensor, Tensor], Tensor
]  # images (B, 3, H, W), intrinsics (B, 3, 3) -> depth (B, 1, H, W)


def flip_post_process(disparity: Tensor, mirrored: Tensor) -> Tensor:
    """Two passes in one: their mean, but at either border the one that saw more of the scene there.

        out = r d + l m + (1 - l - r) (d + m) / 2,   l from 1 to 0 over 5 to 10 % of the width, r its mirror

    Args:
        disparity: (..., H, W), 1 / depth, of the image.
        mirrored: (..., H, W), of the mirrored image, mirrored back.

    Returns:
        (..., H, W).
    """
    x = torch.linspace(0, 1, disparity.shape[-1], dtype=disparity.dtype, device=disparity.device)
    left = 1 - (20 * (x - 0.05)).clamp(0, 1)
    right = left.flip(0)
    return right * disparity + left * mirrored + (1 - left - right) * (disparity + mirrored) / 2


def predict_both_ways(predict: Predict, images: Tensor, intrinsics: Tensor) -> Tensor:
    """Depth (B, 1, H, W) of images and their mirror images, joined by `flip_post_process`."""
    other = intrinsics.clone()
    other[:, 0, 2] = images.shape[-1] - 1 - intrinsics[:, 0, 2]
    direct = 1 / predict(images, intrinsics)
    mirrored = (1 / predict(images.flip(3), other)).flip(3)
    return 1 / flip_post_process(direct, mirrored)


# --------------------------------------------------------------------------------------------- trivial rivals


def constant_predictor(depth: float = 10.0) -> Predict:
    """A predictor that answers `depth` metres everywhere: what a table starts from."""
    return lambda images, intrinsics: images.new_full((len(images), 1, *images.shape[2:]), depth)


def map_predictor(depth: Tensor) -> Predict:
    """A predictor that answers the same (H, W) metres for every image: the layout of a scene alone."""

    def predict(images: Tensor, intrinsics: Tensor) -> Tensor:
        answer = F.interpolate(
            depth[None, None].to(images), images.shape[2:], mode="bilinear", align_corners=False
        )
        return answer.expand(len(images), -1, -1, -1)

    return predict


def mean_depth_map(
    dataset: SequenceDataset, height: int, width: int, indices: Iterable[int] | None = None
) -> Tensor:
    """The mean depth a training set has at each pixel, for `map_predictor`.

    Ground truth is gathered into `height` x `width` cells. A cell that none fell into takes its row's mean, a
    row without any that of the next row below, as a LiDAR leaves out the sky.

    Returns:
        (height, width) metres.

    Raises:
        InputError: no ground truth at all.
    """
    protocol = dataset.protocol
    total, count = np.zeros(height * width), np.zeros(height * width)
    for index in range(len(dataset)) if indices is None else indices:
        maps = dataset.depth(index)
        for depth in () if maps is None else maps:
            rows, columns = np.nonzero((depth > protocol.min_depth) & (depth < protocol.max_depth))
            cells = (rows * height // depth.shape[0]) * width + columns * width // depth.shape[1]
            np.add.at(total, cells, depth[rows, columns])
            np.add.at(count, cells, 1)
    if not count.any():
        raise InputError(f"{type(dataset).__name__} has no ground truth to take the mean of")
    total, count = total.reshape(height, width), count.reshape(height, width)
    known = np.flatnonzero(count.any(1))
    row_means = total[known].sum(1) / count[known].sum(1)
    below = np.minimum(np.searchsorted(known, np.arange(height)), len(known) - 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), row_means[below][:, None])
    return torch.from_numpy(mean).float()


# -------------------------------------------------------------------------------------------- what was found


@dataclass(frozen=True)
class Row:
    """One image's numbers; `ratio` is median(ground truth) / median(prediction), applied or not."""

    index: int
    camera: int
    name: str
    pixels: int
    ratio: float
    errors: dict[str, float]


@dataclass
class Result:
    """What an evaluation found.

    Attributes:
        protocol: how.
        rows: one an image, in the dataset's order.
        asked: images looked at; those without a valid pixel of ground truth have no row.
        about: further lines of the protocol card, such as split and flip.
        camera_names: what tables call a rig's cameras.
    """

    protocol: Protocol
    rows: list[Row]
    asked: int
    about: dict[str, str] = field(default_factory=dict)
    camera_names: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float]:
        """What papers report: each error's mean over images; of a rig the mean over its cameras' means, in
        which a camera with less ground truth counts as much as the others (SurroundDepth's "all")."""
        cameras = list(self.cameras.values())
        if len(cameras) < 2:
            return self._mean(self.rows)
        return {key: float(np.mean([camera[key] for camera in cameras])) for key in METRICS}

    @property
    def ratio_median(self) -> float:
        """Median over images of median(ground truth) / median(prediction), of the protocol's kind."""
        ratios = sorted(row.ratio for row in self.rows)
        if self.protocol.median == "lower" and ratios:
            return ratios[(len(ratios) - 1) // 2]
        return float(np.median(ratios)) if ratios else math.nan

    @property
    def ratio_std(self) -> float:
        """Spread of the ratios, relative to their median: 0.1 is 10 %. See `Protocol.median`."""
        ratios = np.array([row.ratio for row in self.rows]) / self.ratio_median
        missing = self.protocol.median == "lower"
        return float(np.std(ratios, ddof=int(missing))) if len(ratios) > missing else math.nan

    @property
    def cameras(self) -> dict[int, dict[str, float]]:
        """Camera -> each error's mean over its images."""
        numbers = sorted({row.camera for row in self.rows})
        return {n: self._mean([row for row in self.rows if row.camera == n]) for n in numbers}

    def camera_name(self, camera: int) -> str:
        """The dataset's own name for a camera, or its number."""
        return self.camera_names[camera] if self.camera_names else f"camera {camera}"

    @staticmethod
    def _mean(rows: list[Row]) -> dict[str, float]:
        return {
            key: float(np.mean([row.errors[key] for row in rows])) if rows else math.nan for key in METRICS
        }

    def card(self) -> dict[str, str]:
        """The protocol card: everything one must know to compare the numbers with others."""
        missing = self.asked - len(self.rows)
        images = f"{len(self.rows)}" + (
            f" ({missing} more have no ground truth that counts)" if missing else ""
        )
        some = 0 < len(self.camera_names) < len(RING)
        cameras = {"cameras": f"{', '.join(self.camera_names)} alone"} if some else {}
        return {**self.protocol.card(), "images": images, **cameras, **self.about}

    def table(self) -> str:
        """The protocol card and the means, as text."""
        rows = {"": self.mean}
        if len(self.cameras) > 1:
            rows = {self.camera_name(n): mean for n, mean in self.cameras.items()}
            rows["mean over cameras"] = self.mean
        ratio = f"ground truth / prediction {self.ratio_median:.4g} (median"
        ratio += f"; spread {100 * self.ratio_std:.1f} %)" if math.isfinite(self.ratio_std) else ")"
        card = {**self.card(), "ratio": ratio}
        space = max(map(len, card)) + 2
        return "\n".join(
            [
                *(f"  {key:<{space}}{value}" for key, value in card.items()),
                "",
                _table(rows, self.protocol.reported),
            ]
        )

    def save(self, folder: str | Path) -> None:
        """Write `results.json` and `per_image.csv` into `folder`."""
        folder = Path(folder)
        summary = {
            "card": self.card(),
            "protocol": dataclasses.asdict(self.protocol),
            "images": len(self.rows),
            "without_ground_truth": self.asked - len(self.rows),
            "mean": self.mean,
            "cameras": {
                self.camera_name(n): mean for n, mean in self.cameras.items() if len(self.cameras) > 1
            },
            "ratio": {"median": self.ratio_median, "std_over_median": self.ratio_std},
        }
        with atomic_path(folder / "results.json") as path:
            path.write_text(json.dumps(_without_nan(summary), indent=2, allow_nan=False) + "\n")
        with atomic_path(folder / "per_image.csv") as path, open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["index", "camera", "name", "pixels", "ratio", *METRICS])
            for row in self.rows:
                numbers = [row.ratio, *(row.errors[key] for key in METRICS)]
                camera = self.camera_names[row.camera] if self.camera_names else row.camera
                writer.writerow([row.index, camera, row.name, row.pixels, *(f"{n:.9g}" for n in numbers)])


def compare(results: Mapping[str, Result]) -> str:
    """The means of several evaluations side by side, as text; "-" for what a benchmark does not report."""
    rows = {
        name: {key: value for key, value in result.mean.items() if key in result.protocol.reported}
        for name, result in results.items()
    }
    return _table(rows, [key for key in METRICS if any(key in row for row in rows.values())])


def _table(rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> str:
    first = max(len(name) for name in rows) + 4
    head = " " * first + " ".join(f"{key:>9}" for key in columns)
    body = [
        f"  {name:<{first - 2}}"
        + " ".join(f"{mean[key]:9.3f}" if key in mean else f"{'-':>9}" for key in columns)
        for name, mean in rows.items()
    ]
    return "\n".join([head, *body])


def _without_nan(value: Any) -> Any:
    """The same with None for nan and inf, which JSON has no words for."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -------------------------------------------------------------------------------------------- whole datasets


def evaluate(
    predict: Predict,
    dataset: SequenceDataset,
    protocol: Protocol | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    flip: bool = False,
    workers: int = 0,
    progress: bool = False,
    indices: Sequence[int] | None = None,
    about: Mapping[str, str] | None = None,
) -> Result:
    """Predict every image of a dataset and evaluate it.

    Args:
        predict: images (B, 3, H, W) in [0, 1] and intrinsics (B, 3, 3) on `device` to depth (B, 1, H, W).
            The caller puts networks into eval mode. A rig's cameras are folded into B, varying fastest.
        dataset: with ground truth.
        protocol: the dataset's own where not given.
        batch_size: samples at a time, each of all its cameras.
        device: where to predict and measure.
        flip: predict the mirror image too and join both.
        workers: processes that read images and ground truth.
        progress: show a bar.
        indices: only these samples. Under torchrun give each rank its own and `gather` what they return.
        about: further lines of the protocol card.

    Raises:
        InputError: none of the samples has ground truth, an image cannot be read.
    """
    protocols = {"": protocol or dataset.protocol}
    return evaluate_several(
        predict, dataset, protocols, batch_size, device, flip, workers, progress, indices, about
    )[""]


def evaluate_several(
    predict: Predict,
    dataset: SequenceDataset,
    protocols: Mapping[str, Protocol],
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    flip: bool = False,
    workers: int = 0,
    progress: bool = False,
    indices: Sequence[int] | None = None,
    about: Mapping[str, str] | None = None,
) -> dict[str, Result]:
    """Evaluate each prediction by several protocols: everything is read and predicted once.

    Args:
        protocols: name -> protocol. Those with equal caps and crop share their ground truth too.
        predict, dataset, batch_size, device, flip, workers, progress, indices, about: as `evaluate`.

    Returns:
        name -> what was found; `gather` and `join` take each by itself.
    """
    if indices is None:  # one shard may have none
        check_ground_truth(dataset)
    items = _Items(dataset, tuple(protocols.values()))
    loader = _loader(items, indices, batch_size, workers, progress)
    depths = (
        (places, _predict(predict, batch.to(device), flip), ground_truths)
        for places, batch, ground_truths in loader
    )
    about = {**(about or {}), "flip": FLIP_WORDS[flip]}
    return _evaluate(depths, dataset, protocols, indices, about)


def evaluate_disparities(
    disparities: np.ndarray,
    dataset: SequenceDataset,
    protocol: Protocol | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = False,
    about: Mapping[str, str] | None = None,
) -> Result:
    """Evaluate saved predictions; images are not read.

    Args:
        disparities: (samples x cameras, h, w), 1 / depth up to one factor; may be a memory map.
        dataset, protocol, batch_size, device, workers, progress, about: as `evaluate`.

    Raises:
        InputError: their number or shape does not fit the dataset; no ground truth.
    """
    protocols = {"": protocol or dataset.protocol}
    return evaluate_several_disparities(
        disparities, dataset, protocols, batch_size, device, workers, progress, about
    )[""]


def evaluate_several_disparities(
    disparities: np.ndarray,
    dataset: SequenceDataset,
    protocols: Mapping[str, Protocol],
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: bool = False,
    about: Mapping[str, str] | None = None,
) -> dict[str, Result]:
    """`evaluate_disparities` by several protocols at once."""
    expected = len(dataset) * dataset.cameras
    if disparities.ndim != 3 or not np.issubdtype(disparities.dtype, np.floating):
        raise InputError(
            f"saved disparities are floats of shape (count, height, width), "
            f"got {disparities.dtype} of {tuple(disparities.shape)}"
        )
    if len(disparities) != expected:
        raise InputError(
            f"{len(disparities)} saved disparities do not belong to the {expected} images of "
            f"{_first(protocols).name}; they must be in its order, one each"
        )
    check_ground_truth(dataset)
    stacks = disparities.reshape(len(dataset), dataset.cameras, 1, *disparities.shape[1:])

    def depth(places: list[int]) -> Tensor:
        return 1 / torch.from_numpy(stacks[places].astype(np.float64)).flatten(0, 1).to(device)

    items = _Items(dataset, tuple(protocols.values()), images=False)
    loader = _loader(items, None, batch_size, workers, progress)
    depths = ((places, depth(places), ground_truths) for places, _, ground_truths in loader)
    return _evaluate(depths, dataset, protocols, None, about)


def predict_disparities(
    predict: Predict,
    dataset: SequenceDataset,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    flip: bool = False,
    workers: int = 0,
    progress: bool = False,
) -> Iterator[Tensor]:
    """1 / depth of a dataset's images in order, (B·N, H, W) a time, without ground truth. As `evaluate`."""
    for _, batch, _ in _loader(_Items(dataset), None, batch_size, workers, progress):
        yield 1 / _predict(predict, batch.to(device), flip)[:, 0]


def gather(result: Result) -> Result:
    """Join the shards of `evaluate` over the ranks of a process group; every rank gets the whole.

    Raises:
        InputError: no shard has ground truth.
    """
    if not torch.distributed.is_initialized():
        return result
    shards: list[Result | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shards, result)
    return join(shards)


def join(shards: Sequence[Result]) -> Result:
    """One result of several over different samples of one dataset; a sample given twice counts once.

    Raises:
        InputError: no shard has ground truth.
    """
    rows = {(row.index, row.camera): row for shard in shards for row in shard.rows}
    missing = sum(shard.asked - len(shard.rows) for shard in shards)
    if not rows:
        raise InputError(f"no pixel of {shards[0].protocol.name}'s ground truth counts")
    return dataclasses.replace(shards[0], rows=[rows[key] for key in sorted(rows)], asked=len(rows) + missing)


GroundTruths = dict[
    tuple, GroundTruth
]  # by what of a protocol decides which ground truth counts, see `_counting`


def _counting(protocol: Protocol) -> tuple:
    """What decides which pixels of ground truth count: protocols that agree in it share them."""
    return protocol.min_depth, protocol.max_depth if protocol.cap_ground_truth else None, protocol.crop


class _Items(TorchDataset):
    """Samples with what counts of their ground truth, read where the loader's workers are.

    Without protocols there is no ground truth, without `images` no Batch.
    """

    def __init__(
        self, dataset: SequenceDataset, protocols: Sequence[Protocol] = (), images: bool = True
    ) -> None:
        self.dataset, self.images = dataset, images
        self.protocols = {_counting(protocol): protocol for protocol in protocols}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Batch | None, GroundTruths] | InputError:
        try:
            batch = self.dataset[index] if self.images else None
            return index, batch, self._ground_truths(index) if self.protocols else {}
        except InputError as error:  # raised in a worker it would arrive as a traceback, returned as itself
            return error

    def _ground_truths(self, index: int) -> GroundTruths:
        maps = self.dataset.depth(index)
        maps = np.zeros((self.dataset.cameras, 1, 1)) if maps is None else maps
        return {key: GroundTruth.of(maps, protocol) for key, protocol in self.protocols.items()}


def _collate(samples: list[Any]) -> tuple[list[int], Batch | None, GroundTruths] | InputError:
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    places, batches, ground_truths = zip(*samples)
    batch = None if batches[0] is None else Batch.cat(list(batches))
    return (
        list(places),
        batch,
        {
            key: GroundTruth.cat([ground_truth[key] for ground_truth in ground_truths])
            for key in ground_truths[0]
        },
    )


def _loader(
    items: _Items, indices: Sequence[int] | None, batch_size: int, workers: int, progress: bool
) -> Iterator[tuple[list[int], Batch | None, GroundTruths]]:
    sampler = range(len(items)) if indices is None else indices
    loader = DataLoader(
        items,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=outlive_sigterm,
        generator=torch.Generator(),  # its own, so that looking does not change what is trained next
    )
    for item in tqdm(loader, "evaluate", disable=not progress, unit="batch", leave=False):
        if isinstance(item, InputError):
            raise item
        yield item


@torch.no_grad()
def _predict(predict: Predict, batch: Batch, flip: bool) -> Tensor:
    """Depth (B·N, 1, H, W) of a batch's targets."""
    images, intrinsics = batch.images[0], batch.intrinsics
    depth = predict_both_ways(predict, images, intrinsics) if flip else predict(images, intrinsics)
    if depth.ndim != 4 or depth.shape[:2] != (len(images), 1):
        raise ValueError(f"a prediction must be ({len(images)}, 1, H, W), got {tuple(depth.shape)}")
    return depth


def check_ground_truth(dataset: SequenceDataset) -> None:
    """Refuse a dataset without any ground truth, before its first image is read.

    Raises:
        InputError: says what ground truth was looked for.
    """
    if all(dataset.depth(index) is None for index in range(len(dataset))):
        protocol = dataset.protocol
        raise InputError(
            f"none of the {len(dataset)} samples of {protocol.name} has ground truth "
            f"({protocol.ground_truth}); is it unpacked beside the images?"
        )


def _first(protocols: Mapping[str, Protocol]) -> Protocol:
    return next(iter(protocols.values()))


def _evaluate(
    depths: Iterable[tuple[list[int], Tensor, GroundTruths]],
    dataset: SequenceDataset,
    protocols: Mapping[str, Protocol],
    indices: Sequence[int] | None,
    about: Mapping[str, str] | None,
) -> dict[str, Result]:
    """The loop of every evaluation: by each protocol one row for each image that has ground truth."""
    rows: dict[str, list[Row]] = {name: [] for name in protocols}
    for places, depth, ground_truths in depths:
        depth = depth.cpu() if depth.device.type == "mps" else depth  # which has no float64
        ground_truths = {key: ground_truth.to(depth.device) for key, ground_truth in ground_truths.items()}
        looked_up: dict[tuple, Tensor] = {}
        for name, protocol in protocols.items():
            ground_truth = ground_truths[_counting(protocol)]
            way = (*_counting(protocol), protocol.resize, protocol.align_corners)
            if way not in looked_up:
                looked_up[way] = sample_prediction(depth, ground_truth, protocol)
            measured = errors_at_points(looked_up[way], ground_truth, protocol)
            rows[name] += _rows(measured, places, dataset)
    asked = (len(dataset) if indices is None else len(indices)) * dataset.cameras
    for name, protocol in protocols.items():
        if not rows[name] and indices is None:
            raise InputError(f"no pixel of {protocol.name}'s ground truth counts; look at its caps and crop")
    names = tuple(dataset.camera_names)
    return {
        name: Result(protocol, rows[name], asked, dict(about or {}), names)
        for name, protocol in protocols.items()
    }


def _rows(measured: Measured, places: Sequence[int], dataset: SequenceDataset) -> Iterator[Row]:
    errors, ratios, pixels = measured.errors.tolist(), measured.ratio.tolist(), measured.pixels.tolist()
    for n, count in enumerate(pixels):
        if count:
            index, camera = places[n // dataset.cameras], n % dataset.cameras
            numbers = dict(zip(METRICS, errors[n]))
            yield Row(index, camera, dataset.name(index), count, ratios[n], numbers)
