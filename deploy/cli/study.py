"""``deploy study``: questions that take many networks or many measurements to answer."""

from __future__ import annotations

import typer

from deploy.cli import study_coverage, study_oracle, study_published

__all__ = ["study"]

study = typer.Typer(
    help="Questions that take many networks or many measurements to answer.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@study.callback()
def _group() -> None:
    pass


study.command("coverage")(study_coverage.coverage)
study.command("oracle")(study_oracle.oracle)
study.command("published")(study_published.published)
