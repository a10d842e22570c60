"""``deploy history page``: write a history as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.ci.history.database import reading
from deploy.ci.history.judging import judged
from deploy.ci.history.page import Shown, history_page
from deploy.ci.history.series import by_commit, points_of
from deploy.cli.history import options as given
from deploy.cli.output import note, print_line
from deploy.files.atomic import require_writable, write_file

__all__ = ["page"]


def page(
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the HTML page here.")] = Path(
        "deploy-history.html"
    ),
    history: given.HistoryFile = given.DEFAULT,
    model: given.Models = None,
    *,
    only: given.Only,
) -> None:
    """Write a history as a page: a chart for each series, with its changes, in one self-contained file."""
    chosen = only.filters(model)
    require_writable(output)
    found = judged(history, chosen)
    given.require_some([one.series for one in found], history, chosen)
    with reading(history) as connection:
        shown = [Shown(one, tuple(by_commit(points_of(connection, one.series.id, chosen.branch)))) for one in found]
    write_file(output, history_page(history.name, shown))
    print_line(f"{len(shown)} series: {output}")
    for why in dict.fromkeys(one.why_not for one in found if one.why_not):
        note(f"deploy: {why}")
