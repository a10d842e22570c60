"""``deploy plan diff``: compare two plans of one network, group by group."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line
from deploy.cli.plan import options as given
from deploy.cli.plan.output import print_tables
from deploy.exit_codes import DIFFERENT, OK
from deploy.plans.difference import differences
from deploy.plans.source import read_plan, requested, require_fit, trace_network
from deploy.report.plan_text import cost_table, difference_lines, difference_table

__all__ = ["diff"]


def diff(
    plan_a: Annotated[Path, typer.Argument(metavar="A", help="plan.json, or the folder of a bundle.")],
    plan_b: Annotated[Path, typer.Argument(metavar="B", help="Another plan of the same network.")],
    network: given.Network = None,
    option: given.Options = None,
    n_classes: given.Classes = None,
    input_shape: given.Shape = None,
) -> None:
    """Compare two plans of one network: which groups differ, by how many units, and how much they overlap.

    Exit code 0 when both keep the same units, 7 when they differ, 2 when they cannot be compared.
    """
    a, b = read_plan(plan_a), read_plan(plan_b)
    changes = differences(a, b)
    tables = [] if all(group.equal for group in changes.groups) else [difference_table(changes)]
    if network is not None:
        request = requested(network, plan=a, options=option or (), n_classes=n_classes, input_shape=input_shape)
        traced = trace_network(request, policy=a.policy)
        for each, path in ((a, plan_a), (b, plan_b)):
            require_fit(each, traced, path)
        tables.append(cost_table(traced.graph, [("A", a), ("B", b)]))
    for line in difference_lines(changes):
        print_line(line)
    print_tables(tables)
    raise typer.Exit(OK if changes.equal else DIFFERENT)
