"""Validation of a run: depth errors if the validation set has ground truth, else the held-out loss.

    best    the best value of the goal metric so far, kept with its name and protocol

The validation set's protocol says which metric is the goal and whether lower or higher is better; `--monitor`
chooses another. A method that segments as well is also validated on the companion's labels.

The whole validation set decides between ground truth and loss, so that ground truth of only some frames
counts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets import open_dataset
from datasets.companion import open_companion
from datasets.loading import Guarded, collate, outlive_sigterm
from datasets.shared_memory import fit_loader, local_world
from evaluation import (
    LOSS_GOAL,
    Goal,
    Loading,
    choose_goal,
    depth_goal,
    validate_depth,
    validate_segmentation,
)
from evaluation.verdict import training_verdict
from processes import Processes
from utils import InputError


@dataclass(frozen=True)
class Best:
    """The best validation of a run so far.

    Attributes:
        metric: name of the goal metric.
        protocol: name of the evaluation protocol, or "loss".
        value: the best value so far.
    """

    metric: str
    protocol: str
    value: float


class Validation:
    """The validation part of a run's dataset and what it measures there.

    Args:
        options: options of the run.
        processes: among which the samples are divided.
        scale: `methods.metric_scale.metric_scale` of the method; a metric method is also evaluated without
            alignment.
        tasks: `Method.tasks`; without depth, the loss is measured even with ground truth.

    Attributes:
        dataset: the validation part.
        indices: evenly spaced indices of the samples that are evaluated.
        has_ground_truth: True if depth is compared with the ground truth of these samples.
        labelled: the companion's images with labels; None if segmentation is not validated.
        goal: the metric that selects the best checkpoint, its protocol and direction.
        verdict: a sentence if the last validation was not better than one constant depth, else None; on the
            first process.
    """

    verdict: str | None = None

    def __init__(
        self,
        options: argparse.Namespace,
        processes: Processes,
        scale: float | None,
        tasks: Sequence[str] = ("depth",),
    ) -> None:
        self.options, self.processes, self.scale = options, processes, scale
        self.dataset = open_dataset(vars(options), "val")
        self.indices = evenly_spaced(len(self.dataset), options.num_val)
        monitor = getattr(options, "monitor", None)
        self.has_ground_truth = (
            "depth" in tasks
            and monitor != LOSS_GOAL.metric
            and any(self.dataset.depth(index) is not None for index in self.indices)
        )
        if not self.has_ground_truth:
            self.dataset = open_dataset(vars(options), "train", part="val")
            self.indices = evenly_spaced(len(self.dataset), options.num_val)
        self.labelled = self._open_labelled() if "segmentation" in tasks else None
        default = depth_goal(self.dataset.protocol, scale) if self.has_ground_truth else LOSS_GOAL
        self.goal: Goal = choose_goal(monitor, default, self.labelled)

    def _open_labelled(self) -> Any:
        """The companion's images for validation; None, with a printed reason, if it has none."""
        try:
            return open_companion(vars(self.options), "val", evaluated=True)
        except InputError as error:
            if self.processes.first:
                print(f"segmentation is not validated: {error}")
            return None

    def better(self, metrics: dict[str, float], best: Best | None) -> Best | None:
        """The new best, if the goal is better than a best of the same metric and protocol."""
        value = metrics.get(self.goal.metric, math.nan)
        same = best is not None and (best.metric, best.protocol) == (self.goal.metric, self.goal.protocol)
        if self.goal.is_better(value, best.value if same else None):
            return Best(self.goal.metric, self.goal.protocol, value)
        return None

    def cost(self, training: Mapping[str, Any]) -> float | None:
        """How bad a checkpoint is by the goal, from its training record; None if it cannot be compared."""
        best = saved_best(dict(training))
        value = (training.get("metrics") or {}).get(self.goal.metric, math.nan)
        if best is None or best.protocol != self.goal.protocol or not math.isfinite(value):
            return None
        return -value if self.goal.higher_is_better else value

    @torch.no_grad()
    def measure(self, model: nn.Module, method: nn.Module, train_set: Any) -> dict[str, float]:
        """Metrics by name over all processes.

        Args:
            model: gives losses.
            method: predicts depth.
            train_set: shows in its samples why a method is not better than one constant depth.
        """
        model.eval()
        if self.has_ground_truth:
            loading = self._loading(self.indices)
            metrics = validate_depth(method.predict, self.dataset, self.scale, loading)
            if self.processes.first:
                protocol, device = self.dataset.protocol, self.processes.device
                self.verdict = training_verdict(metrics, protocol, method, train_set, device)
        else:
            metrics = self._loss(model, method, self._share(self.indices))
        if self.labelled is not None:
            loading = self._loading(evenly_spaced(len(self.labelled), self.options.num_val))
            metrics |= validate_segmentation(method.predict, self.labelled, loading)
        return metrics

    def _share(self, indices: list[int]) -> list[int]:
        return indices[self.processes.rank :: self.processes.world]

    def _loading(self, indices: list[int]) -> Loading:
        options, device = self.options, self.processes.device
        return Loading(options.batch_size, device, options.num_workers, indices=self._share(indices))

    def _loss(self, model: nn.Module, method: nn.Module, indices: list[int]) -> dict[str, float]:
        sums = self.processes.together(lambda: self._sums(model, method, self._loader(indices)))
        shards = self.processes.gather(sums)  # one may be empty: fewer samples than processes
        names = dict.fromkeys(name for shard in shards for name in shard)
        return {name: sum(shard.get(name, 0.0) for shard in shards) / len(self.indices) for name in names}

    def _loader(self, indices: list[int]) -> DataLoader:
        """The samples of these indices, in batches.

        Raises:
            InputError: shared memory is too small.
        """
        size, workers = self.options.batch_size, self.options.num_workers if indices else 0
        sample = Guarded(self.dataset)[indices[0]] if workers else None
        prefetch = fit_loader(sample, size, workers, prefetch=2, copies=local_world())
        return DataLoader(
            Guarded(self.dataset),
            batch_sampler=[indices[start : start + size] for start in range(0, len(indices), size)],
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            worker_init_fn=outlive_sigterm,
            generator=torch.Generator(),
        )

    def _sums(self, model: nn.Module, method: nn.Module, loader: DataLoader) -> dict[str, float]:
        """Each loss term, summed over the samples of a loader."""
        sums: dict[str, float] = {}
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            batch = method.with_camera(batch.to(self.processes.device))
            terms = model.losses(batch, model(batch))
            terms["loss"] = torch.stack(list(terms.values())).sum()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(batch)
        return sums


def saved_best(state: dict[str, Any]) -> Best | None:
    """The best validation recorded in a checkpoint.

    Earlier checkpoints hold only its value; their `metrics` name the metric.
    """
    best, metrics = state.get("best"), state.get("metrics") or {}
    if isinstance(best, dict):
        return Best(**best)
    if best is None:
        return None
    name = next((name for name in ("loss", "metric_abs_rel", "abs_rel") if name in metrics), "loss")
    return Best(name, "loss" if name == "loss" else "", best)


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """`wanted` of the indices 0 to count - 1, or all if `wanted` is 0."""
    return np.linspace(0, count - 1, min(count, wanted or count)).round().astype(int).tolist()
