"""``deploy doctor``: what this machine has, and why the rest is not usable."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from backends import registry
from benchmarks.machine.environment import cores_available
from deploy.report.terminal import as_text
from deploy.sources.datasets.data import data_availability

__all__ = ["doctor"]


def doctor(
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Directory of the data sets.")] = None,
) -> None:
    """List backends, devices and data sets with their versions, and for each unusable one why and what to do."""
    console = Console(highlight=False, markup=False)
    console.print(
        f"prune-deploy {version('prune-deploy')}, Python {platform.python_version()}, {sys.platform}, "
        f"{cores_available()} usable cores"
    )
    why_not = "why not, and what to do"
    table = Table("backend", "device", "version", "usable", why_not, title="Backends", title_justify="left")
    for name in registry.names():
        state = registry.probe(name)
        why = "" if state.ok else f"{state.reason}; {state.hint}"
        cells = (name, ", ".join(state.devices) or "-", state.version or "-", "yes" if state.ok else "no", why)
        table.add_row(*map(as_text, cells))
    console.print(table)
    table = Table("data set", "usable", "where", why_not, title="Data", title_justify="left")
    for row in data_availability(data_root):
        why = "" if row.ok else f"{row.reason}; {row.hint}"
        table.add_row(*map(as_text, (row.name, "yes" if row.ok else "no", str(row.where or "-"), why)))
    console.print(table)
