"""Sections and tables of the report; a coloured dot marks a run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from tools._report.charts import colour_of


def section(title: str, body: str, number: int | None = None) -> str:
    """A section of the page; `number` is the position of the run that it is about."""
    return f"<section><h2>{dot(number)}{html.escape(title)}</h2>{body}</section>"


def table(rows: Sequence[Sequence[Any]], numbers: Sequence[int | None] = (), words: bool = False) -> str:
    """A table whose first row is its head; a cell of two texts shows the second below the first.

    Args:
        rows: the cells; the last one of a short row covers the columns that are left.
        numbers: for each row the position of its run, or None.
        words: cells are sentences, which are wrapped.
    """
    across, lines = max(map(len, rows)), []
    for n, row in enumerate(rows):
        cells = [
            f"{html.escape(cell[0])}<small>{html.escape(cell[1])}</small>"
            if isinstance(cell, tuple)
            else html.escape(str(cell))
            for cell in row
        ]
        cells[0] = dot(numbers[n] if numbers else None) + cells[0]
        over = f" colspan='{across - len(cells) + 1}'" if len(cells) < across else ""
        drawn = "".join(f"<td>{cell}</td>" for cell in cells[:-1]) + f"<td{over}>{cells[-1]}</td>"
        lines.append(f"<tr{' class=head' if n == 0 else ''}>{drawn}</tr>")
    return f"<div class='wide'><table{' class=words' if words else ''}>{''.join(lines)}</table></div>"


def protocol(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Protocol cards next to each other; a line that is the same in all is written once.

    Args:
        cards: name of a run → line of its card → words.
    """
    lines = list(dict.fromkeys(key for card in cards.values() for key in card))
    rows = []
    for key in lines:
        values = [card.get(key, "-") for card in cards.values()]
        rows.append((key, *(values[:1] if len(set(values)) == 1 else values)))
    return f"<h3>Protocol</h3>{table([('', *cards), *rows], words=True)}"


def notes(said: Sequence[tuple[str, str]]) -> str:
    """Sentences about runs: (run, sentence); a sentence about several of them is written once."""
    runs: dict[str, list[str]] = {}
    for name, sentence in said:
        runs.setdefault(sentence, []).append(name)
    return "".join(soft(f"{', '.join(names)}: {sentence}") for sentence, names in runs.items())


def soft(words: str) -> str:
    """A paragraph of explanation."""
    return f"<p class='soft'>{html.escape(words)}</p>"


def number_words(value: float | None, digits: int = 3) -> str:
    """A number with its decimals; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def dot(number: int | None) -> str:
    """The dot of a run by its position; empty for None."""
    return "" if number is None else f"<i class='dot' style='background: {colour_of(number)}'></i>"
