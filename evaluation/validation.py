"""Validation during training: the evaluator's metrics, and the goal that selects the best checkpoint.

A model that is metric, or sees a rig, is evaluated twice from the same predictions: each image aligned by
its median, and without alignment. Its best checkpoint is the one with the best metric error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from datasets._sequence import SequenceDataset
from evaluation.depth import evaluate
from evaluation.loop import Loading, Predict
from evaluation.result import gather
from metrics import is_better


@dataclass(frozen=True)
class Validation:
    """Metrics of one validation and what "best" means for them.

    Attributes:
        metrics: name -> value; the same in every process.
        goal: the metric that selects the best checkpoint.
        higher_is_better: whether a larger value of the goal is better.
        protocol: name of the protocol; a best value of another protocol or goal must not be compared.
    """

    metrics: dict[str, float]
    goal: str
    higher_is_better: bool
    protocol: str

    @property
    def value(self) -> float:
        """The value of the goal."""
        return self.metrics[self.goal]

    def is_better(self, best: float | None) -> bool:
        """True if the value is finite and better than `best`; None is worse than any value."""
        return is_better(self.value, best, self.higher_is_better)


def depth_goal(goal: str, scale: float | None) -> str:
    """The goal of a depth model: the protocol's, of metric depth if the model knows its scale."""
    return goal if scale is None else f"metric_{goal}"


def validate_depth(
    predict: Predict, dataset: SequenceDataset, scale: float | None, loading: Loading
) -> Validation:
    """Evaluate by the dataset's protocol; every process gets the metrics of all samples.

    Args:
        predict: of networks in eval mode.
        dataset: of single images, with ground truth.
        scale: `methods.metric_scale.metric_scale` of the model.
        loading: with `indices`, this rank's share of the validation samples.

    Returns:
        The protocol's metrics. For a metric model or a rig also `metric_abs_rel`,
        `metric_a1`, the metric goal, and `ground_truth_per_prediction`, which is 1 if the scale is right.
    """
    protocol = dataset.protocol
    protocols = {"aligned": protocol}
    if dataset.cameras > 1 or scale is not None:
        protocols["metric"] = dataclasses.replace(protocol, alignment="none", scale=scale or 1.0)
    results = evaluate(predict, dataset, protocols, loading)
    results = {name: gather(result) for name, result in results.items()}
    metrics = dict(results["aligned"].mean)
    if "metric" in results:
        metric = results["metric"]
        names = dict.fromkeys(("abs_rel", "a1", protocol.goal))
        metrics |= {f"metric_{name}": metric.mean[name] for name in names}
        metrics["ground_truth_per_prediction"] = metric.ratio_median
    goal = depth_goal(protocol.goal, scale)
    return Validation(metrics, goal, protocol.higher_is_better, protocol.name)
