"""The loop under every evaluation: samples are read, predicted and handed on with their ground truth.

    samples -> Batch on the device -> predict, once or with flip averaging -> Prediction

A task supplies `read_ground_truth`, which runs in the loader's workers, and does the comparing
(`evaluation/depth.py`). Datasets of any size fit, since one batch at a time is in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from datasets.augmentation import mirror
from datasets.loading import outlive_sigterm
from datasets.sequence import SequenceDataset
from datasets.shared_memory import bytes_of, fit_loader, local_world
from progress import Bar
from shards import torchrun_shard
from structures import Batch, Prediction
from utils import InputError, refusal

Predict = Callable[[Batch], Prediction]  # a float Batch -> depths[0] (B·N, 1, h, w), logits, or both


@dataclass(frozen=True)
class Loading:
    """How samples are read and predicted. It changes the speed, and with `flip` the prediction.

    Attributes:
        batch_size: samples at a time, each with all cameras of its rig.
        device: where predictions are made and measured.
        workers: loader processes that read images and ground truth; 0 reads in this process.
        progress: show a progress bar.
        indices: the samples to use; None for all. Under torchrun each rank takes its share.
        flip: average the prediction of each image with that of its mirror image.
    """

    batch_size: int = 16
    device: torch.device | str = "cpu"
    workers: int = 0
    progress: bool = False
    indices: Sequence[int] | None = None
    flip: bool = False

    def shared(self, count: int) -> Loading:
        """The same with this process's share of `count` samples, under torchrun."""
        shard, shards = torchrun_shard()
        return dataclasses.replace(self, indices=range(shard - 1, count, shards) if shards > 1 else None)


def flip_post_process(inverse_depth: Tensor, mirrored: Tensor) -> Tensor:
    """Flip averaging: the mean of two passes, except near the left and right border.

        out = r d + l m + (1 - l - r) (d + m) / 2,   l from 1 to 0 over 5 to 10 % of the width, r its mirror

    At each border the pass counts that saw more of the scene there (Godard et al. 2017, section 3.3).

    Args:
        inverse_depth: (..., H, W), of the image.
        mirrored: (..., H, W), of the mirror image, mirrored back.

    Returns:
        (..., H, W).
    """
    width = inverse_depth.shape[-1]
    x = torch.linspace(0, 1, width, dtype=inverse_depth.dtype, device=inverse_depth.device)
    left = 1 - (20 * (x - 0.05)).clamp(0, 1)
    right = left.flip(0)
    return right * inverse_depth + left * mirrored + (1 - left - right) * (inverse_depth + mirrored) / 2


@torch.no_grad()
def predict_flipped(predict: Predict, batch: Batch) -> Prediction:
    """Flip averaging: depth joined by `flip_post_process`, logits by their mean."""
    direct = predict(batch)
    mirrored = predict(mirror(batch, torch.ones(len(batch.intrinsics), dtype=torch.bool)))
    depths, logits = {}, direct.logits
    if 0 in direct.depths:
        depths[0] = 1 / flip_post_process(1 / direct.depths[0], 1 / mirrored.depths[0].flip(-1))
    if logits is not None:
        logits = (logits + mirrored.logits.flip(-1)) / 2
    return dataclasses.replace(direct, depths=depths, logits=logits)


class Samples(TorchDataset):
    """Samples of a dataset with their ground truth, read where the loader's workers are.

    Args:
        dataset: a dataset of single images, `frame_ids=(0,)`.
        read_ground_truth: index -> ground truth of a sample; None if none is needed.
        join_ground_truth: the ground truth of a batch from a list of its samples'.
        images: False leaves the images unread; batches then hold nothing but indices.
    """

    def __init__(
        self,
        dataset: SequenceDataset,
        read_ground_truth: Callable[[int], Any] | None = None,
        join_ground_truth: Callable[[list[Any]], Any] = list,
        images: bool = True,
    ) -> None:
        self.dataset, self.images = dataset, images
        self.read_ground_truth, self.join_ground_truth = read_ground_truth, join_ground_truth

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Batch, Any] | InputError:
        try:
            batch = self.dataset[index] if self.images else self._index_only(index)
            return index, batch, self.read_ground_truth and self.read_ground_truth(index)
        except OSError as error:
            return InputError(refusal(error))
        except InputError as error:  # raised in a worker it would arrive as a traceback
            return error

    def _index_only(self, index: int) -> Batch:
        nothing = torch.zeros(self.dataset.cameras, 3, 0, 0)
        eye = torch.eye(3).repeat(self.dataset.cameras, 1, 1)
        return Batch({0: nothing}, eye, torch.tensor([index]), cameras=self.dataset.cameras)

    def collate(self, samples: list[Any]) -> tuple[list[int], Batch, Any] | InputError:
        """A batch of items, or the first error among them."""
        for sample in samples:
            if isinstance(sample, InputError):
                return sample
        indices, batches, ground_truths = zip(*samples)
        joined = self.join_ground_truth(list(ground_truths)) if self.read_ground_truth else None
        return list(indices), Batch.cat(list(batches)), joined


@torch.no_grad()
def predict_samples(
    predict: Predict, samples: Samples, loading: Loading
) -> Iterator[tuple[list[int], Prediction, Any]]:
    """Indices, prediction and ground truth of each batch, in the order of the samples.

    Raises:
        InputError: an image or its ground truth cannot be read.
        ValueError: the predictor returned depth of another shape than (B·N, 1, h, w).
    """
    indices = range(len(samples)) if loading.indices is None else loading.indices
    # Some samples have no ground truth, so the largest of three samples stands for all.
    some = {0, len(indices) // 2, len(indices) - 1} if loading.workers and len(indices) else ()
    largest = max((samples[indices[number]] for number in some), key=bytes_of, default=None)
    prefetch = fit_loader(largest, loading.batch_size, loading.workers, prefetch=2, copies=local_world())
    loader = DataLoader(
        samples,
        loading.batch_size,
        sampler=indices,
        num_workers=loading.workers,
        prefetch_factor=prefetch if loading.workers else None,
        collate_fn=samples.collate,
        worker_init_fn=outlive_sigterm,
        generator=torch.Generator(),  # its own, so that evaluation takes no random number from training
    )
    for item in Bar(loader, "evaluate", disable=not loading.progress, unit="batch", leave=False):
        if isinstance(item, InputError):
            raise item
        indices, batch, ground_truth = item
        batch = batch.to(loading.device)
        prediction = predict_flipped(predict, batch) if loading.flip else predict(batch)
        images, depth = len(batch.intrinsics), prediction.depths.get(0)  # None: the model only segments
        if depth is not None and (depth.ndim != 4 or depth.shape[:2] != (images, 1)):
            raise ValueError(f"predicted depth must be ({images}, 1, H, W), got {tuple(depth.shape)}")
        yield indices, prediction, ground_truth


def predict_inverse_depths(predict: Predict, dataset: SequenceDataset, loading: Loading) -> Iterator[Tensor]:
    """Inverse depth of a dataset's images in order, (B·N, H, W) for each batch; ground truth is not read."""
    for _, prediction, _ in predict_samples(predict, Samples(dataset), loading):
        yield 1 / prediction.depths[0][:, 0]
