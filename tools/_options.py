"""The flags that tools share: which dataset, how many processes, which share of the work."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets.sequence import SequenceDataset
from shards import own_cores, shard_of, torchrun_shard
from utils import read_setting


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser that shows a file's docstring as it stands, and takes no flag by half of its name."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def place(text: str) -> Path:
    """A file or folder; a leading ~ that the shell leaves, as in --out=~/page.html, is the home folder."""
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
        dataset: the default.
        which: what others there are.
        part: the default.
        parts: the default in words, where it is not plain.
    """
    add = parser.add_argument
    add("--data_path", type=place, required=True, metavar="FOLDER", help="root of the dataset")
    add("--dataset", default=dataset, help=f"{which} (default: {dataset})")
    add(
        "--split",
        type=os.path.expanduser,
        help="a split's name, or a folder of lists; else the dataset's own default",
    )
    parts = parts or " ".join(part or ())
    add("--part", nargs="+", default=part, help=f"parts of the split (default: {parts})")
    add("--skip_missing", action="store_true", help="leave out samples that lack an image")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """`--set`, as (key, value) pairs."""
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        type=_setting,
        default=[],
        metavar="KEY=VALUE",
        help="further dataset settings",
    )


def _setting(text: str) -> tuple[str, object]:
    """`depth_scale=256` as ("depth_scale", 256)."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got '{text}'")
    return key, read_setting(value)


def open_dataset(given: argparse.Namespace, **settings: Any) -> SequenceDataset:
    """The dataset that the flags of `add_dataset` name, of each sample frame 0 alone.

    Args:
        given: the flags; `--set` wins over `settings`.
        settings: the tool's own; None is the dataset's default.

    Raises:
        InputError: there is no such dataset, or it refuses a setting.
    """
    settings = {"split": given.split, **settings}
    settings = {key: value for key, value in settings.items() if value is not None}
    section = {"name": given.dataset, **settings, **dict(given.set)}
    options = {"dataset": section, "data_path": given.data_path, "skip_missing": given.skip_missing}
    return datasets.open_dataset(options, "inspect", frame_ids=(0,))


def add_workers(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--shard`."""
    add = parser.add_argument
    add("--workers", type=int, default=own_cores(), help="processes (default: one for each core)")
    add(
        "--shard", type=shard_of, default=torchrun_shard(), metavar="I/N", help="do the I-th of N shards only"
    )
