"""Matches between neighbouring cameras of a rig, triangulated: pseudo labels of depth in metres.

    python tools/sift_matches.py --dataset ddad --data_path data/ddad --set masks=true --workers 8
    torchrun --nproc_per_node 4 tools/sift_matches.py --dataset nuscenes --data_path data/nuscenes

Each camera is matched with the neighbour to its left (SurroundDepth, Wei et al., CoRL 2022): SIFT features
in the image borders that overlap, matched by the ratio test. The extrinsics are in metres, so the depth at
which the two rays of a match come closest is in metres as well (matching/two_views.py).

Every match is kept, with the angle between its rays and its distances to the epipolar lines; training
selects by these (losses/sfm_matches.py). There is one file per image, `<out>/.../<image>.npy`. It holds
(K, 6) float32: x and y in pixels of the recorded image, depth in metres, angle in degrees, both distances in
pixels. A second array in the file is its origin (provenance.py): a file is kept if its images, calibration
and settings are unchanged, otherwise it is made again. At the end the depths are compared with the LiDAR.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from files import explained
from flags import parse as parse_flags
from tools._options import add_dataset, add_workers, new_parser, place
from utils import InputError, run_main


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from tools._match_report import report
    from tools._rig_matches import open_rig, write_matches

    out = given.out or given.data_path / "matches"
    for part in given.part:
        dataset = open_rig(given, part, out)
        which, shards = given.shard
        indices = range(which - 1, len(dataset), shards)
        with explained(out):
            written = write_matches(dataset, indices, given.workers, given.published_grey)
        print(f"{part}: wrote the matches of {written} samples to {out}; {len(indices) - written} were there")
        if given.report and which == 1:
            print(report(dataset, indices, given.report, out / f"report_{part}.json"))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add_dataset(parser, "ddad", "dataset of a rig of cameras: ddad or nuscenes", ["train"])
    add = parser.add_argument
    add("--out", type=place, metavar="FOLDER", help="folder for the matches (default: <data_path>/matches)")
    add_workers(parser)
    add(
        "--report",
        type=int,
        default=20,
        metavar="N",
        help="samples whose depths are compared with LiDAR (default: 20; 0 for none)",
    )
    add(
        "--published_grey",
        action="store_true",
        help="exchange red and blue when images are made grey, as the published tool does",
    )
    given = parse_flags(parser, arguments)
    for name, least in (("workers", 1), ("report", 0)):
        if getattr(given, name) < least:
            raise InputError(f"--{name} must be at least {least}, got {getattr(given, name)}")
    return given


if __name__ == "__main__":
    run_main(main)
