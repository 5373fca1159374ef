"""Can this data be trained on? Examines a dataset or a folder of images and reports in words and images.

    python tools/doctor.py --data_path walk
    python tools/doctor.py --data_path walk.mp4 --set intrinsics="700 700 640 360" stride=2
    python tools/doctor.py --dataset kitti --data_path KITTI --split eigen_full --frame_ids 0 s
    python tools/doctor.py --dataset ddad --data_path DDAD --samples 4 --out ddad.html

It checks that every listed image exists and opens, that sizes agree, that intrinsics are plausible, that the
camera moves and the gap between frames shows it, that stereo pairs are rectified, and that ground truth lies
over its image. The motion between real frames is estimated from matches; a source that is warped by it
should look like its target. The page (`--out`) shows all of this in one file. The exit status is 0 if
there is no problem, otherwise 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flags import parse as parse_flags
from tools._options import add_settings, new_parser, place
from utils import run_main


def main(arguments: list[str] | None = None) -> int:
    """Examine the data, print the findings, write the page. Returns the exit status."""
    given = parse(arguments)
    from tools._doctor.page import write_page
    from tools._doctor.reading import LEVELS
    from tools._doctor.verdict import as_text, examine, facts_of, verdict_of

    findings, dataset, image_grid = examine(given)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    title, facts = f"{given.dataset}: {given.data_path}", facts_of(dataset)
    verdict = verdict_of(findings, trains=dataset is None or len(dataset.frame_ids) > 1)
    print(f"{title}\n{facts}\n\n{as_text(findings)}\n\n{verdict}")
    write_page(given.out, title, facts, verdict, findings, image_grid)
    print(f"images: {given.out}")
    return int(any(finding.level == "problem" for finding in findings))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--dataset", default="folder", help="dataset, a file of datasets/ (default: folder)")
    add("--data_path", type=place, required=True, help="root of the dataset: a folder, or a video file")
    add("--split", type=os.path.expanduser, help="split of the dataset, as in training")
    add("--part", help="part of the split: train, val or test (default: that of the dataset, train)")
    add(
        "--frame_ids",
        type=frame_id,
        nargs="+",
        metavar="FRAME",
        help="target and source frames, such as 0 -1 1 or 0 s (default: those of the dataset)",
    )
    add("--height", type=int, help="height of the network input, pixels (default: that of the dataset)")
    add("--width", type=int, help="width of the network input, pixels (default: that of the dataset)")
    add_settings(parser)
    add("--samples", type=int, help="samples to examine closely (default: 12, fewer with many cameras)")
    add("--all_files", action="store_true", help="open every image instead of some, evenly spread")
    add("--out", type=place, default=Path("doctor.html"), help="page to write (default: doctor.html)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads (default: one for each core)")
    given = parse_flags(parser, arguments)
    if given.samples is not None and given.samples < 1:
        parser.error(f"--samples must be at least 1, got {given.samples}")
    return given


def frame_id(text: str) -> int | str:
    """Frame from its text: -1 for `-1`; `s`, the other camera of a stereo pair, stays text."""
    return text if text == "s" else int(text)


def _exit() -> None:
    raise SystemExit(main())


if __name__ == "__main__":
    run_main(_exit)
