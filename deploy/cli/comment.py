"""``deploy comment``: post a check report as a comment on the pull or merge request of this job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.ci.check_report import load_check
from deploy.ci.formats.github import command
from deploy.ci.formats.posting import post
from deploy.cli.output import print_line, say

__all__ = ["comment"]


def comment(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="The check.json that deploy check wrote.")],
    name: Annotated[
        str,
        typer.Option("--name", help="Name of the comment, for jobs that each have one; default: the check's title."),
    ] = "",
    number: Annotated[
        int | None,
        typer.Option("--number", min=1, help="Number of the pull or merge request; default: that of the job."),
    ] = None,
) -> None:
    """Post a check report as a comment on this job's pull or merge request, or update the existing comment.

    If the server cannot be reached or refuses, a warning says so and the job continues.
    """
    posted = post(load_check(report), os.environ, name=name, number=number)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print_line(command(posted.level, posted.words, title="deploy comment"))
    elif posted.level == "warning":
        say(f"deploy: warning: {posted.words}")
    else:
        print_line(posted.words)
