"""``deploy study``: questions that take many networks or many measurements to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from deploy.cli import study_coverage, study_oracle, study_published, study_run

__all__ = ["StudyGroup", "study"]


class StudyGroup(TyperGroup):
    """A group whose first argument may also be a recipe: ``deploy study R.yaml`` is ``deploy study run R.yaml``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` before what is no command: a file, or an option. A misspelt command is still told as one."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names) and _recipe_or_option(args[0]):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _recipe_or_option(word: str) -> bool:
    return word.startswith("-") or "." in word or "/" in word or Path(word).is_file()


study = typer.Typer(
    cls=StudyGroup,
    help="Questions that take many networks or many measurements to answer. "
    "deploy study RECIPE.yaml is short for deploy study run RECIPE.yaml.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@study.callback()
def _group() -> None:
    pass


study.command("run")(study_run.run)
study.command("coverage")(study_coverage.coverage)
study.command("oracle")(study_oracle.oracle)
study.command("published")(study_published.published)
