"""Write the ground truth of a split to one file, so that evaluation needs no LiDAR scans (175 GB for KITTI).

    python tools/export_gt_depth.py --data_path data/kitti --split eigen
    python tools/export_gt_depth.py --data_path data/kitti --split eigen_benchmark
    python tools/export_gt_depth.py --data_path data/ddad --dataset ddad
    python tools/export_gt_depth.py --data_path data/synthetic --split data/synthetic/splits --part val test

The file is `<data_path>/gt_depths/<split>_<part>_<ground truth>.npz`, where the dataset finds it;
datasets/ground_truth.py describes its content. Images without ground truth are left out. An interrupted
export continues when it is started again. To share the work among machines, give each a `--shard 1/4` to
`--shard 4/4`, or use torchrun.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flags import parse as parse_flags
from tools._options import add_dataset, add_workers, new_parser, open_dataset, place
from utils import InputError, run_main

if TYPE_CHECKING:
    from datasets import SequenceDataset


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from evaluation.export import export

    for part in given.part or [None]:
        dataset = open_exportable(given, part)
        path, written, asked = export(dataset, given.shard, given.workers)
        if not asked:
            print(f"{path.name}: nothing to write, there are fewer samples than shards")
            continue
        missing = f"; {asked - written} samples have no ground truth" if written < asked else ""
        print(f"wrote the depth of {written} samples to {path}{missing}")


def open_exportable(given: argparse.Namespace, part: str | None = None) -> SequenceDataset:
    """The dataset to export from, for one part of its split; without a part, the evaluated one.

    Raises:
        InputError: the dataset refuses a setting, or has no depth.
    """
    from datasets import DATASETS
    from datasets.ground_truth import Exportable
    from datasets.splits import evaluated_part

    taken = inspect.signature(DATASETS.get(given.dataset)).parameters
    split = given.split or (taken["split"].default if "split" in taken else None)
    part = (part or evaluated_part(given.dataset, split)) if "part" in taken else None
    dataset = open_dataset(given, split=split, part=part, ground_truth=given.ground_truth, gt_path=given.out)
    if not isinstance(dataset, Exportable):
        raise InputError(f"dataset {given.dataset} has no depth, so there is nothing to export")
    return dataset


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add_dataset(parser, "kitti", parts="test, or val if the split has no test")
    add = parser.add_argument
    add("--ground_truth", help="kind of ground truth: velodyne, improved, ...; else that of the split")
    add("--out", type=place, metavar="FOLDER", help="folder for the file (default: <data_path>/gt_depths)")
    add_workers(parser)
    return parse_flags(parser, arguments)


if __name__ == "__main__":
    run_main(main)
