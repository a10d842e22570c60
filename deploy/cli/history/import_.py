"""``deploy history import``: add reports and results to a history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.ci.git import commit_of
from deploy.ci.history.exchange import read_file
from deploy.ci.history.judging import judged
from deploy.ci.history.series import Filters
from deploy.ci.history.store import add_runs, require_history
from deploy.cli.history import options as given
from deploy.cli.output import note, print_line
from deploy.errors import HistoryError

__all__ = ["import_files"]


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Reports of deploy check -o, a results.json, or what deploy history export wrote."
        ),
    ],
    history: given.HistoryFile = given.DEFAULT,
    at_head: Annotated[
        bool, typer.Option("--at-head", help="Assign the results to the commit checked out here.")
    ] = False,
) -> None:
    """Add check reports and results of any version to a history; what it already has is skipped.

    All files are added, or none if one of them cannot be read. Results of deploy bench, compare and run have no
    commit: without --at-head they are placed at the time they were made.
    """
    head = commit_of(Path()) if at_head else None
    if at_head and head is None:
        raise HistoryError("--at-head: this folder is not in a git repository with a commit, or git is not installed")
    runs = []
    for file in files:
        runs += [run if run.commit else run.model_copy(update={"commit": head}) for run in read_file(file)]
    require_history(history)
    added = add_runs(history, runs)
    print_line(f"{added} points of {len(runs)} runs added to {history}")
    found = judged(history, Filters())
    for why in dict.fromkeys(one.why_not for one in found if one.why_not):
        note(f"deploy: {why}")
