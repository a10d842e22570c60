"""``deploy table export``: write the layer times of a table as CSV, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tables.table import LatencyTable
from deploy.cli.output import print_line
from deploy.files.atomic import require_writable, write_file
from deploy.report.latency_table import as_csv

__all__ = ["export"]


def export(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Latency table, from deploy table build.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the CSV file here.")],
) -> None:
    """Write the predicted time of each layer at each full block of its groups, as CSV.

    For a layer with more than 10,000 combinations of them, one group changes at a time and the others are whole.
    """
    require_writable(output)
    write_file(output, as_csv(LatencyTable.load(table)))
    print_line(f"Layer times: {output}")
