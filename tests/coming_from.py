"""The rows of docs/coming-from.md: what is published, what stands for it here, and how a command starts."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from utils import PROJECT

TEXT = (PROJECT / "docs/coming-from.md").read_text()
TABLES = ("Commands", "Config files", "Weights")  # their rows have one of three answers
STARTS = re.compile(r"(python|torchrun) ")
WITHOUT = ("not needed: ", "not offered: ")  # how a sentence begins that says why there is no command


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        system: the heading it stands under, such as Monodepth2.
        table: one of `TABLES`, or the heading of a table of flags.
        theirs: the first column.
        ours: the second.
    """

    system: str
    table: str
    theirs: str
    ours: str

    @property
    def as_written(self) -> bool:
        """Whether the published command runs as it is typed."""
        return self.ours.startswith("the same")

    @property
    def without(self) -> bool:
        """Whether there is a sentence in place of a command."""
        return self.ours.startswith(WITHOUT)

    @property
    def names(self) -> list[str]:
        """The code in the first column."""
        return code(self.theirs)

    @property
    def commands(self) -> list[str]:
        """The commands to run: theirs with the first addition of ours, or ours."""
        if self.as_written:
            return [" ".join([*self.names, *code(self.ours)[:1]])]
        return [text for text in code(self.ours) if STARTS.match(text)]


def code(cell: str) -> list[str]:
    """The code in a cell; a bar that would end the cell is written with a backslash."""
    return [text.replace(r"\|", "|") for text in re.findall(r"`([^`]+)`", cell)]


def read_rows() -> list[Row]:
    """Every row of every table, in the order of the page."""
    rows, system, table = [], "", ""
    lines = TEXT.splitlines()
    for line, after in zip(lines, [*lines[1:], ""]):
        if line.startswith("# "):
            system, table = line.removeprefix("# Coming from "), ""
        elif line.startswith("#"):
            table = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("| ---") and not after.startswith("| ---"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            rows.append(Row(system, table, cells[0], cells[1]))
    return rows


ROWS = read_rows()
ANSWERED = [row for row in ROWS if row.table in TABLES]


def split_command(command: str) -> tuple[str, list[str]]:
    """Script or module of a command, and the words after it; launchers and their flags are left out."""
    words = shlex.split(command)
    if words[1:3] == ["-m", words[2]] and words[2].startswith("benchmarks."):
        return words[2], words[3:]
    place = next(n for n, word in enumerate(words) if word.endswith(".py"))
    return words[place], words[place + 1 :]
