"""Answer and tables in the terminal: readable in 80 columns, without colour and without a tty."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table as RichTable
from rich.text import Text

from deploy.files.printable import printable
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.lines import answer_lines
from deploy.report.table import MARK, Table
from deploy.report.tables import doubts_table, tables
from deploy.results.results import Results

__all__ = ["as_text", "print_block", "print_results", "print_table"]

_PIPED = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""A line below the headings, like `rich.box.SIMPLE_HEAD`, in ASCII."""


def print_results(
    results: Results,
    console: Console | None = None,
    *,
    code: int | None = None,
    paths: Mapping[str, str] | None = None,
    page: str = "",
    verbose: bool = False,
) -> None:
    """Print the answer, and with `verbose` all tables and doubts below.

    Parameters
    ----------
    results : Results
        Of a run, a bench or a journal.
    console : Console, optional
        Defaults to stdout.
    code : int, optional
        Exit code of the command; derived from the results by default.
    paths : Mapping of str to str, optional
        Paths of the models, by label.
    page : str, optional
        Path of the page.
    verbose : bool, default=False
        Whether to print the tables too.
    """
    console = console or Console(highlight=False)
    for line in answer_lines(answer_of(results, code, paths), console.width, page, verbose=verbose):
        console.print(line, soft_wrap=True, highlight=False)
    if not verbose:
        return
    console.print()
    for table in (*tables(results), doubts_table(results)):
        if table.rows:
            print_table(table, console)


def print_table(table: Table, console: Console) -> None:
    """Print one table."""
    print_block(_rendered(table, box.SIMPLE_HEAD if console.is_terminal else _PIPED), console)


def print_block(block: RenderableType, console: Console) -> None:
    """Print a block at the width of the terminal, without trailing blanks."""
    for line in console.render_lines(block, console.options, pad=False):
        while line and not line[-1].text.strip(" "):
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip(" "))
        console.print(Segments([*line, Segment.line()]), end="", soft_wrap=True)


def as_text(words: str, style: str = "") -> Text:
    """Return untrusted words as text for rich: markup and terminal control codes have no effect."""
    return Text(printable(words), style=style)


def _rendered(table: Table, lines: box.Box) -> RenderableType:
    drawn = RichTable(box=lines, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
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
