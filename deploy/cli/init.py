"""``deploy init``: a commented recipe for one's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import options as given
from deploy.cli import wishes as asked
from deploy.cli.output import print_line
from deploy.errors import OutputError
from deploy.run.child import ChildFailedError, call_in_child

__all__ = ["init"]


def init(
    network: asked.Network = None,
    weights: asked.Weights = None,
    data: asked.Data = None,
    data_root: given.DataRoot = None,
    image_size: asked.ImageSize = None,
    crop: asked.Crop = None,
    normalise: asked.Normalise = None,
    method: asked.Method = None,
    speed_up: asked.SpeedUp = None,
    latency_ms: asked.LatencyMs = None,
    flops: asked.Flops = None,
    on: asked.On = None,
    max_drop: asked.MaxDrop = None,
    epochs: asked.Epochs = None,
    threads: given.Threads = None,
    budget: asked.RunBudget = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the recipe here; default: NAME.yaml.")
    ] = None,
) -> None:
    """Write a commented recipe for your own network, after a look at it and its data.

    What flags leave open is found out: the size and colour of the images, and the preparation under which the network
    is right most often on training and validation images.
    """
    wishes = asked.wishes_of(
        network=network,
        weights=weights,
        data=data,
        data_root=data_root,
        image_size=image_size,
        crop=crop,
        normalise=normalise,
        method=method,
        speed_up=speed_up,
        latency_ms=latency_ms,
        flops=flops,
        on=on,
        max_drop=max_drop,
        epochs=epochs,
        threads=threads,
        budget_s=budget,
    )
    asked.require_whole(wishes, "deploy init needs")
    file = output or Path(f"{wishes.name}.yaml")
    if file.exists():
        raise OutputError(f"{file} exists: choose another file with --output, or remove it")
    try:
        call_in_child("deploy.run.look:write_own_recipe", wishes.model_dump_json(), file)
    except ChildFailedError as error:
        raise typer.Exit(error.exit_code) from None
    print_line(f"{file}: read it, then: deploy run {file}")
