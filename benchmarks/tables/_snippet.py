"""Evaluation on left.png of the real KITTI snippet, whose ground truth is a dense stereo disparity.

Focal length 718.856 pixels, baseline 0.573 m. Pixels from row 120 on with a disparity above 1 and a depth
below 80 m are evaluated, after alignment by the median.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets.image_files import read_image
from datasets.resizing import resize_image
from images import as_image, colourise, image_grid
from methods import load_method
from metrics import METRICS, depth_errors
from utils import atomic_path

FOCAL_TIMES_BASELINE = 718.856 * 0.573  # pixels times metres
FIRST_ROW, MAX_DEPTH = 120, 80.0


def evaluate_run(run: Path, data_path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Errors of a run's depth of left.png, and of one constant depth; writes `snippet.png` in the run folder.

    Args:
        run: run folder; its last checkpoint is evaluated.
        data_path: folder with left.png and disparity.png.
    """
    method, options = load_method(run, which="last")
    image = read_image(data_path / "left.png")
    small = resize_image(image, options["height"], options["width"])[None].float() / 255
    with torch.no_grad():
        depth = method.predict_depth(small)
    ground_truth = stereo_depth(data_path / "disparity.png")
    draw(run / "snippet.png", small, depth, ground_truth)
    return evaluate(depth, ground_truth), evaluate(torch.full_like(depth, 10.0), ground_truth)


def draw(to: Path, image: Tensor, depth: Tensor, ground_truth: Tensor) -> None:
    """Write image, learned depth and stereo depth, one above the other."""
    nearness = [F.interpolate(1 / d, image.shape[2:], mode="bilinear")[0, 0] for d in (depth, ground_truth)]
    columns = [as_image(image[0]), *map(colourise, nearness)]
    with atomic_path(to) as temporary:
        Image.fromarray(image_grid([[column] for column in columns])).save(temporary, format="PNG")
    print(f"wrote {to}: image, learned depth, stereo depth")


def stereo_depth(path: Path) -> Tensor:
    """(1, 1, h, w) metres from the 8-bit disparity; 1e9 where it is missing, beyond any cap."""
    disparity = torch.from_numpy(np.array(Image.open(path), np.float32))
    depth = torch.where(disparity > 1, FOCAL_TIMES_BASELINE / disparity, 1e9)
    return depth[None, None]


def evaluate(depth: Tensor, ground_truth: Tensor) -> dict[str, float]:
    """Errors of (1, 1, H, W) predictions at the ground truth's size, aligned by the median."""
    resized = 1 / F.interpolate(1 / depth, ground_truth.shape[2:], mode="bilinear", align_corners=False)
    rows = torch.arange(ground_truth.shape[2])[:, None] >= FIRST_ROW
    valid = (ground_truth[0, 0] < MAX_DEPTH) & rows
    prediction, target = resized[0, 0][valid].numpy(), ground_truth[0, 0][valid].numpy()
    prediction = np.clip(prediction * np.median(target) / np.median(prediction), 1e-3, MAX_DEPTH)
    errors = depth_errors(torch.from_numpy(prediction)[None], torch.from_numpy(target)[None])
    return dict(zip(METRICS, errors.flatten().tolist()))
