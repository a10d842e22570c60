"""``deploy list``: list the names that can be used on the command line or in a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import backends.registry
import benchmarks.registry
import deploy.sources.registry
import pruners.registry
from deploy.cli.output import print_line, print_tables
from deploy.report.formatting import NOTHING
from deploy.report.table import Table, left

__all__ = ["list_names"]


def list_names() -> None:
    """List backends, networks, data sets, scenarios and pruning methods, with what each method does and needs."""
    for title, names in (
        ("backends", backends.registry.names()),
        ("scenarios", benchmarks.registry.names()),
        ("networks and data", deploy.sources.registry.names()),
    ):
        print_line(f"{title}: {', '.join(names)}")
    print_tables(Table("methods", left("method", "what it does", "needs", "paper"), tuple(_methods())))


def _methods() -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each method, from its own docstring and facts."""
    for name in pruners.registry.names():
        method = pruners.registry.method_class(name)
        what = " ".join(cleandoc(method.__doc__ or "").partition("\n\n")[0].replace("``", "").split())
        needs = (method.needs_layers, "training data" if method.needs_data else "")
        yield name, what, ", ".join(filter(None, needs)) or NOTHING, method.paper
