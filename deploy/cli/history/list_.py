"""``deploy history list``: list the series of a history."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict

from deploy.ci.history.database import history_errors, reading
from deploy.ci.history.figures import as_lines, series_table
from deploy.ci.history.judging import is_current, kept_changes
from deploy.ci.history.series import Series, list_series
from deploy.cli import options as shared
from deploy.cli.history import options as given
from deploy.cli.output import print_json, print_line

__all__ = ["list_all"]


def list_all(
    history: given.HistoryFile = given.DEFAULT,
    model: given.Models = None,
    *,
    only: given.Only,
    json: shared.Json = False,
) -> None:
    """List the series of a history: how many points each has, its latest value, and when it last changed.

    A series belongs to one model, backend with its options, metric and machine.
    """
    chosen = only.filters(model)
    with reading(history) as connection:
        every = list_series(connection, chosen)
    given.require_some(every, history, chosen)
    with history_errors(history):
        if json:
            print_json(json_text.dumps([_as_json(series) for series in every], indent=1))
            return
        for line in as_lines(series_table(every)):
            print_line(line)
    print_line()
    print_line(f"{len(every)} series in {history}")
    if stale := sum(not is_current(series) for series in every):
        print_line(f"In {stale} of them changes were not looked for yet: deploy history show, page or import does it.")


def _as_json(series: Series) -> dict[str, object]:
    fields = asdict(series)
    current = is_current(series)
    changes = [change.model_dump() for change in kept_changes(series)] if current else None
    return {**{name: value for name, value in fields.items() if name != "judged"}, "changes": changes}
