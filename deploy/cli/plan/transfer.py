"""``deploy plan transfer``: transfer the pattern of a plan to another network of the same family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line
from deploy.cli.plan.output import print_tables
from deploy.files.atomic import require_writable
from deploy.plans.source import read_plan, requested, require_fit, trace_network
from deploy.plans.transferred import transfer_plan
from deploy.report.plan_text import cost_table, stage_table

__all__ = ["transfer"]


def transfer(
    plan_files: Annotated[
        list[Path], typer.Argument(metavar="PLAN", help="Plans of one network: several are averaged.")
    ],
    source: Annotated[str, typer.Option("--from", help="The network that the plans were made for.")],
    target: Annotated[str, typer.Option("--to", help="The network that the new plan is for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the new plan here.")],
    from_option: Annotated[
        list[str] | None, typer.Option("--from-option", help="KEY=VALUE of the first network; repeat for several.")
    ] = None,
    to_option: Annotated[
        list[str] | None, typer.Option("--to-option", help="KEY=VALUE of the second network; repeat for several.")
    ] = None,
    from_classes: Annotated[
        int | None, typer.Option("--from-classes", min=1, help="Classes of the first network; default: its own number.")
    ] = None,
    to_classes: Annotated[
        int | None, typer.Option("--to-classes", min=1, help="Classes of the second network; default: its own number.")
    ] = None,
    to_shape: Annotated[
        str | None, typer.Option("--to-shape", help="C,H,W of one image; default: as when the first plan was made.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Match stages by size (resolution and width) or by order.")] = "size",
    units: Annotated[
        str, typer.Option("--units", help="Units to keep: first, random, or l1 (largest weights).")
    ] = "first",
    weights: Annotated[
        str, typer.Option("--weights", help="Weights of the second network, for l1: 'none', 'DEFAULT', or a file.")
    ] = "none",
    multiple_of: Annotated[int, typer.Option("--multiple-of", min=1, help="Kept counts are multiples of this.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random units and random weights.")] = 0,
) -> None:
    """Transfer the pattern of plans to another network of the same family: the mean kept share of each stage.

    The layers of a stage produce their channels at one resolution and with one width. This is the guided pruning of
    "Rethinking the Value of Network Pruning".
    """
    require_writable(output)
    plans = [read_plan(path) for path in plan_files]
    request = requested(source, plan=plans[0], options=from_option or (), n_classes=from_classes)
    first = trace_network(request, policy=plans[0].policy)
    for each, path in zip(plans, plan_files, strict=True):
        require_fit(each, first, path)
    request = requested(
        target, plan=plans[0], weights=weights, options=to_option or (), n_classes=to_classes, input_shape=to_shape
    )
    second = trace_network(request, seed=seed, policy=plans[0].policy.model_copy(update={"grouped": {}}))
    transferred = transfer_plan(plans, first, second, by=by, units=units, multiple_of=multiple_of, seed=seed)
    transferred.plan.save(output)
    print_tables([stage_table(transferred), cost_table(second.graph, [("pruned", transferred.plan)])])
    print_line()
    print_line(f"Plan: {output}")
