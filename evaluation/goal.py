"""Metrics of the validation during training, and the goal that selects the best checkpoint.

A model that is metric, or sees a rig, is evaluated twice from the same predictions: by the dataset's
protocol, and without alignment. The goal of a metric model is the protocol's goal without alignment.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch

from datasets.sequence import SequenceDataset
from evaluation.depth import evaluate_all
from evaluation.loop import Loading, Predict
from evaluation.result import gather
from evaluation.segmentation import default_protocol, evaluate_segmentation
from evaluation.verdict import CORRELATION, GROUND_TRUTH_SPREAD, SPREAD
from methods.metric_scale import RATIO
from metrics import ACCURACIES, METRICS, Protocol, is_better
from processes import Processes
from utils import InputError, nearest_name


class Goal(NamedTuple):
    """The metric that selects the best checkpoint. Values of different goals must not be compared.

    Attributes:
        metric: its name among the metrics of a validation.
        protocol: name of the protocol it belongs to.
        higher_is_better: True if a higher value is better.
    """

    metric: str
    protocol: str
    higher_is_better: bool = False

    def is_better(self, value: float, best: float | None) -> bool:
        """True if `value` is finite and better than `best`; None is worse than any value."""
        return is_better(value, best, self.higher_is_better)


LOSS_GOAL = Goal("loss", "loss")  # of a validation set without ground truth


SEGMENTATION_METRICS = ("mean_iou", "pixel_accuracy")  # of a validation; higher is better


def depth_goal(protocol: Protocol, scale: float | None) -> Goal:
    """The goal of a depth model.

    Args:
        protocol: protocol of the validation set.
        scale: `methods.metric_scale.metric_scale` of the model.
    """
    metric = protocol.goal if scale is None else f"metric_{protocol.goal}"
    return Goal(metric, protocol.name, protocol.higher_is_better)


def choose_goal(monitor: str | None, default: Goal, labelled: SequenceDataset | None = None) -> Goal:
    """The goal of a run.

    Args:
        monitor: name of a metric of the validation, `--monitor`; None for the default.
        default: `depth_goal`, or `LOSS_GOAL`.
        labelled: dataset that segmentation is validated on, if it is.

    Raises:
        InputError: the validation does not measure this metric.
    """
    goals = {default.metric: default}
    if default is not LOSS_GOAL:
        goals |= {name: Goal(name, default.protocol, name in ACCURACIES) for name in METRICS}
    if labelled is not None:
        protocol = default_protocol(labelled).name
        goals |= {name: Goal(name, protocol, higher_is_better=True) for name in SEGMENTATION_METRICS}
    if monitor is None:
        return default
    if monitor not in goals:
        raise InputError(f"--monitor {monitor} is not measured here{nearest_name(monitor, goals)}")
    return goals[monitor]


def validate_depth(
    predict: Predict, dataset: SequenceDataset, scale: float | None, loading: Loading
) -> dict[str, float]:
    """Metrics of a validation set, by name; every process gets those of all samples.

    Args:
        predict: `Method.predict` of networks in eval mode.
        dataset: a dataset of single images with ground truth.
        scale: `methods.metric_scale.metric_scale` of the model.
        loading: with `indices`, this rank's share of the validation samples.

    Returns:
        The means of the dataset's protocol; `constant_<goal>`, which one constant depth reaches; spread and
        correlation of log depth (evaluation/verdict.py). For a metric model or a rig also those without
        alignment, `metric_abs_rel`, `metric_a1` and the metric goal, and `ground_truth_per_prediction`,
        which is 1 if the scale is right.
    """
    protocol = dataset.protocol
    protocols = {"aligned": protocol}
    if dataset.cameras > 1 or scale is not None:
        protocols["metric"] = dataclasses.replace(protocol, alignment="none", scale=scale or 1.0)
    results = evaluate_all(predict, dataset, protocols, loading)
    metrics = dict(results["aligned"].mean)
    metrics[f"constant_{protocol.goal}"] = results["aligned"].constant[protocol.goal]
    metrics |= dict(zip((SPREAD, GROUND_TRUTH_SPREAD, CORRELATION), results["aligned"].structure))
    if "metric" in results:
        mean = results["metric"].mean
        metrics |= {f"metric_{name}": mean[name] for name in dict.fromkeys(("abs_rel", "a1", protocol.goal))}
        metrics[RATIO] = results["metric"].ratio_median
    return metrics


def validate_segmentation(predict: Predict, dataset: SequenceDataset, loading: Loading) -> dict[str, float]:
    """`SEGMENTATION_METRICS` of a labelled dataset, by name; every process gets those of all samples.

    Args:
        predict: `Method.predict` of networks in eval mode.
        dataset: single images with labels, see `segmentation.evaluate_segmentation`.
        loading: with `indices`, this rank's share of the samples.
    """
    ranks = Processes(torch.device("cpu"))
    share = ranks.together(lambda: evaluate_segmentation(predict, dataset, loading=loading))
    summary = gather(share).confusion.summary()
    return {name: summary[name] for name in SEGMENTATION_METRICS}
