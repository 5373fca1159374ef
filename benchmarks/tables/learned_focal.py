"""Focal lengths of uncalibrated videos: a wrong one, that of the motion, and the one that is learned."""

from __future__ import annotations

import numpy as np

from benchmarks.tables._spec import BFLOAT16, STEADY, Claim, Column, Rows, Table, Trained
from benchmarks.tables._worlds import read_focal
from checkpoints import load_checkpoint

WRONG, MOTION, LEARNED = "cam.txt, 10 % too long", "guess, from the motion", "learn, from 10 % too long"


def evaluate(run: Trained) -> Rows:
    """Mean and largest relative error of fx over the videos, in percent."""
    found: dict[str, list[float]] = {WRONG: [], MOTION: [], LEARNED: []}
    for walk, camera in load_checkpoint(run.folder, which="last").options["cameras"].items():
        true = read_focal(run.worlds["walks"], walk)[0]
        share, width = camera["motion"][0], camera["size"][1]
        focals = {
            WRONG: float(camera["start"].split()[0]),
            MOTION: share * width,
            LEARNED: float(camera["intrinsics"].split()[0]),
        }
        for row, focal in focals.items():
            found[row].append(100 * abs(focal / true - 1))
    return {row: {"mean": float(np.mean(errors)), "largest": max(errors)} for row, errors in found.items()}


TABLE = Table(
    title="Focal length of uncalibrated video",
    text=(
        "Hand-held walks through rooms, each with a focal length of its own. `guess` finds it from matches "
        "between the frames; it needs no training and no seed. `learn` trains it with depth and motion, from "
        "a `cam.txt` that is wrong by 10 %. Relative error of the focal length. Trained in bfloat16."
    ),
    common={
        "dataset": "folder",
        "data_path": "@walks/frames",
        "dataset.intrinsics": "learn",
        "height": 96,
        "width": 160,
        "v1_multiscale": None,
        **STEADY,
        **BFLOAT16,
    },
    runs={LEARNED: {}},
    evaluate=evaluate,
    columns={"mean": Column("mean error, %", 2), "largest": Column("largest error, %", 2)},
    claims=[
        Claim("the learned focal lengths are right within 2 %", lambda rows: rows[LEARNED]["largest"] <= 2)
    ],
    steps=600,
)
