"""``deploy table list``: list the latency tables that were measured on this machine and are reused."""

from __future__ import annotations

from benchmarks.tables.cache import kept_tables, tables_folder
from deploy.cli.output import print_line, print_tables
from deploy.report.latency_table import kept_table

__all__ = ["list_tables"]


def list_tables() -> None:
    """List the latency tables that were measured on this machine and are reused, newest first."""
    kept = list(kept_tables())
    if kept:
        print_tables(kept_table(kept))
    print_line(f"{len(kept)} latency table{'s' * (len(kept) != 1)} in {tables_folder()}")
