"""BDEdepth's augmented views, added to a network that already sees depth."""

from __future__ import annotations

from benchmarks.tables._evaluate import evaluated
from benchmarks.tables._spec import BFLOAT16, STEADY, Column, Rows, Start, Table, Trained, Value

VIDEO: dict[str, Value] = {
    "dataset": "kitti",
    "data_path": "@demo",
    "split": "@demo/splits",
    "height": 64,
    "width": 192,
    "v1_multiscale": None,
    **STEADY,
    **BFLOAT16,
}
VIEWS = {"views.local_crop": "true", "views.detail": 2, "views.patch_reshuffle": "true"}


def evaluate(run: Trained) -> Rows:
    """Errors on held-out streets by KITTI's protocol."""
    result = evaluated(run.folder)
    return {run.row: {key: result.mean[key] for key in ("abs_rel", "a1")}}


TABLE = Table(
    title="BDEdepth's augmented views",
    text=(
        "Monodepth2's network is trained further, without and with the local crop and the patch reshuffle, "
        "for the same number of steps. Evaluated on "
        "held-out streets by KITTI's protocol (LiDAR scan, Garg crop, 80 m, median scaling)."
    ),
    common=VIDEO,
    runs={"Monodepth2": {}, "with both augmented views": VIEWS},
    evaluate=evaluate,
    columns={"abs_rel": Column("abs_rel"), "a1": Column("a1")},
    claims=[],
    steps=300,
    start=Start(VIDEO, models="encoder depth pose_encoder pose", steps=800),
)
