"""Reduce Cityscapes' sequences to a size to train from: 324 GB of PNG to roughly 12 GB.

    python tools/prepare_cityscapes.py --data_path CITYSCAPES --out CITYSCAPES_SMALL
    python tools/prepare_cityscapes.py --data_path CITYSCAPES --out TRIPLES --layout triples

Every frame of `leftImg8bit_sequence` is resized to `--width` x `--height` and cropped by its lower quarter,
the car's bonnet; its intrinsics follow. The layout `sequences` holds each frame once, as
`<city>/<sequence>/<frame>.jpg` with a `cam.txt` for each sequence (datasets/_cityscapes.py). The layout
`triples` is the published form for other code: three frames stacked in a PNG, with the published pixels.

Finished images are kept, so an interrupted run continues when it is started again. An image whose source has
changed since is made again (provenance.py). To share the work among machines, give each a `--shard 1/4` to
`--shard 4/4`, or use torchrun.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import add_workers, new_parser, place
from utils import run_main


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from tools._cityscapes_frames import Plan, prepare_all

    ext = given.ext or ("jpg" if given.layout == "sequences" else "png")
    plan = Plan(given.layout, given.width, given.height, given.top_rows, ext, given.stride)
    written, count = prepare_all(plan, given.data_path, given.out, given.part, given.workers, given.shard)
    print(f"{count} recordings are in {given.out}; {written} images were written now")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--data_path",
        type=place,
        required=True,
        metavar="FOLDER",
        help="root of the official tree, with leftImg8bit_sequence and camera",
    )
    add("--out", type=place, required=True, metavar="FOLDER", help="folder for the prepared images")
    add(
        "--part",
        nargs="+",
        choices=("train", "val", "test"),
        default=["train"],
        help="parts to prepare (default: train)",
    )
    add(
        "--layout",
        choices=("sequences", "triples"),
        default="sequences",
        help="files to write (default: sequences)",
    )
    add("--width", type=int, default=1024, help="width of the resized frame, pixels (default: 1024)")
    add(
        "--height",
        type=int,
        default=512,
        help="height before the crop, pixels (default: 512)",
    )
    add(
        "--top_rows",
        type=float,
        default=0.75,
        help="share of the rows that the crop keeps, from the top (default: 0.75)",
    )
    add("--ext", choices=("jpg", "png"), help="image format (default: jpg for sequences, png for triples)")
    add("--stride", type=int, default=2, help="frames between the members of a triple (default: 2)")
    add_workers(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
