"""``deploy plan show``: show what a plan removes, as text, as a chart and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line
from deploy.cli.plan import options as given
from deploy.cli.plan.output import WIDTH, print_tables
from deploy.files.atomic import require_writable
from deploy.plans.source import read_plan, read_pruning, requested, require_fit, trace_network
from deploy.report.plan_picture import write_plan_page, write_plan_picture
from deploy.report.plan_rows import bars, group_rows
from deploy.report.plan_text import cost_table, headline, proof_lines, settings_lines
from pruners.errors import PlanError

__all__ = ["show"]


def show(
    plan_file: given.PlanFile,
    network: given.Network = None,
    option: given.Options = None,
    n_classes: given.Classes = None,
    input_shape: given.Shape = None,
    page: given.PageFile = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write the chart here.")] = None,
) -> None:
    """Print what a plan removes and draw the kept units of each group.

    With --network every group that may be pruned is drawn, and FLOPs and parameters are counted.
    """
    for target in (page, svg):
        if target is not None:
            require_writable(target)
    source = read_plan(plan_file)
    graph, tables = None, []
    if network is not None:
        request = requested(network, plan=source, options=option or (), n_classes=n_classes, input_shape=input_shape)
        traced = trace_network(request, policy=source.policy)
        require_fit(source, traced, plan_file)
        graph = traced.graph
        tables = [cost_table(graph, [("pruned", source)])]
    rows = group_rows(source, graph)
    if not rows and (page is not None or svg is not None):
        raise PlanError(f"{plan_file} removes nothing: there is nothing to draw; --network draws the whole network")
    lead = headline(source)
    for line in (lead, *settings_lines(source, WIDTH), *proof_lines(read_pruning(plan_file)), "", *bars(rows, WIDTH)):
        print_line(line)
    if graph is None:
        print_line()
        print_line("Groups that are not listed keep everything; --network shows them too, and counts FLOPs.")
    print_tables(tables)
    title = f"Plan {plan_file}" if network is None else f"Plan {plan_file} for {network}"
    if page is not None:
        write_plan_page(source, rows, tables, title, lead, page)
    if svg is not None:
        write_plan_picture(rows, title, svg)
