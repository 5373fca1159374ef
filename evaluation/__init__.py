"""Evaluation: a dataset predicted and compared with its ground truth, by one protocol or by several.

    result.py      one row for each image, means, protocol card, tables, results.json and per_image.csv
    loop.py        samples -> predict(batch), with flip averaging; shared by all tasks
    depth.py       evaluate(predict, dataset, protocols, loading): depth against ground truth
    goal.py        the metrics of a training's validation, and the goal that selects its best checkpoint
    baselines.py   predictors that ignore the image; every table starts with them
    details.py     further errors of each image: by distance, by region (regions.py), at depth edges
                   (depth_edges.py), as point clouds (cloud_errors.py)
    scale_drift.py ratio of ground truth and prediction along each scene
    verdict.py     better than one constant depth, or the likely cause in words
    saved.py       saved predictions, published ground truth, images for KITTI's server
    choice.py      which split, dataset, alignment and scale; the lines of the protocol card
    export.py      ground truth measured once, as the first evaluation does
    benchmarks.py  a model on one benchmark or several: opened, evaluated, printed, saved
    audit.py       does the training list overlap the evaluated frames? near_duplicates.py compares images
    comparison.py  two evaluations of the same images: paired differences by scene; comparison_grid.py draws
    corruptions.py images with noise, blur, weather (corruption_kinds.py), and what is left of the accuracy
    odometry.py    camera paths: predicted motions chained and compared with the ground truth
    segmentation.py    the second task: labels against label files, by a protocol of its own
    segmentation_result.py  confusion matrices of images: table, files, an image

Each task's protocol names its `goal`, the metric that selects the best checkpoint, and its direction.

A predictor is any function of a float `structures.Batch` that returns a `structures.Prediction` with
`depths[0]`, (B·N, 1, h, w) of any size: `Method.predict`, a baseline, or `saved.SavedInverseDepths`.
"""

from __future__ import annotations

from typing import Any

from utils import import_own

# Loaded on first use, so that an audit starts without torch.
_HOMES = {
    "LOSS_GOAL": "goal",
    "Goal": "goal",
    "Loading": "loop",
    "Predict": "loop",
    "Result": "result",
    "Row": "result",
    "check_ground_truth": "depth",
    "choose_goal": "goal",
    "compare": "result",
    "constant_predictor": "baselines",
    "depth_goal": "goal",
    "evaluate": "depth",
    "flip_post_process": "loop",
    "gather": "result",
    "map_predictor": "baselines",
    "mean_depth_map": "baselines",
    "predict_inverse_depths": "loop",
    "validate_depth": "goal",
    "validate_segmentation": "goal",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation' has no attribute '{name}'")
    return getattr(import_own(f"evaluation.{_HOMES[name]}"), name)
