"""Compare a training list with a test list: frames, neighbours, scenes and images in common.

python tools/audit_splits.py train_files.txt test_files.txt
python tools/audit_splits.py ddad.json#0 ddad.json#1
python tools/audit_splits.py my_videos/ test_images/ --images
python tools/audit_splits.py train_files.txt test_files.txt --images --data_path KITTI

TRAIN and TEST are lists in the forms of Monodepth2, SfMLearner, SC-Depth, PackNet or ours, JSON files
(FILE.json#PART), folders of images or videos. The exit status is 1 if they overlap and 0 if not.
With nuScenes' tables below --data_path, sample tokens get their scenes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from datasets.frame_lists import read_frames
from evaluation.audit import NEIGHBOURS, Audit, audit
from utils import InputError, run_main

SHOWN = 5  # examples under each heading


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 if the lists overlap."""
    args = parse(arguments)
    train = read_frames(args.train, args.data_path)
    test = read_frames(args.test, args.test_data_path or args.data_path)
    found = audit(train, test, args.neighbours)
    print_report(found, args.train, args.test)
    duplicates = 0
    if args.images:
        from evaluation.near_duplicates import hash_images, image_files, near_duplicates  # imports imagehash

        images = image_files(train, args.data_path), image_files(test, args.test_data_path or args.data_path)
        pairs = near_duplicates(*(hash_images(files, args.workers) for files in images), args.distance)
        duplicates = len({other for _, other, _ in pairs})
        print(
            f"near-duplicates   {duplicates:,} of {len(images[1]):,} test images look like a training image"
        )
        for one, other, distance in pairs[:SHOWN]:
            print(f"                    {other} ~ {one} (distance {distance})")
    sys.exit(int(found.overlaps or duplicates > 0))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = flags.new_parser(
        "audit_splits.py", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=os.path.expanduser, help="training list, JSON file, folder or video")
    parser.add_argument("test", type=os.path.expanduser, help="test list, JSON file, folder or video")
    parser.add_argument("--data_path", **flags.FOLDER, help="root of the images, or of nuScenes' tables")
    parser.add_argument("--test_data_path", **flags.FOLDER, help="root of the test images; else --data_path")
    parser.add_argument(
        "--neighbours",
        type=flags.at_least(0),
        default=NEIGHBOURS,
        metavar="K",
        help=f"largest distance of a neighbour in frames (default: {NEIGHBOURS})",
    )
    parser.add_argument(
        "--images", **flags.SWITCH, help="compare the images too, by perceptual hash (pip install ImageHash)"
    )
    parser.add_argument(
        "--distance",
        type=flags.at_least(0),
        default=None,
        metavar="BITS",
        help="largest number of differing hash bits of a near-duplicate; else 24 of 256",
    )
    parser.add_argument(
        "--workers", type=flags.at_least(1), default=os.cpu_count(), help="processes that read images"
    )
    args = flags.parse(parser, arguments)
    if args.distance is not None and not args.images:
        raise InputError("--distance is about images; add --images")
    return args


def print_report(found: Audit, train: str, test: str) -> None:
    """The lists with their hashes, and each heading with its count and some examples."""
    print(f"training list     {found.train:,} frames, hash {found.hash}: {train}")
    print(f"test list         {found.test:,} frames: {test}")
    examples = {"same frame": found.same, "other camera": found.other_camera, "neighbours": found.neighbours,
                "same scene": found.shared_scenes}  # fmt: skip
    for heading, count in found.counts().items():
        print(f"{heading:<18}{count}")
        shown = [str(one) for one in examples[heading][:SHOWN]]
        if shown:
            more = len(examples[heading]) - len(shown)
            print(f"{'':<20}{', '.join(shown)}{f' and {more:,} more' if more else ''}")
    if found.unknown_scenes:
        print(
            f"{'scenes unknown':<18}{found.unknown_scenes:,} frames are tokens without a scene; "
            "among them only identical frames are found"
        )
    print("overlap" if found.overlaps else "no overlap by name")


if __name__ == "__main__":
    run_main(main)
