"""Pack a dataset's images at network size, for training that does not wait for decoding.

    python tools/pack_dataset.py --dataset kitti --data_path KITTI --out KITTI_640x192 --part train val
    python run.py --dataset kitti --data_path KITTI --packed KITTI_640x192
    torchrun --nproc_per_node 4 tools/pack_dataset.py --dataset ddad --data_path DDAD --out DDAD_PACKED

Each image of the samples is read, cropped, rectified and resized as training would do it, and stored once,
uncompressed, in shards of 32 MB (datasets/packed.py). Samples of packed images have the same pixels. An image
of 640x192 takes 0.37 MB, the 40,000 of KITTI's split by Zhou 15 GB.

Give the size, --resize and the frames of the run. Lists, calibrations, poses and ground truth stay in
--data_path, which training still reads; the images there may be removed afterwards, if the dataset's samples
come from a list and not from the images themselves.

An interrupted run continues when it is started again; only unfinished shards, one of each worker, are made
again. Images whose files have changed are packed again (provenance.py). Shards of other settings are replaced
only with --overwrite. To share the work among machines, give each a `--shard 1/4` to `--shard 4/4`, or use
torchrun.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flags import at_least
from flags import parse as parse_flags
from options.values import frame_id
from tools._options import add_dataset, add_workers, new_parser, place
from utils import InputError, run_main


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from tools._packing import open_parts, pack

    datasets = open_parts(given)
    start = time.perf_counter()
    report = pack(datasets, given)
    seconds = max(time.perf_counter() - start, 1e-9)
    each = len(datasets[0].frame_ids) * datasets[0].cameras
    speed = report.written / seconds
    at = f" at {speed:.0f} images, {speed / each:.1f} samples a second" if report.written else ""
    print(f"packed {report.written} of {report.count} images into {given.out}{at}; {report.there} were there")
    if report.skipped:
        print(f"{len(report.skipped)} frames cannot be read and are left out: {report.skipped[0]}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add_dataset(parser, "kitti", part=["train"], parts="train")
    add = parser.add_argument
    add("--out", type=place, required=True, metavar="FOLDER", help="folder of the shards, for --packed")
    for name in ("height", "width"):
        add(f"--{name}", type=at_least(1), metavar="PIXELS", help=f"network {name}; else the dataset's")
    add("--resize", help="filter of the resize (default: bicubic, as in run.py)")
    add(
        "--frame_ids",
        type=frame_id,
        nargs="+",
        default=[0, -1, 1],
        metavar="FRAME",
        help="frames of a sample, as in the run (default: 0 -1 1)",
    )
    add(
        "--detail",
        type=at_least(1),
        default=1,
        metavar="N",
        help="store images of N times the size as well, for methods that crop detailed views (default: 1)",
    )
    add("--overwrite", action="store_true", help="replace shards of other settings")
    add_workers(parser)
    given = parse_flags(parser, arguments)
    if given.workers < 1:
        raise InputError(f"--workers must be at least 1, got {given.workers}")
    return given


if __name__ == "__main__":
    run_main(main)
