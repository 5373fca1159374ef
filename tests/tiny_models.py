"""Untrained models that take no time: a run of ours and a published folder, 64 x 96."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from checkpoints import Checkpoint, save_checkpoint
from methods import build_method
from tests import goldens

HEIGHT, WIDTH = 64, 96
OPTIONS = {
    "method": "monodepth2",
    "num_layers": 18,
    "weights_init": "scratch",
    "height": HEIGHT,
    "width": WIDTH,
    "frame_ids": [0, -1, 1],
    "pose_model_type": "posecnn",
}


def save_run(folder: Path, disparity: float | None = None, **options) -> Path:
    """A run folder; with `disparity` its network answers that sigmoid output everywhere."""
    torch.manual_seed(0)
    options = {**OPTIONS, **options}
    weights = build_method(options).state_dict()
    for key, value in weights.items():
        if disparity is not None and key.startswith("depth.") and value.shape[0] == 1:  # the outputs
            value.fill_(math.log(disparity / (1 - disparity)) if key.endswith("bias") else 0.0)
    save_checkpoint(folder / "checkpoints" / "last.pt", Checkpoint(weights, options))
    return folder


def save_published(folder: Path, use_stereo: bool = False) -> Path:
    """A Monodepth2 folder as published, for prediction only."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = goldens.state_dict("monodepth2_encoder_resnet18")
    torch.save(
        {"height": HEIGHT, "width": WIDTH, "use_stereo": use_stereo, **encoder}, folder / "encoder.pth"
    )
    torch.save(goldens.state_dict("monodepth2_depth_resnet18"), folder / "depth.pth")
    return folder
