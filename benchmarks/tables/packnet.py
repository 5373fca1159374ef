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


TABLE = Table(
    title="PackNetSlim next to ResNet-18",
    text=(
        "Both depth networks start from random weights and have the same pose network and losses. Evaluated "
        "on held-out streets with dense ground truth, each image aligned by its median. `memory` is the "
        "largest resident memory of the training process."
    ),
    common={
        "method": "packnet",
        "dataset": "kitti",
        "data_path": "@streets",
        "split": "@streets/splits",
        **{key: WORLDS["streets"].flags[key] for key in ("height", "width")},
        "pose_model_type": "posecnn",
        "v1_multiscale": None,
        "batch_size": BATCH,
    },
    runs={"ResNet-18": {"encoder": "resnet18"}, "PackNetSlim": {"depth_network": "packnet_slim"}},
    evaluate=evaluate,
    columns={
        "abs_rel": Column("abs_rel"),
        "a1": Column("a1"),
        "seconds": Column("s per step", 2, banded=False),
        "memory": Column("memory, MiB", 0, banded=False),
    },
    claims=[],
    steps=102,
)
