"""Flags that tools share: the dataset, the number of processes, the share of the work."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flags import Parser, add_settings
from shards import own_cores, shard_of, torchrun_shard

if TYPE_CHECKING:
    from datasets import SequenceDataset


def new_parser(description: str) -> Parser:
    """A parser whose help shows a tool's docstring unchanged, and whose errors are one sentence."""
    return Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def place(text: str) -> Path:
    """Path of a file or folder. A leading ~ is expanded, since the shell leaves it in --out=~/page.html."""
    return Path(os.path.expanduser(text))


def add_dataset(
    parser: argparse.ArgumentParser,
    dataset: str,
    which: str = "a file of datasets/",
    part: Sequence[str] | None = None,
    parts: str = "",
) -> None:
    """Flags for `open_dataset`.

    Args:
        dataset: default of --dataset.
        which: the datasets to choose from, for the help.
        part: default of --part.
        parts: that default in words, if it depends on the split.
    """
    add = parser.add_argument
    add("--data_path", type=place, required=True, metavar="FOLDER", help="root of the dataset")
    add("--dataset", default=dataset, help=f"{which} (default: {dataset})")
    add(
        "--split",
        type=os.path.expanduser,
        help="name of a split, or a folder of lists; else the default of the dataset",
    )
    parts = parts or " ".join(part or ())
    add("--part", nargs="+", default=part, help=f"parts of the split (default: {parts})")
    add("--skip_missing", action="store_true", help="leave out samples that lack an image")
    add_settings(parser)


def open_dataset(given: argparse.Namespace, **settings: Any) -> SequenceDataset:
    """The dataset that the flags of `add_dataset` name.

    Args:
        given: the flags; `--set` and `--dataset.KEY` win over `settings`.
        settings: further settings; None means the default of the dataset. `frame_ids` is 0 if not given.

    Raises:
        InputError: an unknown dataset, or a setting that it refuses.
    """
    from datasets import open_dataset as open_any  # imports torch, which --help does not need

    settings = {"split": given.split, **settings}
    frame_ids = settings.pop("frame_ids", (0,))
    settings = {key: value for key, value in settings.items() if value is not None}
    section = {"name": given.dataset, **settings, **given.dataset_settings}
    options = {"dataset": section, "data_path": given.data_path, "skip_missing": given.skip_missing}
    return open_any(options, "inspect", frame_ids=frame_ids)


def add_workers(parser: argparse.ArgumentParser, what: str = "worker processes") -> None:
    """`--workers` and `--shard`; `what` is counted by the former."""
    add = parser.add_argument
    add("--workers", type=int, default=own_cores(), help=f"{what} (default: one for each core)")
    add(
        "--shard",
        type=shard_of,
        default=torchrun_shard(),
        metavar="I/N",
        help="do only share I of N, such as 2/4",
    )
