"""Options that the commands on a history share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from deploy.ci.history.figures import METRICS
from deploy.ci.history.series import Filters
from deploy.errors import HistoryError
from deploy.files.validation_errors import suggestion

__all__ = ["DEFAULT", "Backends", "Branch", "HistoryFile", "Machines", "Metrics", "Models", "filters"]

DEFAULT = Path("deploy-history.sqlite")

HistoryFile: TypeAlias = Annotated[Path, typer.Option("--history", help="SQLite file of results over time.")]
Models: TypeAlias = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; repeat for several. Default: all.")
]
Backends: TypeAlias = Annotated[
    list[str] | None, typer.Option("--backend", "-b", help="Only this backend; repeat for several. Default: all.")
]
Metrics: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metric", help=f"Only this: {', '.join(METRICS)}; repeat for several. Default: all."),
]
Machines: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--machine", help="Only the machine whose fingerprint begins so; repeat for several. Default: all."),
]
Branch: TypeAlias = Annotated[
    str | None, typer.Option("--branch", help="Only what was measured on this branch. Default: all.")
]


def filters(
    models: list[str] | None,
    backends: list[str] | None,
    metrics: list[str] | None,
    machines: list[str] | None,
    branch: str | None,
) -> Filters:
    """Return what the options let pass.

    Raises
    ------
    HistoryError
        There is no such metric.
    """
    for metric in metrics or ():
        if metric not in METRICS:
            raise HistoryError(f"--metric {metric!r} is unknown{suggestion(metric, list(METRICS))}")
    return Filters(
        models=tuple(models or ()),
        backends=tuple(backends or ()),
        metrics=tuple(metrics or ()),
        machines=tuple(machines or ()),
        branch=branch or "",
    )
