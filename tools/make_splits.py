"""Convert split lists to and from the compact form of splits/ (datasets/splits.py).

python tools/make_splits.py --export lists
    writes lists/kitti/eigen_zhou/train_files.txt and so on, one sample per line in the published form, and
    lists/kitti/benchmark/eigen_to_benchmark_ids.npy

python tools/make_splits.py --pack train_files.txt --without val.txt --out splits/kitti/mine/train.txt
    writes your own list in the compact form
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import splits as lists
from tools._options import new_parser, place
from utils import InputError, atomic_path, run_main


def main() -> None:
    """The command line."""
    options = parse_arguments()
    if options.export:
        export(options.export, options.dataset, options.split)
    else:
        pack(options.pack, options.out, options.without, options.keep_order)


def parse_arguments() -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--export", type=place, metavar="FOLDER", help="write published lists below FOLDER")
    task.add_argument("--pack", type=place, metavar="FILE", help="convert this list to the compact form")
    parser.add_argument("--dataset", default="kitti", help="dataset that --export takes (default: kitti)")
    parser.add_argument("--split", help="split that --export writes (default: all of the dataset)")
    parser.add_argument("--out", type=place, metavar="FILE", help="file that --pack writes")
    parser.add_argument(
        "--without",
        metavar="FILE",
        help="list next to --out whose samples are left out by a 'without' line; much shorter if both lists "
        "share drives, as train and val do",
    )
    parser.add_argument("--keep_order", action="store_true", help="keep the list's order; else sort it")
    options = parser.parse_args()
    if options.pack and not options.out:
        parser.error("--pack needs --out")
    if options.without and options.keep_order:
        parser.error("--without sorts, so it does not go with --keep_order")
    return options


def export(folder: Path, dataset: str, split: str | None) -> None:
    """Write every part of the split, or of all splits, as `<folder>/<dataset>/<split>/<part>_files.txt`."""
    splits = [split] if split else lists.split_names(dataset)
    for name in splits:
        for part in lists.parts(dataset, name):
            samples = lists.load_split(dataset, name, part)
            # Published test lists of odometry are called test_files_09.txt.
            kind, _, which = part.partition("_")
            path = folder / dataset / Path(name).name / f"{kind}_files{'_' if which else ''}{which}.txt"
            write_lines(path, lists.published_lines(samples))
            print(f"{path}: {len(samples)} samples")
    if dataset == "kitti" and "eigen_benchmark" in splits:
        ids = lists.eigen_to_benchmark_ids()
        path = folder / dataset / "benchmark" / "eigen_to_benchmark_ids.npy"
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, ids)
        print(f"{path}: the positions of {len(ids)} benchmark frames in the Eigen list")


def pack(path: Path, out: Path, without: str | None, keep_order: bool) -> None:
    """Write the list in the compact form; `without` is a list next to `out`."""
    samples = lists.read_split_file(path)
    removed = lists.read_split_file(out.parent / without) if without else []
    shared = {line.key for line in samples} & {line.key for line in removed}
    if shared:
        raise InputError(f"{path} and {without} share {len(shared)} samples; --without needs none in common")
    lines = lists.compact_lines([*samples, *removed], keep_order)
    if without:
        lines.append(f"without {without}")
    write_lines(out, [f"# {len(samples)} samples, packed from {path.name} by tools/make_splits.py", *lines])
    print(f"{out}: {len(samples)} samples in {len(lines)} lines ({out.stat().st_size / 1000:.1f} kB)")


def write_lines(path: Path, lines: list[str]) -> None:
    """Write text lines; the file appears when it is complete."""
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
