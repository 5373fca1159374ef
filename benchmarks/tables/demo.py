"""The training of `make demo`, next to two baselines that ignore the image."""

from __future__ import annotations

from benchmarks.tables._evaluate import validations
from benchmarks.tables._spec import Claim, Column, Rows, Table, Trained
from predictor import load_predictor
from tools.demo import CONFIG, evaluate_demo

LEARNED = "learned from video"
STEPS, EPOCHS = 364, 7


def evaluate(run: Trained) -> Rows:
    """The demo's own evaluation, and the learning curve: abs_rel of the validation after epochs 2 and 4."""
    results = evaluate_demo(load_predictor(run.folder, which="last"), run.worlds["demo"])
    numbers = {name: dict(result.mean) for name, result in results.items()}
    curve = [record["abs_rel"] for record in validations(run.folder)]
    numbers[LEARNED] |= {f"epoch_{epoch}": curve[epoch - 1] for epoch in (2, 4)}
    return numbers


TABLE = Table(
    title="The demo",
    text=(
        "`configs/demo.yaml`, the training of `make demo`, on streets that were not used in training, by "
        "KITTI's protocol (LiDAR scan, Garg crop, 80 m, median scaling). The two baselines ignore the image. "
        "Trained in bfloat16."
    ),
    # The choice of `precision: auto` on the processors of docs/performance.md.
    common={
        "config": CONFIG,
        "data_path": "@demo",
        "split": "@demo/splits",
        "batch_size": 4,
        "precision": "bfloat16",
    },
    runs={LEARNED: {}},
    evaluate=evaluate,
    columns={
        "abs_rel": Column("abs_rel"),
        "sq_rel": Column("sq_rel"),
        "rmse": Column("rmse"),
        "rmse_log": Column("rmse_log"),
        "a1": Column("a1"),
        "a2": Column("a2"),
        "a3": Column("a3"),
        "epoch_2": Column("validation, epoch 2"),
        "epoch_4": Column("validation, epoch 4"),
    },
    claims=[
        Claim(
            "learned depth is better than the mean depth of each pixel",
            lambda rows: rows[LEARNED]["abs_rel"] < rows["mean depth of each pixel"]["abs_rel"],
        ),
    ],
    steps=STEPS,
    epochs=EPOCHS,
    base={},
)
