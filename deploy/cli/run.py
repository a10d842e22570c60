"""``deploy run``: a recipe from the network to the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.output import say
from deploy.exit_codes import USAGE, WRONG_ANSWERS
from deploy.recipe import load_recipe
from deploy.report.terminal import print_results
from deploy.run.pipeline import PrepareError
from deploy.run.pipeline import run as run_pipeline
from deploy.run.stages import StageStore

__all__ = ["run"]


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file; see recipes/.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default: runs/NAME.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Where data sets lie; overrides the recipe.")
    ] = None,
) -> None:
    """Train, prune, fine-tune, export, check and measure as RECIPE says.

    Finished steps are kept: after an interruption the same command goes on where it stopped.
    """
    loaded = load_recipe(recipe)
    if data_root is not None:
        loaded = loaded.model_copy(update={"data": loaded.data.model_copy(update={"root": data_root.resolve()})})
    store = StageStore(output or Path("runs") / loaded.name)
    try:
        results = run_pipeline(loaded, store, say)
    except PrepareError as error:
        raise typer.Exit(error.exit_code) from None
    print_results(results)
    typer.echo(f"\nPage: {store.root / 'report.html'}   data: {store.root / 'results.json'}", err=True)
    if any(not row.agrees for row in results.answers()):
        raise typer.Exit(WRONG_ANSWERS)
    if results.skipped or any(found.failure is not None for found in results.all_measurements()):
        raise typer.Exit(USAGE)
