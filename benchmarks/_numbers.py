"""The numbers of a table: kept as JSON, written as Markdown, compared with a repetition.

    cell = mean over the seeds ± half the range
    band = mean ± the largest of  3 x half the range,  5 % of the mean,  5 in the last printed digit

A repetition on the same machine gives the same numbers. On another machine rounding differs, and after some
hundred steps a run differs as much as one of another seed; the band allows for that.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.tables._spec import Column, Rows, Table
from utils import InputError, atomic_path

RANGES, SHARE, LAST_DIGITS = 3.0, 0.05, 5


@dataclass
class Numbers:
    """The measured numbers of one table.

    Attributes:
        settings: digest of everything that decides the numbers; numbers of other settings are not comparable.
        rows: row → seed → key of a column → number.
        minutes: row of the table's runs → seed → minutes of its training.
    """

    settings: str
    rows: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    minutes: dict[str, dict[int, float]] = field(default_factory=dict)

    def add(self, seed: int, rows: Rows) -> None:
        """Keep the numbers of one run."""
        for row, numbers in rows.items():
            self.rows.setdefault(row, {})[seed] = {key: float(value) for key, value in numbers.items()}

    @property
    def seeds(self) -> list[int]:
        """The seeds that every row has."""
        rows = [set(seeds) for seeds in self.rows.values()]
        return sorted(set.intersection(*rows)) if rows else []

    def values(self, row: str, key: str) -> list[float]:
        """A cell's numbers by seed; empty if the row has no such number."""
        return [self.rows[row][seed][key] for seed in self.seeds if key in self.rows[row][seed]]

    def means(self) -> dict[str, dict[str, float]]:
        """Row → key → mean over the seeds."""
        keys = {
            row: {key for numbers in seeds.values() for key in numbers} for row, seeds in self.rows.items()
        }
        return {
            row: {key: statistics.mean(self.values(row, key)) for key in sorted(keys[row])}
            for row in self.rows
        }

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        record = {"settings": self.settings, "rows": self.rows, "minutes": self.minutes}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_rounded(record), indent=1) + "\n")


def load_numbers(path: Path) -> Numbers | None:
    """The numbers of a file; None if there is none."""
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    by_seed = {
        name: {
            row: {int(seed): value for seed, value in seeds.items()} for row, seeds in record[name].items()
        }
        for name in ("rows", "minutes")
    }
    return Numbers(record["settings"], **by_seed)


def cell(values: Sequence[float], digits: int) -> str:
    """`0.188 ± 0.004`: the mean and half the range; only the mean if no seed differs, a dash if empty."""
    if not values:
        return "-"
    spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if max(values) > min(values) else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def markdown(rows: Mapping[str, Mapping[str, Sequence[float]]], columns: Mapping[str, Column]) -> str:
    """A Markdown table of row → key → values of the seeds."""
    lines = ["| | " + " | ".join(column.title for column in columns.values()) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for row, values in rows.items():
        cells = [cell(values.get(key, ()), column.digits) for key, column in columns.items()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def section(name: str, table: Table, numbers: Numbers, size: str) -> str:
    """A table's part of docs/results.md: heading, what was done, numbers, claims.

    Args:
        name: its file in benchmarks/tables/.
        table: its declaration.
        numbers: the measured numbers.
        size: the worlds in words.
    """
    rows = {row: {key: numbers.values(row, key) for key in table.columns} for row in numbers.rows}
    times = [minutes for by_seed in numbers.minutes.values() for minutes in by_seed.values()]
    options, means = table.options(next(iter(table.runs))), numbers.means()
    seeds = ", ".join(map(str, numbers.seeds))
    words = [
        f"`python -m benchmarks.results --table {name}`, {size}. {options['max_steps']} steps of",
        f"{_samples(options['batch_size'])} {_start(table)}, {min(times):.1f} to {max(times):.1f} minutes",
        f"per run on one core. Seeds {seeds}: mean ± half the range.",
    ]
    claims = [
        f"* {'Holds' if claim.holds(means) else '**Does not hold**'}: {claim.text}." for claim in table.claims
    ]
    lines = [
        f"## {table.title}",
        table.text,
        " ".join(words),
        markdown(rows, table.columns),
        "\n".join(claims),
        table.note,
    ]
    return "\n\n".join(line for line in lines if line)


def _samples(count: object) -> str:
    return f"{count} sample" if count == 1 else f"{count} samples"


def _start(table: Table) -> str:
    if table.start is None:
        return "from random weights"
    return f"from weights that all rows share ({table.start.steps} steps from random ones)"


def replace_section(text: str, name: str, new: str) -> str:
    """A page with the text between a table's two markers replaced.

    Raises:
        InputError: the page lacks a marker.
    """
    start, end = f"<!-- table {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(start)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise InputError(f"docs/results.md has no place for '{name}'; add the lines {start} and {end}")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def differences(table: Table, committed: Numbers, repeated: Numbers) -> list[str]:
    """One sentence for each number outside its band, and for each claim that no longer holds."""
    found = []
    for row, numbers in committed.means().items():
        for key, mean in numbers.items():
            column = table.columns.get(key)
            if column is None or not column.banded:
                continue
            values = committed.values(row, key)
            allowed = RANGES * (max(values) - min(values)) / 2
            allowed = max(allowed, SHARE * abs(mean), LAST_DIGITS * 10**-column.digits)
            now = repeated.means().get(row, {}).get(key)
            if now is None or abs(now - mean) > allowed:
                shown = "missing" if now is None else f"{now:.{column.digits}f}"
                band = f"{mean:.{column.digits}f} ± {allowed:.{column.digits}f}"
                found.append(f"{row}, {column.title}: {shown}, outside of {band}")
    for claim in table.claims:
        if claim.holds(committed.means()) and not claim.holds(repeated.means()):
            found.append(f"no longer true: {claim.text}")
    return found


def _rounded(value: object) -> object:
    """Floats with six significant digits, so that the file stays small."""
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
