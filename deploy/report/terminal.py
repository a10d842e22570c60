"""The tables in the terminal: readable in 80 columns, without colour and without a tty."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from deploy.files.printable import printable
from deploy.report.formatting import answer
from deploy.report.table import MARK, Table
from deploy.report.tables import tables
from deploy.results.results import Results

__all__ = ["as_text", "print_results", "print_table", "renderables"]


def renderables(results: Results) -> list[RenderableType]:
    """Return one renderable per table, then the notes, then the answer in one sentence."""
    parts: list[RenderableType] = [_rendered(table) for table in tables(results)]
    parts += [as_text(f"Note: {note}") for note in results.notes]
    parts.append(as_text(answer(results), style="bold"))
    return parts


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the tables and the answer.

    Parameters
    ----------
    results : Results
        Of a run, a bench or a journal.
    console : Console, optional
        Defaults to stdout.
    """
    console = console or Console(highlight=False)
    for renderable in renderables(results):
        console.print(renderable, highlight=False)


def print_table(table: Table, console: Console) -> None:
    """Print one table."""
    console.print(_rendered(table), highlight=False)


def as_text(words: str, style: str = "") -> Text:
    """Return words from outside for rich: they may hold what it takes for markup, and what steers a terminal."""
    return Text(printable(words), style=style)


def _rendered(table: Table) -> RenderableType:
    drawn = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(table.columns):
        marks = (mark for row in table.rows for mark in MARK.findall(row[index]))
        drawn.add_column(
            as_text(name),
            justify="left" if table.is_left(index) else "right",
            overflow="fold",
            min_width=max(map(len, marks), default=None),  # a mark stays on one line
        )
    for row in table.rows:
        drawn.add_row(*map(as_text, row))
    below = [as_text(table.caption, style="dim")] if table.caption else []
    below += [as_text(f"[{number}] {note}") for number, note in enumerate(table.notes, 1)]
    body = Padding(Group(drawn, *below), (0, 0, 1, 2))
    return Group(as_text(table.title, style="bold"), body)
