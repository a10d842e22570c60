"""The tables in the terminal: readable in 80 columns, without colour and without a tty."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deploy.report.sheets import Sheet, sheets
from deploy.report.words import answer
from deploy.results.results import Results

__all__ = ["print_results", "print_sheet", "tables"]


def tables(results: Results) -> list[RenderableType]:
    """Give one renderable per table, then the notes, then the answer in one sentence."""
    found: list[RenderableType] = [_table(sheet) for sheet in sheets(results)]
    found += [Text(f"Note: {note}") for note in results.notes]
    found.append(Text(answer(results), style="bold"))
    return found


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the tables and the answer.

    Parameters
    ----------
    results : Results
        See there.
    console : Console, optional
        Defaults to stdout.
    """
    console = console or Console(highlight=False)
    for renderable in tables(results):
        console.print(renderable, highlight=False)


def print_sheet(sheet: Sheet, console: Console) -> None:
    """Print one table."""
    console.print(_table(sheet), highlight=False)


def _table(sheet: Sheet) -> RenderableType:
    # Text, not str: labels and messages come from outside and may hold what rich takes for markup.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(sheet.columns):
        left = index < sheet.n_left or name == "verdict"
        table.add_column(Text(name), justify="left" if left else "right", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    below = [Text(sheet.caption, style="dim")] if sheet.caption else []
    below += [Text(f"[{number}] {note}") for number, note in enumerate(sheet.notes, 1)]
    body = Padding(Group(table, *below), (0, 0, 1, 2))
    return Group(Text(sheet.title, style="bold"), body)
