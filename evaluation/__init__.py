"""Evaluation: a dataset predicted and compared with its ground truth, by one protocol or by several.

    result.py      one row for each image, means, protocol card, tables, results.json and per_image.csv
    loop.py        samples -> predict(batch), with flip averaging; shared by all tasks
    depth.py       evaluate(predict, dataset, protocols, loading): depth against ground truth
    goal.py        the metrics of a training's validation, and the goal that selects its best checkpoint
    baselines.py   predictors that ignore the image; every table starts with them
    saved.py       saved predictions, published ground truth, images for KITTI's server
    choice.py      which split, dataset, alignment and scale; the lines of the protocol card
    export.py      ground truth measured once, as the first evaluation does
    benchmarks.py  a model on one benchmark or several: opened, evaluated, printed, saved
    odometry.py    camera paths: predicted motions chained and compared with the ground truth
    segmentation.py    the second task: labels against label files, with a protocol and a goal of its own

Each task's protocol names its `goal`, the metric that selects the best checkpoint, and its direction.

A predictor is any function of a float `structures.Batch` that returns a `structures.Prediction` with
`depths[0]`, (B·N, 1, h, w) of any size: `Method.predict`, a baseline, or `saved.SavedInverseDepths`.
"""

from evaluation.baselines import constant_predictor, map_predictor, mean_depth_map
from evaluation.depth import check_ground_truth, evaluate
from evaluation.goal import LOSS_GOAL, Goal, depth_goal, validate_depth
from evaluation.loop import Loading, Predict, flip_post_process, predict_inverse_depths
from evaluation.result import Result, Row, compare, gather, join

__all__ = [
    "LOSS_GOAL",
    "Goal",
    "Loading",
    "Predict",
    "Result",
    "Row",
    "check_ground_truth",
    "compare",
    "constant_predictor",
    "depth_goal",
    "evaluate",
    "flip_post_process",
    "gather",
    "join",
    "map_predictor",
    "mean_depth_map",
    "predict_inverse_depths",
    "validate_depth",
]
