"""Options that the ``deploy history`` commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from deploy.ci.history.database import reading
from deploy.ci.history.figures import METRICS
from deploy.ci.history.series import Filters, Series, list_series
from deploy.errors import HistoryError
from deploy.files.validation_errors import suggestion

__all__ = ["DEFAULT", "HistoryFile", "Models", "Only", "require_some"]

DEFAULT = Path("deploy-history.sqlite")

HistoryFile: TypeAlias = Annotated[Path, typer.Option("--history", help="SQLite file of results over time.")]
Models: TypeAlias = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; repeat for several. Default: all.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Options that select series, except by model."""

    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Only this backend; repeat for several. Default: all.")
    ] = None
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help=f"Only this: {', '.join(METRICS)}; repeat for several. Default: all."),
    ] = None
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine", help="Only the machine whose fingerprint begins with this; repeat for several. Default: all."
        ),
    ] = None
    branch: Annotated[
        str | None, typer.Option("--branch", help="Only what was measured on this branch. Default: all.")
    ] = None

    def filters(self, models: Sequence[str] | None = None) -> Filters:
        """Return the options as filters.

        Raises
        ------
        HistoryError
            There is no such metric.
        """
        return Filters(
            models=tuple(models or ()),
            backends=tuple(self.backend or ()),
            metrics=tuple(map(_metric, self.metric or ())),
            machines=tuple(self.machine or ()),
            branch=self.branch or "",
        )


def require_some(every: Sequence[Series], history: Path, chosen: Filters) -> None:
    """Refuse options that match no series: one is probably misspelt.

    Raises
    ------
    HistoryError
        No series matches.
    """
    if every or chosen == Filters():
        return
    with reading(history) as connection:
        there = list_series(connection, Filters())
    named = ((chosen.models, "model"), (chosen.backends, "backend"))
    for names, field in named:
        known = list(dict.fromkeys(getattr(one, field) for one in there if getattr(one, field)))
        if unknown := next((name for name in names if name not in known), None):
            raise HistoryError(f"history {history} has no {field} {unknown!r}{suggestion(unknown, known)}")
    raise HistoryError(f"history {history} has no series that matches the options: deploy history list shows all")


def _metric(given: str) -> str:
    """Find a metric by its name in the file or in tables."""
    if found := next((name for name, words in METRICS.items() if given in (name, words)), None):
        return found
    raise HistoryError(f"--metric {given!r} is unknown{suggestion(given, list(METRICS))}")
