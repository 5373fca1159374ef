"""The tables of docs/results.md: train, evaluate and write them, or check that they still hold.

    python -m benchmarks.results --list
    python -m benchmarks.results --table sgdepth              # three seeds; writes docs/results.md
    python -m benchmarks.results --table all --check          # trains again, compares with committed numbers

A table is a file of benchmarks/tables/; its numbers are in the .json of the same name. Worlds and runs are
kept in `--out`: a finished run is not trained again, an interrupted one continues. Runs use one CPU thread,
so that their seconds are comparable.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks._numbers import Numbers, differences, load_numbers, replace_section, section
from benchmarks._runs import minutes, render, train
from benchmarks.tables._spec import Table
from benchmarks.tables._worlds import WORLDS, describe
from utils import PROJECT, InputError, atomic_path, nearest_name, run_main

TABLES = PROJECT / "benchmarks/tables"
PAGE = PROJECT / "docs/results.md"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    if args.list:
        for name in table_names():
            print(f"{name:<18}{load_table(name).title}")
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that train
    torch.set_num_threads(1)
    names = [args.table]
    if args.table == "all":
        names = [name for name in table_names() if has_recordings(name, args.recordings)]
    found = []
    for name in names:
        table = load_table(name)
        out = args.out / "again" if args.check else args.out
        committed = load_numbers(TABLES / f"{name}.json")
        if args.check and committed is None:
            print(f"{name}: no numbers are committed")
            continue
        replace_section(PAGE.read_text(encoding="utf-8"), name, "")  # refuses a page without a place, at once
        worlds = {world: render(world, out, args.recordings) for world in table.worlds()}
        numbers = measure(name, table, args.seeds, worlds, out, None if args.check else committed)
        if args.check:
            found += [f"{name}: {line}" for line in differences(table, committed, numbers)]
        else:
            write(name, table, numbers)
    if args.check:
        print("\n".join(found) or "all tables hold")
        if found:
            sys.exit(1)


def measure(
    name: str,
    table: Table,
    seeds: list[int],
    worlds: Mapping[str, Path],
    out: Path,
    known: Numbers | None,
) -> Numbers:
    """Numbers of all rows and seeds; those of `known` that were measured with the same settings are kept."""
    numbers = known if known and known.settings == table.digest else Numbers(table.digest)
    todo = [(seed, row) for seed in seeds for row in table.runs]
    started = time.monotonic()
    for done, (seed, row) in enumerate(todo):
        run = train(table, row, seed, worlds, out)
        numbers.add(seed, table.evaluate(run))
        numbers.minutes.setdefault(row, {})[seed] = minutes(run.folder)
        spent = (time.monotonic() - started) / 60
        print(f"{name}: {done + 1} of {len(todo)} runs, {spent:.1f} minutes", flush=True)
    return numbers


def write(name: str, table: Table, numbers: Numbers) -> None:
    """Write a table's numbers, and its section of docs/results.md."""
    numbers.save(TABLES / f"{name}.json")
    new = section(name, table, numbers, describe(table.worlds()))
    with atomic_path(PAGE) as temporary:
        temporary.write_text(replace_section(PAGE.read_text(encoding="utf-8"), name, new))
    print(f"\n{new}\n\nwrote benchmarks/tables/{name}.json and docs/results.md")


def has_recordings(name: str, recordings: Path) -> bool:
    """Whether the recordings that a table needs are there; if not, that is printed."""
    needed = [WORLDS[world].flags.get("recording") for world in load_table(name).worlds()]
    missing = [recording for recording in needed if recording and not (recordings / recording).is_dir()]
    if missing:
        print(f"{name}: left out, since {recordings} has no {', '.join(missing)}")
    return not missing


def table_names() -> list[str]:
    """The files of benchmarks/tables/, in alphabetical order."""
    return sorted(path.stem for path in TABLES.glob("[a-z]*.py"))


def load_table(name: str) -> Table:
    """The declaration of a table.

    Raises:
        InputError: there is no such table.
    """
    if name not in table_names():
        raise InputError(f"there is no table '{name}'{nearest_name(name, table_names())}")
    return importlib.import_module(f"benchmarks.tables.{name}").TABLE


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--table", default="all", metavar="NAME", help="table to make, or all (default: all)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs (default: 0 1 2)")
    add("--list", action="store_true", help="print the names of the tables")
    add(
        "--check",
        action="store_true",
        help="train again and compare with committed numbers",
    )
    add("--out", type=Path, default=Path("runs/results"), help="folder for worlds and runs")
    add(
        "--recordings",
        type=Path,
        default=PROJECT.parent / "shared/data",
        help="folder of the real recordings that some tables need; --table all goes without them",
    )
    args = parser.parse_args(arguments)
    args.out = args.out.expanduser().absolute()
    return args


if __name__ == "__main__":
    run_main(main)
