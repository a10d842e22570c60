"""``deploy run``: a recipe from the network to the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import options as given
from deploy.cli.output import leave, say
from deploy.exit_codes import run_code
from deploy.recipe import load_recipe, with_data_root
from deploy.report.terminal import print_results
from deploy.run.child import ChildFailedError
from deploy.run.pipeline import run as run_pipeline
from deploy.run.stages import StageStore

__all__ = ["run"]


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see recipes/.")],
    output: given.RunFolder = None,
    data_root: given.DataRoot = None,
    accept_unfit: given.AcceptUnfit = False,
    verbose: given.Verbose = False,
) -> None:
    """Train, prune, fine-tune, export, check and measure as RECIPE says.

    Finished steps are kept: after an interruption the same command continues where it stopped. What was measured on an
    unfit machine is not finished: exit code 4, and the same command measures it again.
    """
    loaded = with_data_root(load_recipe(recipe), data_root)
    store = StageStore(output or Path("runs") / loaded.name)
    try:
        results = run_pipeline(loaded, store, say, accept_unfit=accept_unfit)
    except ChildFailedError as error:
        raise typer.Exit(error.exit_code) from None
    code = run_code(results, accept_unfit=accept_unfit)
    bundles = {label: str(store.root / "export" / label) for label in ("dense", "pruned")}
    print_results(results, code=code, paths=bundles, page=str(store.root / "report.html"), verbose=verbose)
    leave(code, told=True)
