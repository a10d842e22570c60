"""``deploy table space``: write a network's dense ONNX file, and how the file depends on the widths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line, tell
from deploy.cli.plan import options as given
from deploy.plans.source import network_request, trace_network
from deploy.tables.plan_space import DENSE, PLAN_SPACE, write_plan_space

__all__ = ["space"]


def space(
    network: Annotated[
        str,
        typer.Option("--network", help="cifar:, restoration:, torchvision: or timm:NAME, or path/to/file.py:factory."),
    ],
    input_shape: Annotated[str, typer.Option("--input-shape", help="C,H,W of one image.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the two files.")],
    weights: Annotated[
        str, typer.Option("--weights", help="Weights of the network: 'none' (random), 'DEFAULT', or a file.")
    ] = "none",
    option: given.Options = None,
    n_classes: given.Classes = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="Also find residual blocks that can be left out.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random weights and of the widths that are tried.")] = 0,
) -> None:
    """Export a network, and write how its ONNX file follows the kept counts of its channel groups."""
    request = network_request(
        network, weights=weights, options=option or (), n_classes=n_classes, input_shape=input_shape
    )
    tell(f"building {request}")
    traced = trace_network(request, seed=seed)
    tell("exporting it at several widths")
    found = write_plan_space(traced.model, traced.graph, traced.examples, output, seed=seed, blocks=blocks)
    print_line(
        f"{len(found.groups)} groups, {len(found.places)} numbers that follow them"
        f"{f', {len(found.blocks)} residual blocks' if blocks else ''}. {output / DENSE}, "
        f"{output / PLAN_SPACE}"
    )
