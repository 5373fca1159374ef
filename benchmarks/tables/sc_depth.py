"""SC-Depth on streets with dense traffic: V1, V3 with pseudo-depth, and the scale over long drives."""

from __future__ import annotations

from benchmarks.tables._evaluate import drift_over_drives, region_errors
from benchmarks.tables._spec import BFLOAT16, STEADY, Claim, Column, Rows, Table, Trained
from benchmarks.tables._worlds import SMALL

VIDEO = {
    "dataset": "folder",
    "data_path": "@traffic/training",
    **SMALL,
    "dataset.stride": 2,  # at 128x64, frames of 0.1 s hardly differ where the street is far away
    "v1_multiscale": None,
    **STEADY,
    **BFLOAT16,
}
SC_DEPTH = {"method": "sc_depth", "scales": "0", "decoder": "depth_decoder"}


def evaluate(run: Trained) -> Rows:
    """Errors by region on the held-out streets, and the drift of the scale over drives of 100 frames."""
    numbers = region_errors(run.folder, run.worlds["traffic"] / "ground_truth/moving")
    return {run.row: {**numbers, "drift": drift_over_drives(run.folder, run.worlds["drives"] / "training")}}


TABLE = Table(
    title="SC-Depth: moving objects and scale over time",
    text=(
        "Streets with a car ahead and oncoming cars. Pseudo-depth of V3 is the true depth raised to an "
        "unknown power, blurred, with 5 % noise. `drift` is the standard deviation of the log scale ratio "
        "over the frames of drives of 100 frames: 0.1 is 10 %. Every second frame is compared, 5 a second. "
        "Trained in bfloat16."
    ),
    common=VIDEO,
    runs={
        "Monodepth2": {},
        "SC-Depth V1": SC_DEPTH | {"method.version": "v1"},
        "SC-Depth V3": SC_DEPTH | {"method.version": "v3", "dataset.pseudo_depth": "true"},
    },
    evaluate=evaluate,
    columns={
        "overall": Column("abs_rel"),
        "moving": Column("abs_rel, moving"),
        "static": Column("abs_rel, static"),
        "drift": Column("drift"),
    },
    claims=[
        Claim(
            "V3 is better than V1 on moving pixels and overall",
            lambda rows: all(
                rows["SC-Depth V3"][key] < rows["SC-Depth V1"][key] for key in ("moving", "overall")
            ),
        ),
        Claim(
            "the scale of V1 drifts at most half as much as Monodepth2's",
            lambda rows: rows["SC-Depth V1"]["drift"] <= rows["Monodepth2"]["drift"] / 2,
        ),
    ],
    steps=1200,
    note=("The drifts of V1 and V3 do not differ from Monodepth2's by more than the seeds differ."),
    also_needs=("drives",),
)
