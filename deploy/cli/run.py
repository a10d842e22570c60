"""``deploy run``: the whole pipeline, from the network to the measured speed, by a recipe or by flags."""

from __future__ import annotations

import shlex
from json import loads
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import options as given
from deploy.cli.output import leave, note, print_json, say, tell
from deploy.cli.wishes import Flags, require_whole
from deploy.errors import OutputError
from deploy.exit_codes import run_code
from deploy.files.atomic import write_file
from deploy.files.commented_yaml import commented_yaml
from deploy.recipe import Recipe, load_recipe, read_yaml, recipe_of, with_data_root
from deploy.report.terminal import print_results
from deploy.run.child import ChildFailedError, call_in_child
from deploy.run.own import COMMENTS
from deploy.run.pipeline import run as run_pipeline
from deploy.run.stages import StageStore
from deploy.run.wishes import Wishes

__all__ = ["run"]

_RUNS = Path("runs")
_OWN = "recipe.yaml"


def run(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE", help="YAML file; see recipes/. Not needed with --network and --data."),
    ] = None,
    *,
    flags: Flags,
    output: given.RunFolder = None,
    accept_unfit: given.AcceptUnfit = False,
    json: given.Json = False,
    verbose: given.Verbose = False,
) -> None:
    """Train, prune, fine-tune, export, check and measure as RECIPE says, or prune your own network by flags.

    Finished steps are kept: after an interruption the same command continues where it stopped. Measurements from an
    unfit machine do not count as finished: exit code 4, and the same command repeats them. The recipe equivalent to the
    flags is written into the run's folder.
    """
    wishes = flags.wishes()
    try:
        loaded, store = _recipe(recipe, wishes, output)
        loaded = with_data_root(loaded, wishes.data_root)
        results = run_pipeline(loaded, store, note, tell, accept_unfit=accept_unfit)
    except ChildFailedError as error:
        raise typer.Exit(error.exit_code) from None
    code = run_code(results)
    if json:
        print_json(results.model_dump_json(indent=1))
    else:
        bundles = {label: str(store.root / "export" / label) for label in ("dense", "pruned")}
        print_results(results, code=code, paths=bundles, page=str(store.root / "report.html"), verbose=verbose)
    leave(code, told=not json)


def _recipe(file: Path | None, wishes: Wishes, output: Path | None) -> tuple[Recipe, StageStore]:
    """Return the recipe and the run's folder; a recipe from flags is also written into the folder."""
    if file is not None and not wishes.given:
        loaded = load_recipe(file)
        return loaded, StageStore(output or _RUNS / loaded.name)
    if file is None:
        require_whole(wishes, f"give a recipe, or in its place {'also ' if wishes.given else ''}the flags")
        store = StageStore(output or _RUNS / wishes.name)
        _require_same_network(store, wishes)
        own = store.root / _OWN
        with store.locked():  # the recipe of a run in progress must not change
            call_in_child("deploy.run.look:write_own_recipe", wishes.model_dump_json(), own)
    else:
        document = wishes.over(read_yaml(file))
        loaded = recipe_of(document, f"{file} with flags")
        store = StageStore(output or _RUNS / loaded.name)
        own = store.root / _OWN
        with store.locked():
            write_file(own, commented_yaml(document, COMMENTS))
    folder = [] if output is None else ["--output", str(output)]
    say(f"recipe: {own}; the same again: {shlex.join(['deploy', 'run', str(own), *folder])}")
    return load_recipe(own), store


def _require_same_network(store: StageStore, wishes: Wishes) -> None:
    """Refuse the folder of another network's run, as its work would be deleted."""
    try:
        earlier = loads(store.resolved.read_text(encoding="utf-8"))["network"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if Path(str(earlier)).resolve() != Path(str(wishes.network)).resolve():  # as paths: ./net.py:build is net.py:build
        raise OutputError(
            f"{store.root} holds a run of another network, {earlier}: choose another folder with --output, or remove it"
        )
