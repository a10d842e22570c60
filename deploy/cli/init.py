"""``deploy init``: write a commented recipe for the user's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import print_line
from deploy.cli.wishes import Flags, require_whole
from deploy.errors import OutputError
from deploy.run.child import ChildFailedError, call_in_child

__all__ = ["init"]


def init(
    flags: Flags,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the recipe here; default: NAME.yaml.")
    ] = None,
) -> None:
    """Inspect your own network and its data, and write a commented recipe for it.

    What the flags leave open is detected: the size and colour of the images, and the preprocessing with which the
    network is most accurate on training and validation images.
    """
    wishes = flags.wishes()
    require_whole(wishes, "deploy init needs")
    file = output or Path(f"{wishes.name}.yaml")
    if file.exists():
        raise OutputError(f"{file} exists: choose another file with --output, or remove it")
    try:
        call_in_child("deploy.run.look:write_own_recipe", wishes.model_dump_json(), file)
    except ChildFailedError as error:
        raise typer.Exit(error.exit_code) from None
    print_line(f"{file}: read it, then: deploy run {file}")
