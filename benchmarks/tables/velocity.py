"""Metric scale from a speed that is measured with noise and too late."""

from __future__ import annotations

from benchmarks.tables._evaluate import evaluated
from benchmarks.tables._spec import BFLOAT16, STEADY, Claim, Column, Rows, Start, Table, Trained
from benchmarks.tables._worlds import SMALL

ROW = "speed, 5 % noise, 100 ms late"


def evaluate(run: Trained) -> Rows:
    """Errors in metres, without alignment, on the held-out streets, and the scale ratio."""
    result = evaluated(run.folder)
    ratio = result.ratio_median
    own = {"ratio": ratio, "scale_error": 100 * abs(ratio - 1)}
    return {run.row: own | {key: result.mean[key] for key in ("abs_rel", "a1")}}


VIDEO = {
    "method": "packnet",
    "dataset": "folder",
    "data_path": "@speeds/training",
    **SMALL,
    "min_depth": 1,
    "max_depth": 100,
    "method.translation_factor": 50,
    **STEADY,
    **BFLOAT16,
}
TABLE = Table(
    title="PackNet's velocity term: metric scale from speed",
    text=(
        "Each value of speed.csv has 5 % noise and is the speed of 100 ms earlier. The held-out streets are "
        "evaluated in metres, without alignment. `ratio` is the median over images of ground truth / "
        "prediction. Training starts from a network that was trained on the same video without speed."
    ),
    # Only the start compares small images at their own size, whose principal point is wrong by half a pixel.
    common=VIDEO | {"dataset.speed": "true", "losses.velocity.weight": 0.05},
    runs={ROW: {}},
    evaluate=evaluate,
    columns={
        "ratio": Column("ratio"),
        "scale_error": Column("error of the scale, %", 1),
        "abs_rel": Column("abs_rel, metric"),
        "a1": Column("a1, metric"),
    },
    claims=[Claim("the scale is right within 5 %", lambda rows: rows[ROW]["scale_error"] <= 5)],
    steps=300,
    start=Start(VIDEO | {"v1_multiscale": None}, models="encoder depth pose_encoder pose", steps=1200),
)
