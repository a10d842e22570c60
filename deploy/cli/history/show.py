"""``deploy history show``: print the points of a series."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from deploy.ci.history.database import reading
from deploy.ci.history.figures import point_table
from deploy.ci.history.judging import Judged, judged
from deploy.ci.history.series import CommitPoint, Filters, by_commit, list_series, points_of
from deploy.cli import options as shared
from deploy.cli.history import options as given
from deploy.cli.output import print_json, print_tables
from deploy.errors import HistoryError
from deploy.files.validation_errors import suggestion

__all__ = ["show"]


def show(
    series: Annotated[
        str, typer.Argument(metavar="SERIES", help="Number of a series, as shown by deploy history list, or a model.")
    ],
    history: given.HistoryFile = given.DEFAULT,
    *,
    only: given.Only,
    json: shared.Json = False,
) -> None:
    """Print the points of a series, or of all series of a model, commit by commit, and mark where the level changed."""
    chosen = only.filters()
    found = judged(history, _of(history, series, chosen))
    with reading(history) as connection:
        shown = [(one, by_commit(points_of(connection, one.series.id, chosen.branch))) for one in found]
    if json:
        print_json(json_text.dumps([_as_json(one, commits) for one, commits in shown], indent=1))
    else:
        print_tables(*(point_table(one, commits) for one, commits in shown))


def _of(history: Path, series: str, chosen: Filters) -> Filters:
    """Return the filters, narrowed to the named series.

    Raises
    ------
    HistoryError
        There is none.
    """
    with reading(history) as connection:
        every = list_series(connection, Filters())
        models = list(dict.fromkeys(one.model for one in every))
        if series in models:
            narrowed = replace(chosen, models=(series,))
        elif series.isdecimal() and int(series) in {one.id for one in every}:
            narrowed = replace(chosen, numbers=(int(series),))
        else:
            raise HistoryError(f"history {history} has no series or model {series!r}{suggestion(series, models)}")
        given.require_some(list_series(connection, narrowed), history, narrowed)
    return narrowed


def _as_json(one: Judged, commits: list[CommitPoint]) -> dict[str, object]:
    about = {name: value for name, value in asdict(one.series).items() if name not in ("judged", "changes")}
    return {
        **about,
        "changes": None if one.changes is None else [change.model_dump() for change in one.changes],
        "commits": [
            {"name": commit.name, "value": commit.value, "points": [asdict(point) for point in commit.points]}
            for commit in commits
        ],
    }
