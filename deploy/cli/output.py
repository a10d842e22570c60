"""How commands print: progress on stderr, tables on stdout."""

from __future__ import annotations

import typer
from rich.console import Console

from deploy.report.table import Table
from deploy.report.terminal import print_table

__all__ = ["print_tables", "say"]


def say(line: str) -> None:
    """Print one line on stderr."""
    typer.echo(line, err=True)


def print_tables(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal."""
    console = Console(highlight=False)
    for table in tables:
        print_table(table, console)
