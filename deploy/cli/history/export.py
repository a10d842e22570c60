"""``deploy history export``: write everything in a history as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.ci.history.exchange import as_lines
from deploy.ci.history.store import read_runs
from deploy.cli.history import options as given
from deploy.cli.output import print_json, print_line
from deploy.files.atomic import require_writable, write_file

__all__ = ["export"]


def export(
    history: given.HistoryFile = given.DEFAULT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON lines here.")] = None,
) -> None:
    """Write every run of a history as JSON, one line each, with raw samples; import reads them into another history."""
    if output is None:
        for line in as_lines(read_runs(history)):
            print_json(line.rstrip("\n"))
        return
    require_writable(output)
    lines = list(as_lines(read_runs(history)))
    write_file(output, "".join(lines))
    print_line(f"{len(lines)} runs: {output}")
