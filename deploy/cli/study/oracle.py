"""``deploy study oracle``: compare how criteria rank units with the effect of removing each unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deploy.cli import options as given
from deploy.cli.output import note, print_json, print_tables
from deploy.errors import DeployError
from deploy.files.atomic import write_file
from deploy.recipe import load_recipe, with_data_root
from deploy.run.child import ChildFailedError
from deploy.run.stages import StageStore
from deploy.studies.oracle.page import oracle_page, oracle_table
from deploy.studies.oracle.study import FOLDER, RESULTS, OracleSettings, run_study
from pruners.importance.criteria import create_criterion, criterion_names

__all__ = ["oracle"]


def oracle(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="YAML file; see recipes/. Its dense network is trained or resumed.")
    ],
    output: given.RunFolder = None,
    data_root: given.DataRoot = None,
    criterion: Annotated[
        list[str] | None,
        typer.Option("--criterion", "-c", help="Criterion to compare; repeat for several; default: all."),
    ] = None,
    split: Annotated[str, typer.Option(help="Images that units are scored on: train or validation.")] = "train",
    examples: Annotated[int, typer.Option(min=2, help="Number of images that units are scored on.")] = 512,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64,
    json: given.Json = False,
) -> None:
    """Ablate each unit of RECIPE's dense network alone, and correlate every criterion with the change in loss.

    Prints the table of the Taylor paper (Spearman's correlation per layer, over all layers, and after l2
    normalisation), and writes oracle/oracle.json and oracle/oracle.html into the folder of the run. Finished work is
    kept.
    """
    loaded = with_data_root(load_recipe(recipe), data_root)
    names = tuple(dict.fromkeys(criterion or criterion_names()))
    for name in names:
        create_criterion(name)
    settings = OracleSettings(criteria=names, split=_split(split), n_examples=examples, batch_size=batch_size)
    store = StageStore(output or Path("runs") / loaded.name)
    folder = store.root / FOLDER
    with store.locked():
        try:
            results = run_study(loaded, settings, store)
        except ChildFailedError as error:
            raise typer.Exit(error.exit_code) from None
        write_file(folder / "oracle.html", oracle_page(results))
    if json:
        print_json(results.model_dump_json(indent=1))
    else:
        print_tables(oracle_table(results))
    note(f"Page: {folder / 'oracle.html'}   data: {folder / RESULTS}")


def _split(name: str) -> Literal["train", "validation"]:
    if name == "train":
        return "train"
    if name == "validation":
        return "validation"
    raise DeployError(f"--split is train or validation, got {name!r}: what is chosen is never chosen on test images")
