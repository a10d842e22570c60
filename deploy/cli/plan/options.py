"""Options that the ``deploy plan`` commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from deploy.cli.options import PageFile

__all__ = ["Classes", "Network", "Options", "PageFile", "PlanFile", "Shape"]

PlanFile: TypeAlias = Annotated[Path, typer.Argument(metavar="PLAN", help="plan.json, or the folder of a bundle.")]
Network: TypeAlias = Annotated[
    str | None,
    typer.Option("--network", help="cifar:, restoration:, torchvision: or timm:NAME, or path/to/file.py:factory."),
]
Options: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--option", help="KEY=VALUE of the network (width=0.25); repeat for several."),
]
Classes: TypeAlias = Annotated[
    int | None, typer.Option("--n-classes", min=1, help="Classes of the network; default: its own number.")
]
Shape: TypeAlias = Annotated[
    str | None, typer.Option("--input-shape", help="C,H,W of one image; default: as when the plan was made.")
]
