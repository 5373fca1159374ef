"""Write a synthetic world in the layout of a real dataset, with ground truth and splits.

    python tools/make_synthetic.py --layout kitti --out data/synthetic --sequences 8 --frames 40

Each sequence is a world of its own, drawn from `--seed` and its number. Equal commands write equal bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import new_parser, place
from utils import run_main

if TYPE_CHECKING:
    from tools.layouts._base import Plan


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from tools.layouts._base import Plan

    names = ("layout", "out", "sequences", "frames", "height", "width", "seed", "ext")
    names += ("camera", "traffic", "scenes")
    plan = Plan(**{name: getattr(given, name) for name in names})
    make(plan, given.workers, given.gallery, given.overwrite)
    print(f"wrote {plan.sequences} sequences of {plan.frames} frames to {plan.out}")


def make(plan: Plan, workers: int = 1, gallery: Path | None = None, overwrite: bool = False) -> None:
    """Write a synthetic dataset.

    Args:
        plan: layout, folder, sizes and seed.
        workers: processes.
        gallery: file for an image grid of all sequences; `gallery.png` in the folder if not given.
        overwrite: write into a folder that is not empty.

    Raises:
        InputError: the plan cannot be written; see `_synthetic_sets.check`.
    """
    from tools._synthetic_sets import write_set

    write_set(plan, workers, gallery, overwrite)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    files = (Path(__file__).parent / "layouts").glob("[a-z]*.py")
    layouts = ", ".join(sorted(path.stem for path in files))
    add("--layout", default="kitti", help=f"dataset whose layout is written: {layouts} (default: kitti)")
    add("--out", type=place, required=True, help="folder to write, new or empty")
    add("--sequences", type=int, default=8, help="worlds to render (default: 8)")
    add("--frames", type=int, default=40, help="frames of each world, ten per second (default: 40)")
    add("--height", type=int, default=128, help="height of the images, pixels (default: 128)")
    add("--width", type=int, default=416, help="width of the images, pixels (default: 416)")
    add("--seed", type=int, default=0, help="seed of the worlds (default: 0)")
    add("--camera", default="pinhole", help="pinhole, or fisheye for --layout folder (default: pinhole)")
    add("--traffic", default="usual", help="cars on the lanes, usual, dense or queues (default: usual)")
    add(
        "--scenes",
        default="streets",
        help="streets, rooms or mixed, for --layout folder (default: streets)",
    )
    add("--ext", default="png", help="image format, png or jpg (default: png)")
    add(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: one for each core)",
    )
    add("--gallery", type=place, help="file for an image grid of all sequences (default: <out>/gallery.png)")
    add("--overwrite", action="store_true", help="write into a folder that is not empty")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
