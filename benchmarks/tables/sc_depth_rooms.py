"""SC-Depth in rooms, hand-held: V2, which takes the rotation out of the sources, next to V1."""

from __future__ import annotations

from benchmarks.tables._evaluate import evaluated
from benchmarks.tables._spec import BFLOAT16, STEADY, Claim, Column, Rows, Table, Trained
from benchmarks.tables._worlds import WORLDS

KEYS = ("abs_rel", "rmse", "a1")


def evaluate(run: Trained) -> Rows:
    """Errors on the labelled images of rooms that were not used in training, by NYUv2's protocol."""
    result = evaluated(run.folder)
    return {run.row: {key: result.mean[key] for key in KEYS} | {"constant": result.constant["abs_rel"]}}


TABLE = Table(
    title="SC-Depth: hand-held video of rooms",
    text=(
        "Rooms recorded by a hand-held camera that turns fast and moves slowly. Evaluated on labelled "
        "images of other rooms by NYUv2's protocol, each aligned by its median. `constant` is the abs_rel "
        "of one constant depth. Trained in bfloat16."
    ),
    common={
        "method": "sc_depth",
        "dataset": "nyuv2",
        "data_path": "@rooms",
        "split": "@rooms/splits",
        "height": WORLDS["rooms"].flags["height"],
        "width": WORLDS["rooms"].flags["width"],
        "scales": "0",
        **STEADY,
        **BFLOAT16,
    },
    runs={"SC-Depth V1": {"method.version": "v1"}, "SC-Depth V2": {"method.version": "v2"}},
    evaluate=evaluate,
    columns={
        "abs_rel": Column("abs_rel"),
        "rmse": Column("rmse"),
        "a1": Column("a1"),
        "constant": Column("constant"),
    },
    claims=[
        Claim(
            "V2 is better than V1",
            lambda rows: rows["SC-Depth V2"]["abs_rel"] < rows["SC-Depth V1"]["abs_rel"],
        )
    ],
    steps=1200,
)
