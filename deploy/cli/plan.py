"""``deploy plan``: read, draw, compare, apply and carry over pruning plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from deploy.report.tables import Table

__all__ = ["plan"]

plan = typer.Typer(
    help="Read, draw, compare, apply and carry over pruning plans.", no_args_is_help=True, rich_markup_mode=None
)

_EQUAL, _DIFFERENT = 0, 1
_WIDTH = 100

PlanFile: TypeAlias = Annotated[Path, typer.Argument(metavar="PLAN", help="plan.json, or a bundle's folder.")]
Network: TypeAlias = Annotated[
    str | None,
    typer.Option("--network", help="cifar:, restoration:, torchvision: or timm:NAME, or path/to/file.py:factory."),
]
Options: TypeAlias = Annotated[
    list[str] | None, typer.Option("--option", help="KEY=VALUE of the network, for example width=0.25; repeatable.")
]
Classes: TypeAlias = Annotated[
    int | None, typer.Option("--n-classes", min=1, help="Of the network; default: its own number.")
]
Shape: TypeAlias = Annotated[
    str | None, typer.Option("--input-shape", help="C,H,W of one image; default: the one that the plan was made with.")
]


@plan.callback()
def _group() -> None:
    pass


@plan.command("show")
def show(
    plan_file: PlanFile,
    network: Network = None,
    option: Options = None,
    n_classes: Classes = None,
    input_shape: Shape = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the chart here.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write the chart alone here.")] = None,
) -> None:
    """Tell what a plan removes, and draw the kept units of each group.

    With --network every group that may be pruned is drawn, and FLOPs and parameters are counted.
    """
    from deploy.files.atomic import require_writable
    from deploy.plans.source import read_plan, requested, require_fit, trace_network
    from deploy.report.plan_picture import write_plan_page, write_plan_picture
    from deploy.report.plan_rows import bars, group_rows
    from deploy.report.plan_text import cost_table, headline, settings_lines
    from pruners.errors import PlanError

    for target in (html, svg):
        if target is not None:
            require_writable(target)
    found = read_plan(plan_file)
    graph, tables = None, []
    if network is not None:
        request = requested(network, plan=found, options=option or (), n_classes=n_classes, input_shape=input_shape)
        traced = trace_network(request, policy=found.policy)
        require_fit(found, traced, plan_file)
        graph = traced.graph
        tables = [cost_table(graph, [("pruned", found)])]
    rows = group_rows(found, graph)
    if not rows and (html is not None or svg is not None):
        raise PlanError(f"{plan_file} removes nothing: there is nothing to draw; give --network to draw it whole")
    lead = headline(found)
    for line in (lead, *settings_lines(found, _WIDTH), "", *bars(rows, _WIDTH)):
        typer.echo(line)
    if graph is None:
        typer.echo("\nGroups that are not listed keep everything; --network shows them too, and counts FLOPs.")
    _print(tables)
    title = f"Plan {plan_file}" if network is None else f"Plan {plan_file} for {network}"
    if html is not None:
        write_plan_page(found, rows, tables, title, lead, html)
    if svg is not None:
        write_plan_picture(rows, title, svg)


@plan.command("diff")
def diff(
    plan_a: Annotated[Path, typer.Argument(metavar="A", help="plan.json, or a bundle's folder.")],
    plan_b: Annotated[Path, typer.Argument(metavar="B", help="Another plan of the same network.")],
    network: Network = None,
    option: Options = None,
    n_classes: Classes = None,
    input_shape: Shape = None,
) -> None:
    """Compare two plans of one network: which groups differ, by how many units, and how much they overlap.

    Exit code 0 when both keep the same units, 1 when they differ.
    """
    from deploy.plans.difference import differences
    from deploy.plans.source import read_plan, requested, require_fit, trace_network
    from deploy.report.plan_text import cost_table, difference_table, difference_words

    a, b = read_plan(plan_a), read_plan(plan_b)
    found = differences(a, b)
    tables = [] if all(group.equal for group in found.groups) else [difference_table(found)]
    if network is not None:
        request = requested(network, plan=a, options=option or (), n_classes=n_classes, input_shape=input_shape)
        traced = trace_network(request, policy=a.policy)
        for each, path in ((a, plan_a), (b, plan_b)):
            require_fit(each, traced, path)
        tables.append(cost_table(traced.graph, [("A", a), ("B", b)]))
    for line in difference_words(found):
        typer.echo(line)
    _print(tables)
    raise typer.Exit(_EQUAL if found.equal else _DIFFERENT)


@plan.command("apply")
def apply(
    plan_file: PlanFile,
    network: Annotated[str, typer.Option("--network", help="The network that the plan was made for.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle.")],
    weights: Annotated[
        str, typer.Option("--weights", help="Of the dense network: 'none' (random), 'DEFAULT', or a file.")
    ] = "none",
    option: Options = None,
    n_classes: Classes = None,
    input_shape: Shape = None,
    seed: Annotated[int, typer.Option("--seed", help="Of random weights and of the reference inputs.")] = 0,
) -> None:
    """Apply a plan to a fresh network, or to given weights; verify the result and write it as a bundle."""
    from deploy.plans.applied import apply_and_write
    from deploy.plans.source import read_plan, requested, require_fit, trace_network
    from deploy.report.plan_text import cost_table, verification_words

    found = read_plan(plan_file)
    request = requested(
        network, plan=found, weights=weights, options=option or (), n_classes=n_classes, input_shape=input_shape
    )
    _say(f"building {request}")
    traced = trace_network(request, seed=seed, policy=found.policy)
    require_fit(found, traced, plan_file)
    _say("pruning, checking and exporting")
    applied = apply_and_write(found, traced, out, seed=seed)
    for line in verification_words(applied.verification, applied.form_reason):
        typer.echo(line)
    _print([cost_table(traced.graph, [("pruned", found)])])
    typer.echo(f"\nBundle: {out}")


@plan.command("transfer")
def transfer(
    plan_files: Annotated[
        list[Path], typer.Argument(metavar="PLAN", help="Plans of one network: several are averaged.")
    ],
    source: Annotated[str, typer.Option("--from", help="The network that the plans were made for.")],
    target: Annotated[str, typer.Option("--to", help="The network that the new plan is for.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the new plan here.")],
    from_option: Annotated[
        list[str] | None, typer.Option("--from-option", help="KEY=VALUE of the first network; repeatable.")
    ] = None,
    to_option: Annotated[
        list[str] | None, typer.Option("--to-option", help="KEY=VALUE of the second network; repeatable.")
    ] = None,
    from_classes: Annotated[
        int | None, typer.Option("--from-classes", min=1, help="Of the first network; default: its own number.")
    ] = None,
    to_classes: Annotated[
        int | None, typer.Option("--to-classes", min=1, help="Of the second network; default: its own number.")
    ] = None,
    to_shape: Annotated[
        str | None, typer.Option("--to-shape", help="C,H,W of its images; default: the one of the first plan.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Match stages by size (resolution and width) or by order.")] = "size",
    units: Annotated[
        str, typer.Option("--units", help="Which units are kept: first, random, or l1 of the weights.")
    ] = "first",
    weights: Annotated[
        str, typer.Option("--weights", help="Of the second network, for l1: 'none', 'DEFAULT', or a file.")
    ] = "none",
    multiple_of: Annotated[int, typer.Option("--multiple-of", min=1, help="Kept counts are a multiple of it.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of random units and random weights.")] = 0,
) -> None:
    """Carry the pattern of plans to another network of the family: the mean kept share of each stage.

    The layers of a stage make their channels at one resolution, in one width. This is the guided pruning of
    "Rethinking the Value of Network Pruning".
    """
    from deploy.files.atomic import require_writable
    from deploy.plans.source import read_plan, requested, require_fit, trace_network
    from deploy.plans.transferred import transfer_plan
    from deploy.report.plan_text import cost_table, stage_table
    from pruners.policy import Policy

    require_writable(out)
    plans = [read_plan(path) for path in plan_files]
    request = requested(source, plan=plans[0], options=from_option or (), n_classes=from_classes)
    first = trace_network(request, policy=plans[0].policy)
    for each, path in zip(plans, plan_files, strict=True):
        require_fit(each, first, path)
    request = requested(
        target, plan=plans[0], weights=weights, options=to_option or (), n_classes=to_classes, input_shape=to_shape
    )
    second = trace_network(request, seed=seed, policy=Policy(attention=plans[0].policy.attention))
    transferred = transfer_plan(plans, first, second, by=by, units=units, multiple_of=multiple_of, seed=seed)
    transferred.plan.save(out)
    _print([stage_table(transferred), cost_table(second.graph, [("pruned", transferred.plan)])])
    typer.echo(f"\nPlan: {out}")


def _print(tables: list[Table]) -> None:
    """Print tables as wide as they need, without the blanks that fill their lines."""
    from rich.console import Console

    from deploy.report.terminal import print_table

    console = Console(highlight=False, width=_WIDTH, no_color=True)
    for table in tables:
        with console.capture() as captured:
            print_table(table, console)
        typer.echo("\n" + "\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip())


def _say(line: str) -> None:
    typer.echo(line, err=True)
