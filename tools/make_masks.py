"""Make ego masks: the pixels where each camera of a rig sees its own vehicle.

    python tools/make_masks.py --dataset ddad --data_path data/ddad
    python tools/make_masks.py --dataset ddad --data_path data/ddad --pool

A mask is found from motion: the vehicle does not change while the scene does (tools/_ego_mask.py). There is
one mask per camera and recording, white where the vehicle is. It is written where the dataset reads it, or
into the folder of `--set masks=FOLDER`, which `--dataset.masks FOLDER` then reads. DDAD's published masks are
no longer online, and training on DDAD needs masks.

With `--pool`, recordings whose cameras have the same calibration are used together. From eight recordings on,
a vehicle whose paint mirrors the scenery is found too. The masks are proposals: look at the `.overlay.jpg`
next to each, and edit a mask if it is wrong. A mask that exists is never replaced without `--overwrite`; the
tool says if it was made from other images or with other settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from files import explained
from flags import parse as parse_flags
from tools._options import add_dataset, add_workers, new_parser
from utils import InputError, run_main


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from progress import Bar
    from tools._mask_files import find_tasks, make, open_rig, outdated, settings_of
    from workers import run_tasks

    made, refused = 0, []
    there: list[Path] = []
    stale: list[str] = []
    for part in given.part:
        dataset = open_rig(given, part)
        tasks, kept = find_tasks(dataset, given)
        settings = settings_of(given)
        there += kept
        stale += [f"{path}: {reason}" for path in kept if (reason := outdated(path, dataset, settings))]
        results = Bar(run_tasks(make, tasks, given.workers), "masks", len(tasks), unit="camera")
        with explained(dataset.mask_folders[0]):
            for count, refusal in results:
                made += count
                refused += [refusal] if refusal else []
    print(f"wrote {made} masks" + ("; look at them before you train with them" if made else ""))
    if there:
        print(f"{len(there)} masks were there already and are kept; --overwrite makes them again")
    if stale:
        print(f"{len(stale)} of these were made from other images or settings, such as {stale[0]}")
    if refused:
        raise InputError(f"{len(refused)} masks could not be made. {refused[0]}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add_dataset(parser, "ddad", "dataset of a rig of cameras: ddad or nuscenes", ["train", "val"])
    add = parser.add_argument
    add("--pool", action="store_true", help="use all recordings of one calibration together")
    add("--width", type=int, default=484, help="width that images are reduced to, pixels (default: 484)")
    add("--frames", type=int, default=120, help="most frames used for one mask (default: 120)")
    add(
        "--min_frames",
        type=int,
        default=10,
        help="least frames with motion; a recording with fewer gets no mask (default: 10)",
    )
    add("--overwrite", action="store_true", help="make masks again that exist already")
    add_workers(parser)
    given = parse_flags(parser, arguments)
    for name in ("width", "frames", "min_frames", "workers"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(given, name)}")
    return given


if __name__ == "__main__":
    run_main(main)
