"""The images that gained and lost most between two models, as an image grid with error maps.

    row: image, depth by A, depth by B, error of A, error of B        error: |t - p| / t, 0 dark to 0.3 bright

The first rows gained most with B, the last ones lost most. Both models see the dataset at their own size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.sequence import SequenceDataset
from evaluation.choice import (
    DatasetChoice,
    Model,
    ProtocolChoice,
    choose_protocols,
    choose_split,
    open_images,
)
from evaluation.comparison import Comparison, Key
from images import as_image, colourise, image_grid, labelled, resized, save_image
from methods.metric_scale import trained_on
from metrics import GroundTruth, Protocol, align_prediction, sample_prediction
from utils import InputError

WIDTH = 480  # pixels of one image in the grid
WORST = 0.3  # relative error shown brightest
DOT = 5  # pixels; LiDAR points are enlarged


def draw_changes(
    path: Path, models: Sequence[Model], where: DatasetChoice, how: ProtocolChoice, found: Comparison
) -> int:
    """Draw the gained and lost images of a comparison.

    Args:
        path: path of the image grid.
        models: A and B, in eval mode.
        where: the evaluated dataset; its split as for the evaluation.
        how: alignment and scale.
        found: from `compare_images`.

    Returns:
        Number of rows.

    Raises:
        InputError: the dataset holds none of the images.
    """
    changes = dict((*found.gained, *reversed(found.lost)))
    keys = list(changes)
    rows = [_predictions(model, where, how, keys) for model in models]
    names = "A", "B", "error of A", "error of B"
    grid = []
    for key in keys:
        if key in rows[0] and key in rows[1]:
            cells = [*(one[key][1] for one in rows), *(one[key][2] for one in rows)]
            image = labelled(rows[0][key][0], f"{key[0]}  {changes[key]:+.3f}")
            grid.append([image, *map(labelled, cells, names)])
    if not grid:
        raise InputError(f"{where.data_path} holds none of the compared images; give their --eval_split")
    height = min(image.shape[0] for row in grid for image in row)
    save_image(path, image_grid([[image[:height] for image in row] for row in grid]))
    return len(grid)


def _predictions(
    model: Model, where: DatasetChoice, how: ProtocolChoice, keys: Sequence[Key]
) -> Mapping[Key, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, coloured depth and error map of each image, all `WIDTH` wide."""
    name = where.name or trained_on(model.options)[0]
    images = open_images(where, model, *choose_split(name, model.options, where.split)).images
    protocol = next(iter(choose_protocols(how, model, images).values()))
    index_of = {images.name(index): index for index in range(len(images))}
    return {
        key: draw_image(model, images, protocol, index_of[key[0]], key[1])
        for key in keys
        if key[0] in index_of
    }


@torch.no_grad()
def draw_image(
    model: Model, images: SequenceDataset, protocol: Protocol, index: int, camera: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, coloured depth and error map of one camera of a sample, all `WIDTH` wide: (h, w, 3) uint8."""
    device = next(model.method.parameters(), torch.zeros(0)).device
    batch = images[index].to(device)
    names = list(images.camera_names)
    n = names.index(camera) if camera in names else int(camera or 0)
    depth = model.predict(batch).depths[0][n : n + 1].cpu()
    ground_truth = GroundTruth.of(images.depth(index)[n : n + 1], protocol)
    aligned, _ = align_prediction(sample_prediction(depth, ground_truth, protocol), ground_truth, protocol)
    shown = as_image(batch.images[0][n].cpu())
    return tuple(resized(image, WIDTH) for image in (shown, colourise(1 / depth[0, 0]),
                 error_map(aligned, ground_truth, shown.shape[:2])))  # fmt: skip


def error_map(depth: Tensor, ground_truth: GroundTruth, size: tuple[int, int]) -> np.ndarray:
    """Relative errors of one image as dots: (height, width, 3) uint8 RGB, black without ground truth.

    Args:
        depth: (1, K) aligned depth at the pixels of the ground truth, metres.
        ground_truth: ground truth of one image.
        size: height and width of the map.
    """
    valid = ground_truth.valid[0]
    t = ground_truth.depth[0][valid]
    error = ((depth[0][valid] - t).abs() / t).numpy()
    height, width = size
    scale = torch.tensor(size) / ground_truth.sizes[0]
    rows = (ground_truth.rows[0][valid] * scale[0]).long().clamp(max=height - 1).numpy()
    columns = (ground_truth.columns[0][valid] * scale[1]).long().clamp(max=width - 1).numpy()
    worst = np.full(size, -1.0, np.float32)
    reach = DOT // 2
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down**2 + right**2 <= reach**2:
                place = np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)
                np.maximum.at(worst, place, error)
    coloured = colourise(np.maximum(worst, 0), 0, WORST, "inferno")
    coloured[worst >= 0] = np.maximum(coloured[worst >= 0], 30)  # a perfect pixel is not black
    coloured[worst < 0] = 0
    return coloured
