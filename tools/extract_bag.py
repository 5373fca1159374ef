"""Extract one image topic of a ROS recording (rosbag, mcap) into a folder; ROS itself is not needed.

    python tools/extract_bag.py --bag drive.bag --topic /front/image_raw --out drive

The folder has the frames, times.txt, camera_info.yaml, and speed.csv from odometry or GPS.
A recording with one image topic needs no extraction: `parallax train drive.mcap`. The package rosbags is
needed: pip install ".[ros]".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import new_parser, place
from utils import InputError, run_main


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--bag", type=place, required=True, help="recording: .bag, .mcap, .db3, or a folder of ROS 2")
    add("--topic", help="topic of the images; not needed if there is only one")
    add("--out", type=place, required=True, metavar="FOLDER", help="folder to write, new or empty")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from datasets._bags import write_bag
    from datasets.video import is_bag

    if not is_bag(given.bag):
        raise InputError(f"there is no recording {given.bag}: a .bag, .mcap or .db3 file, or a ROS 2 folder")
    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise InputError(f"{given.out} exists and is not empty; give another folder")
    given.out.mkdir(parents=True, exist_ok=True)
    for sentence in write_bag(given.bag, given.out, given.topic):
        print(sentence)
    print(f"wrote {len(list(given.out.glob('*.jpg')))} frames to {given.out}")


if __name__ == "__main__":
    run_main(main)
