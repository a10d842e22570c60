"""``deploy list``: everything that can be named on the command line or in a recipe."""

from __future__ import annotations

import backends.registry
import benchmarks.registry
import deploy.registry
import pruners.registry
from deploy.cli.output import print_line

__all__ = ["list_names"]


def list_names() -> None:
    """List backends, pruning methods, networks, data sets and scenarios."""
    for title, names in (
        ("backends", backends.registry.names()),
        ("methods", pruners.registry.names()),
        ("scenarios", benchmarks.registry.names()),
        ("networks and data", deploy.registry.names()),
    ):
        print_line(f"{title}: {', '.join(names)}")
