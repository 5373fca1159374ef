"""Select the frames of videos to train on: a frame is kept once the camera has moved since the last one kept.

    python tools/select_frames.py --data_path walk
    python tools/select_frames.py --data_path SCENES --rule difference --frames_txt

A hand-held camera often stands or only turns, and such frames teach depth nothing. Two rules decide:

    flow         corners are tracked from the last kept frame (Lucas and Kanade). The rotation that explains
                 most of their flow is taken out. The frame is kept if the median of what is left is at least
                 --threshold, 0.01 of the image diagonal. --keep_rotation counts all flow, as the README of
                 SC-Depth describes. If too few corners are found again, the frame is kept.
    difference   the frame is kept if at least --threshold, 0.5, of its pixels differ by more than 10 of 255
                 grey levels. SC-Depth's published script does this with differences that wrap around at 255,
                 so that pixels which became brighter by any amount count; here they do not wrap.

Each scene gets a `frame_index.txt`, one number a line, which SC-Depth and `--dataset.frame_index true` read
for training, and `frame_index.yaml`, which records the rule. With --frames_txt it also gets `frames.txt` with
the names, which `--dataset folder` reads for every purpose. Scenes that are done are skipped, so a run that
was stopped goes on when it is started again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import add_workers, new_parser, place
from utils import InputError, run_main


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--data_path", type=place, required=True, metavar="FOLDER",
        help="a folder of frames, a video, or a folder of scenes",
    )  # fmt: skip
    add(
        "--rule",
        default="flow",
        choices=("flow", "difference"),
        help="rule that keeps a frame (default: flow)",
    )
    add(
        "--threshold",
        type=float,
        help="least change: share of the diagonal (flow: 0.01) or of the pixels (difference: 0.5)",
    )
    add("--keep_rotation", action="store_true", help="count the flow of the camera's rotation as well")
    add("--intrinsics", help='"fx fy cx cy" in pixels, instead of a cam.txt')
    add("--frames_txt", action="store_true", help="also write frames.txt, which --dataset folder reads")
    add("--overwrite", action="store_true", help="select again the scenes that are done")
    add_workers(parser)
    given = parser.parse_args(arguments)
    if given.keep_rotation and given.rule != "flow":
        raise InputError("--keep_rotation belongs to --rule flow; leave it out")
    return given


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    from files import explained
    from tools._frame_selection import Rule, open_scenes, select_all  # imports torch

    rule = Rule(given.rule, given.threshold, given.keep_rotation)
    scenes = open_scenes(given.data_path, rule, given.intrinsics)
    which, shards = given.shard
    scenes = scenes[which - 1 :: shards]
    start = time.perf_counter()
    with explained(given.data_path):
        kept, total = select_all(scenes, rule, given.frames_txt, given.overwrite, given.workers)
    speed = total / max(time.perf_counter() - start, 1e-9)
    done = f"{len(scenes)} scenes are done; " if scenes else "this shard has no scene; "
    print(f"{done}{kept} of {total} frames were kept now, at {speed:.0f} samples a second")


if __name__ == "__main__":
    run_main(main)
