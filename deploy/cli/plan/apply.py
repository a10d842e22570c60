"""``deploy plan apply``: apply a plan to a network, and write the result as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line, tell
from deploy.cli.plan import options as given
from deploy.cli.plan.output import print_tables
from deploy.plans.applied import apply_and_write
from deploy.plans.source import read_plan, requested, require_fit, trace_network
from deploy.report.plan_text import cost_table, proof_lines

__all__ = ["apply"]


def apply(
    plan_file: given.PlanFile,
    network: Annotated[str, typer.Option("--network", help="The network the plan was made for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    weights: Annotated[
        str, typer.Option("--weights", help="Weights of the dense network: 'none' (random), 'DEFAULT', or a file.")
    ] = "none",
    option: given.Options = None,
    n_classes: given.Classes = None,
    input_shape: given.Shape = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random weights and of the reference inputs.")] = 0,
) -> None:
    """Apply a plan to a network with new or given weights, verify the result and write it as a bundle."""
    source = read_plan(plan_file)
    request = requested(
        network, plan=source, weights=weights, options=option or (), n_classes=n_classes, input_shape=input_shape
    )
    tell(f"building {request}")
    traced = trace_network(request, seed=seed, policy=source.policy)
    require_fit(source, traced, plan_file)
    tell("pruning, checking and exporting")
    bundle = apply_and_write(source, traced, output, seed=seed)
    for line in proof_lines(bundle.pruning):
        print_line(line)
    print_tables([cost_table(traced.graph, [("pruned", source)])])
    print_line()
    print_line(f"Bundle: {output}")
