"""How commands print: progress on stderr, tables on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer
from pydantic import BaseModel
from rich.console import Console

from deploy.exit_codes import OK, UNFIT
from deploy.files.printable import printable
from deploy.report.table import Table
from deploy.report.terminal import as_text, print_block, print_table

__all__ = ["json_array", "leave", "print_answer", "print_line", "print_tables", "say", "teller"]


def say(line: str) -> None:
    """Print one line on stderr, whatever it holds."""
    typer.echo(printable(line), err=True)


def teller(*, quiet: bool) -> Callable[[str], None]:
    """Return what a command tells the progress of its work with: `say`, or nothing."""
    return _silent if quiet else say


def print_line(line: str = "") -> None:
    """Print one line on stdout, whatever it holds."""
    typer.echo(printable(line))


def leave(code: int, *, told: bool = False) -> None:
    """End the command with the exit code of what it measured; of an unfit machine one line says so.

    Parameters
    ----------
    code : int
        See `deploy.exit_codes`.
    told : bool, default=False
        Whether the answer above says what the code means.

    Raises
    ------
    typer.Exit
        The code is not 0.
    """
    if code == UNFIT and not told:
        say(
            "deploy: the machine was not fit for measuring (the reasons stand beside the numbers): measure again when "
            "it is quieter, or accept the numbers with --accept-unfit"
        )
    if code != OK:
        raise typer.Exit(code)


def json_array(records: Iterable[BaseModel]) -> str:
    """Write records as one JSON array."""
    return "[" + ",\n".join(record.model_dump_json(indent=1) for record in records) + "]"


def print_answer(text: str) -> None:
    """Print a paragraph on stdout, as wide as the terminal, and an empty line."""
    console = Console(highlight=False)
    print_block(as_text(text, style="bold"), console)
    console.print()


def print_tables(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal."""
    console = Console(highlight=False)
    for table in tables:
        print_table(table, console)


def _silent(_: str) -> None:
    pass
