"""``deploy table show``: show the accuracy and contents of a latency table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tables.table import LatencyTable
from deploy.cli.output import print_tables
from deploy.report.latency_table import latency_tables

__all__ = ["show"]


def show(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Latency table, from deploy table build.")],
    top: Annotated[int, typer.Option(min=0, help="Layers to list, the slowest first; 0: all.")] = 20,
) -> None:
    """Print how well a latency table predicts, and where the time of the dense network goes."""
    print_tables(*latency_tables(LatencyTable.load(table), top=top))
