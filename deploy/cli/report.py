"""``deploy report``: the answer, the tables and the page again, from a results file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import InputError
from benchmarks.layers.comparison import LayerReport
from benchmarks.records.file import load as load_record
from deploy.cli import options as given
from deploy.cli.output import print_json
from deploy.edge.profile.page import profile_page
from deploy.edge.profile.record import Profile, is_profile, profile_of_document
from deploy.edge.profile.terminal import print_profile
from deploy.files.advice import RECIPE, advised
from deploy.files.atomic import write_file
from deploy.report.page import write_page
from deploy.report.terminal import print_results
from deploy.results.document import read_document
from deploy.results.gather import results_of_journal
from deploy.results.results import Results, results_of_document

__all__ = ["report"]


def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="A results.json, a profile.json, or the .journal of a measurement that was killed."
        ),
    ],
    page: given.PageFile = None,
    layers: Annotated[
        Path | None,
        typer.Option("--layers", help="What `deploy layers MODEL --against BASELINE -o` wrote, to stand on the page."),
    ] = None,
    json: given.Json = False,
    verbose: given.Verbose = False,
) -> None:
    """Print the answer of a results file, with -v all its tables, and write its page."""
    if results.suffix != ".journal":
        document = read_document(results, "results file", "schema_version")
        if is_profile(document):
            _profile(profile_of_document(document, results), page, layers, json=json, verbose=verbose)
            return
        loaded = results_of_document(document, results)
    else:
        loaded = results_of_journal(results)
    if layers is not None and page is None:
        raise InputError("--layers stands on the page: give --page too")
    profiled = None if layers is None else load_record(layers, LayerReport, "layers")
    paths = _bundles(loaded, results.parent)
    with advised(RECIPE) if loaded.recipe else nullcontext():  # what a run is told to change stands in its recipe
        if json:
            print_json(loaded.model_dump_json(indent=1))
        else:
            print_results(loaded, paths=paths, page="" if page is None else str(page), verbose=verbose)
        if page is not None:
            write_page(loaded, page, profiled)


def _profile(made: Profile, page: Path | None, layers: Path | None, *, json: bool, verbose: bool) -> None:
    """Show a profile again; its layers stand in it."""
    if layers is not None:
        raise InputError("--layers is for results: a profile has layers of its own")
    if page is not None:
        write_file(page, profile_page(made))
    if json:
        print_json(made.model_dump_json(indent=1))
    else:
        print_profile(made, page=page, verbose=verbose)


def _bundles(results: Results, folder: Path) -> dict[str, str]:
    """Find the networks of a run beside its results."""
    found = {row.label: folder / "export" / row.label for row in results.models}
    return {label: str(bundle) for label, bundle in found.items() if bundle.is_dir()}
