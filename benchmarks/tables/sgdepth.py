"""SGDepth on streets with dense traffic: joint segmentation, and masks of moving objects."""

from __future__ import annotations

from benchmarks.tables._evaluate import region_errors
from benchmarks.tables._spec import Claim, Column, Rows, Start, Table, Trained
from benchmarks.tables._worlds import SMALL
from datasets import open_dataset
from evaluation import Loading
from evaluation.segmentation import evaluate_segmentation
from methods import load_method

VIDEO = {
    "method": "sgdepth",
    "method.disparity_bias": 0,
    "min_depth": 1,
    "max_depth": 100,
    "method.translation_factor": 50,
    "dataset": "folder",
    "data_path": "@traffic/training",
    **SMALL,
    "dataset.stride": 2,
    "v1_multiscale": None,
    "learning_rate": "2e-4",
    "precision": "float32",
}
# 1 / ln(1.02 + share of the class), as in ENet, in 80 sequences of 3 frames with the seed of `labelled`,
# whose own weights differ by a quarter at most; 1 for classes that do not occur.
WEIGHTS = (
    3.7, 12.1, 3.9, 35.2, 39.8, 33.6, 1, 1, 13.3, 18.5, 5.4, 1, 1, 12.7, 1, 1, 1, 1, 1, 0
)  # fmt: skip
ONLY_DEPTH = {"losses.segmentation.weight": 0}
JOINT = {
    "companion.name": "label_folder",
    "companion.data_path": "@labelled",
    "companion.val_fraction": 0,
    "companion.height": SMALL["height"],
    "companion.width": SMALL["width"],
    "losses.segmentation.class_weights": str(list(WEIGHTS)),
}
MOVING = "losses.photometric.moving_objects"


def evaluate(run: Trained) -> Rows:
    """Errors by region on the held-out streets; mIoU over all streets, whose labels no run has seen."""
    numbers = region_errors(run.folder, run.worlds["traffic"] / "ground_truth/moving")
    method, options = load_method(run.folder, which="last")
    if options["companion"]:
        labelled = {"name": "label_folder", "data_path": str(run.worlds["traffic"])}
        images = open_dataset({**SMALL, "dataset": labelled}, "inspect", part="all", frame_ids=(0,))
        confusion = evaluate_segmentation(method.predict, images, loading=Loading()).confusion
        numbers["mean_iou"] = confusion.summary()["mean_iou"]
    return {run.row: numbers}


TABLE = Table(
    title="SGDepth: moving objects",
    text=(
        "Streets with a car ahead and oncoming cars. The labelled companion images are of other streets. All "
        "rows have the networks of SGDepth, which start from a training with depth and labels of those other "
        "streets; Monodepth2 trains depth only. `masked` leaves out the half of the images whose predicted "
        "movable pixels overlap least; `true masks` leaves out every moving pixel, and is the bound. Every "
        "second frame is compared, 5 a second. abs_rel over all pixels of the held-out streets, over moving "
        "and over static ones, each image aligned by its median. mIoU over all streets, whose labels are not "
        "used in training."
    ),
    common=VIDEO,
    runs={
        "Monodepth2": ONLY_DEPTH,
        "joint segmentation": JOINT,
        "joint segmentation, masked": JOINT | {MOVING: "{schedule: constant, share: 0.5, from_epoch: 1}"},
        "Monodepth2, true masks": ONLY_DEPTH
        | {
            "label_files.path": "@traffic/ground_truth/moving",
            "label_files.instances": "true",
            MOVING: "{labels: instances, schedule: always, from_epoch: 0}",
        },
    },
    evaluate=evaluate,
    columns={
        "overall": Column("abs_rel"),
        "moving": Column("abs_rel, moving"),
        "static": Column("abs_rel, static"),
        "mean_iou": Column("mIoU"),
    },
    claims=[
        Claim(
            "segmentation reaches 0.6 mIoU",
            lambda rows: rows["joint segmentation, masked"]["mean_iou"] >= 0.6,
        ),
        Claim(
            "masks are better than Monodepth2 on moving pixels",
            lambda rows: rows["joint segmentation, masked"]["moving"] < rows["Monodepth2"]["moving"],
        ),
    ],
    steps=240,
    note=(
        "Moving pixels are about as right as static ones without any mask, and true masks do not improve "
        "them. Predicted masks also leave out cars that stand."
    ),
    start=Start(
        VIDEO
        | JOINT
        | {
            "data_path": "@labelled/training",
            "learning_rate": "5e-4",
            "dataset.supervision": "true",
            "losses.supervised_depth.weight": 1,
            "losses.supervised_depth.error": "silog",
        },
        models="encoder depth pose_encoder pose",
        steps=1300,
    ),
)
