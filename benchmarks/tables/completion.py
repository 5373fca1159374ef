"""Depth completion: PackNet-SAN with few LiDAR beams or points next to its prediction from images only."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.tables._evaluate import relative_error
from benchmarks.tables._spec import Claim, Column, Rows, Start, Table, Trained
from benchmarks.tables.packnet import SUPERVISED
from datasets import open_dataset
from evaluation.loop import Loading, Samples, predict_samples
from methods import load_method
from metrics import crop_box

INPUTS = {  # row → settings of the input depth
    "no input depth": {},
    "1 beam": {"keep_beams": 1},
    "4 beams": {"keep_beams": 4},
    "16 beams": {"keep_beams": 16},
    "64 beams": {},
    "100 points": {"keep_points": 100},
    "500 points": {"keep_points": 500},
}


def evaluate(run: Trained) -> Rows:
    """Metric errors and stripes of one model with each input."""
    method, options = load_method(run.folder, which="last")
    rows = {}
    alone: torch.Tensor | None = None
    for row, settings in INPUTS.items():
        given = "velodyne_camera" if row != "no input depth" else False
        own = {"input_depth": given, "supervision": False, "keep_beams": 0, "keep_points": 0}
        section = {**options["dataset"], **own, **settings}
        images = open_dataset(
            {**options, "dataset": section}, "inspect", part="test", frame_ids=(0,), ground_truth="improved"
        )
        depths, errors = [], []
        for indices, prediction, _ in predict_samples(method.predict, Samples(images), Loading()):
            for index, depth in zip(indices, prediction.depths[0]):
                true_depth = torch.from_numpy(images.depth(index))
                error, valid = relative_error(depth, true_depth, align=False)
                top, bottom, left, right = crop_box("garg", *valid.shape[-2:])
                seen = (..., slice(top, bottom), slice(left, right))
                errors.append(float(error[seen][valid[seen]].mean()))
                depths.append(depth[0])
        stacked = torch.stack(depths)
        alone = stacked if alone is None else alone
        rows[row] = {"abs_rel": float(np.mean(errors))}
        if given:
            seen = torch.stack([images[index].maps["input_depth"][0, 0] > 0 for index in range(len(images))])
            rows[row]["stripes"] = roughness(stacked, seen) / roughness(alone, seen)
    return rows


def roughness(depth: torch.Tensor, seen: torch.Tensor) -> float:
    """Vertical roughness of log depth where depth was measured, relative to where it was not.

        mean over measured pixels of |l(y - 1) - 2 l(y) + l(y + 1)|,  over the mean of the others

    l is log depth.

    Args:
        depth: (n, H, W) predicted metres.
        seen: (n, H, W), True at pixels with input depth.
    """
    log = depth.log()
    bend = (log[:, :-2] - 2 * log[:, 1:-1] + log[:, 2:]).abs()
    inner = seen[:, 1:-1]
    return float(bend[inner].mean() / bend[~inner].mean())


COMPLETION = SUPERVISED | {
    "data_path": "@lidar",
    "split": "@lidar/splits",
    "depth_network.name": "packnet_san",
    "depth_network.widths": "[16, 16, 32, 32, 64, 64]",
    "dataset.input_depth": "velodyne_camera",
    "dataset.keep_beams": "[1, 64]",
    "losses.feature_gap.weight": 0.01,
}
TABLE = Table(
    title="PackNet-SAN: depth completion",
    text=(
        "One model, supervised by dense ground truth and trained with 1 to 64 of 64 beams as input, is "
        "evaluated in metres on held-out streets, in KITTI's usual crop, which the LiDAR covers. `stripes` "
        "compares the vertical roughness of log depth at measured pixels with that of the others, relative "
        "to the prediction without input depth: 1 means no stripes along the beams."
    ),
    common=COMPLETION,
    runs={"completion": {}},
    evaluate=evaluate,
    columns={"abs_rel": Column("abs_rel, metric"), "stripes": Column("stripes", 2)},
    claims=[
        Claim(
            "4 beams halve abs_rel",
            lambda rows: rows["4 beams"]["abs_rel"] <= rows["no input depth"]["abs_rel"] / 2,
        ),
        Claim(
            "no stripes appear along the beams (at most 1.5)",
            lambda rows: rows["4 beams"]["stripes"] <= 1.5,
        ),
    ],
    steps=300,
    note="64 beams remove a quarter of the error, 4 beams a twelfth. A hundred points do not help.",
    start=Start(COMPLETION | {"learning_rate": "1e-3"}, models="depth", steps=3000),
)
