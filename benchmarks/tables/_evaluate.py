"""Numbers of a finished run: by the dataset's protocol, by region, and over time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from datasets import open_dataset
from evaluation import Loading, Result
from evaluation.benchmarks import evaluate_model
from evaluation.choice import DatasetChoice, Model, ProtocolChoice
from evaluation.loop import Samples, predict_samples
from evaluation.scale_drift import scale_drift
from methods import load_method

REGIONS = ("overall", "moving", "static")
NEAREST, FARTHEST = 1e-3, 80.0  # metres that are compared


def evaluated(run: Path, where: Mapping[str, Any] | None = None, how: ProtocolChoice | None = None) -> Result:
    """A run's last checkpoint by the protocol of its dataset; `where` are settings of `DatasetChoice`."""
    method, options = load_method(run, which="last")
    return evaluate_model(Model(method, options), DatasetChoice(**(where or {})), how, Loading())


def validations(run: Path) -> list[dict[str, float]]:
    """The metrics of each validation of a run, from its log."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = [{k[4:]: value for k, value in record.items() if k.startswith("val/")} for record in records]
    return [metrics for metrics in found if "abs_rel" in metrics]


def region_errors(run: Path, moving: Path, part: str = "val") -> dict[str, float]:
    """abs_rel over moving and static pixels of a part of a folder, each pixel counted once.

        sum over all pixels of the region of all images  |d - d*| / d*,   over their number

    Each image is aligned by its median over the whole image before its regions are compared, so that a region
    is not forgiven a wrong scale.

    Args:
        run: run folder; its last checkpoint is evaluated.
        moving: folder that mirrors the dataset's, with masks that are above 0 on moving objects.
        part: part of the dataset.

    Returns:
        `overall`, `moving` and `static`.
    """
    method, options = load_method(run, which="last")
    dataset = open_dataset(options, "inspect", part=part, frame_ids=(0,))
    sums, counts = dict.fromkeys(REGIONS, 0.0), dict.fromkeys(REGIONS, 0)
    for indices, prediction, _ in predict_samples(method.predict, Samples(dataset), Loading()):
        for index, depth in zip(indices, prediction.depths[0]):
            error, valid = relative_error(depth, torch.from_numpy(dataset.depth(index)))
            path = dataset.paths(dataset.samples[index], 0)[0].relative_to(dataset.data_path)
            mask = torch.from_numpy(np.array(Image.open((moving / path).with_suffix(".png"))))[None] > 0
            for name, region in zip(REGIONS, (valid, valid & mask, valid & ~mask)):
                sums[name] += float(error[region].double().sum())
                counts[name] += int(region.sum())
    return {name: sums[name] / counts[name] for name in REGIONS}


def relative_error(
    depth: torch.Tensor, true_depth: torch.Tensor, align: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """|d - d*| / d*, and its valid pixels; all (1, h, w), depth of any size. `align` aligns by the median."""
    depth = 1 / F.interpolate(1 / depth[None], true_depth.shape[-2:], mode="bilinear", align_corners=False)[0]
    valid = (true_depth > NEAREST) & (true_depth < FARTHEST)
    ratio = true_depth[valid].median() / depth[valid].median() if align else 1.0
    aligned = (depth * ratio).clamp(NEAREST, FARTHEST)
    return (aligned - true_depth).abs() / true_depth.clamp(min=NEAREST), valid


def drift_over_drives(run: Path, drives: Path) -> float:
    """Standard deviation of the log scale ratio over the frames of a drive, mean over the drives.

    The ratio of a frame is median(ground truth) / median(prediction). Depth of one scale over a video has the
    same ratio in every frame, and a drift of 0.

    Args:
        run: run folder; its last checkpoint is evaluated.
        drives: folder of long scenes.
    """
    result = evaluated(run, {"data_path": drives, "split": None, "settings": {"val_fraction": 0}})
    drifts = scale_drift([(row.name, row.camera, row.ratio) for row in result.rows])
    return drifts["mean"]["std_log"]
