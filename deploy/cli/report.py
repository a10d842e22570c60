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
from deploy.files.advice import RECIPE, advised
from deploy.report.page import write_page
from deploy.report.terminal import print_results
from deploy.results.gather import results_of_journal
from deploy.results.results import Results, load

__all__ = ["report"]


def report(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="A results.json, or the .journal of a measurement that was killed."),
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
    if layers is not None and page is None:
        raise InputError("--layers stands on the page: give --page too")
    profiled = None if layers is None else load_record(layers, LayerReport, "layers")
    loaded = results_of_journal(results) if results.suffix == ".journal" else load(results)
    paths = _bundles(loaded, results.parent)
    with advised(RECIPE) if loaded.recipe else nullcontext():  # what a run is told to change stands in its recipe
        if json:
            print_json(loaded.model_dump_json(indent=1))
        else:
            print_results(loaded, paths=paths, page="" if page is None else str(page), verbose=verbose)
        if page is not None:
            write_page(loaded, page, profiled)


def _bundles(results: Results, folder: Path) -> dict[str, str]:
    """Find the networks of a run beside its results."""
    found = {row.label: folder / "export" / row.label for row in results.models}
    return {label: str(bundle) for label, bundle in found.items() if bundle.is_dir()}
