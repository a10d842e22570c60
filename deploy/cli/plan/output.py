"""Output of the ``deploy plan`` commands: as wide as a plan needs, without colour."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.console import Console

from deploy.report.table import Table
from deploy.report.terminal import print_table

__all__ = ["WIDTH", "print_tables"]

WIDTH = 100


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables at their own width, without trailing spaces."""
    console = Console(highlight=False, width=WIDTH, no_color=True)
    for table in tables:
        with console.capture() as captured:
            print_table(table, console)
        typer.echo("\n" + "\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip())
