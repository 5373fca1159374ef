"""PackNetSlim next to a ResNet-18: quality, memory and time after equal steps."""

from __future__ import annotations

from benchmarks._runs import peak_memory, step_seconds
from benchmarks.tables._evaluate import evaluated
from benchmarks.tables._spec import Column, Rows, Table, Trained
from benchmarks.tables._worlds import WORLDS

BATCH = 2


def evaluate(run: Trained) -> Rows:
    """Errors on the held-out streets, seconds of a step, and the largest memory of the training."""
    result = evaluated(run.folder, {"ground_truth": "improved"})
    numbers = {key: result.mean[key] for key in ("abs_rel", "a1")}
    return {
        run.row: {**numbers, "seconds": step_seconds(run.folder, BATCH), "memory": peak_memory(run.folder)}
    }


SUPERVISED = {  # dense ground truth of single images, without sources
    "method": "packnet",
    "dataset": "kitti",
    "data_path": "@streets",
    "split": "@streets/splits",
    **{key: WORLDS["streets"].flags[key] for key in ("height", "width")},
    "dataset.ground_truth": "improved",
    "dataset.supervision": "true",
    "losses.supervised_depth.weight": 1,
    "losses.supervised_depth.error": "abs_rel",
    "losses.photometric.weight": 0,
    "losses.smoothness.weight": 0,
    "frame_ids": "0",
    "min_depth": 2,
    "max_depth": 100,
    "precision": "float32",
}
TABLE = Table(
    title="PackNetSlim next to ResNet-18",
    text=(
        "Both depth networks start from random weights and are supervised by the same dense ground truth, "
        "so that a short training decides between them. Evaluated on held-out streets, each image aligned by "
        "its median. `memory` is the largest resident memory of the training process."
    ),
    common=SUPERVISED | {"batch_size": BATCH},
    runs={"ResNet-18": {"encoder": "resnet18"}, "PackNetSlim": {"depth_network": "packnet_slim"}},
    evaluate=evaluate,
    columns={
        "abs_rel": Column("abs_rel"),
        "a1": Column("a1"),
        "seconds": Column("s per step", 2, banded=False),
        "memory": Column("memory, MiB", 0, banded=False),
    },
    claims=[],
    steps=60,
    epochs=3,
)
