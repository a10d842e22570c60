"""``deploy report``: print and write a results file again, or convert it to another tool's format."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from backends.errors import did_you_mean
from benchmarks.errors import InputError
from benchmarks.layers.comparison import LayerReport
from benchmarks.records.file import load as load_record
from deploy.ci.benchmark.document import as_json, document_of_check, document_of_results, without_row
from deploy.ci.check_report import CheckReport, load_check
from deploy.ci.formats.lines import print_check
from deploy.ci.formats.page import check_page
from deploy.ci.formats.registry import FORMATS, Write, save_as, show
from deploy.cli import options as given
from deploy.cli.output import print_json, say
from deploy.edge.profile.page import profile_page
from deploy.edge.profile.record import Profile, is_profile, profile_of_document
from deploy.edge.profile.terminal import print_profile
from deploy.files.advice import RECIPE, advised
from deploy.files.atomic import require_writable, write_file
from deploy.report.page import write_page
from deploy.report.terminal import print_results
from deploy.results.document import read_document
from deploy.results.gather import results_of_journal
from deploy.results.results import Results, results_of_document

__all__ = ["report"]

_FORMATS = ("pytest-benchmark",)
_CHECK = "check_file"
"""A key that only a check report has."""


def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="A results.json, check.json or profile.json, or the .journal of a measurement that was killed.",
        ),
    ],
    page: given.PageFile = None,
    layers: Annotated[
        Path | None,
        typer.Option(
            "--layers", help="File written by `deploy layers MODEL --against BASELINE -o`, to show on the page."
        ),
    ] = None,
    json: given.Json = False,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="pytest-benchmark: write the JSON that pytest-benchmark compare and dashboards read instead, also of "
            "check reports; check reports can also be written in any format of deploy check.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the output of --format here instead of to stdout.")
    ] = None,
    verbose: given.Verbose = False,
) -> None:
    """Print the answer of a results file (with -v, all its tables) and write its page."""
    if format_ is not None:
        if page is not None or layers is not None or json or verbose:
            raise InputError("--format stands alone: leave --page, --layers, --json and --verbose out")
        _convert(results, format_, output)
        return
    if output is not None:
        raise InputError("--output is where --format writes to: give --format too, or --page for the page")
    if results.suffix != ".journal":
        document = read_document(results, "results file", "schema_version")
        if is_profile(document):
            _profile(profile_of_document(document, results), page, layers, json=json, verbose=verbose)
            return
        if _CHECK in document:
            _check(load_check(results), page, layers, json=json, verbose=verbose)
            return
        loaded = results_of_document(document, results)
    else:
        loaded = results_of_journal(results)
    if layers is not None and page is None:
        raise InputError("--layers is shown on the page: give --page too")
    profiled = None if layers is None else load_record(layers, LayerReport, "layers")
    paths = _bundles(loaded, results.parent)
    with advised(RECIPE) if loaded.recipe else nullcontext():  # advice to a run names keys of its recipe
        if json:
            print_json(loaded.model_dump_json(indent=1))
        else:
            print_results(loaded, paths=paths, page="" if page is None else str(page), verbose=verbose)
        if page is not None:
            write_page(loaded, page, profiled)


def _profile(made: Profile, page: Path | None, layers: Path | None, *, json: bool, verbose: bool) -> None:
    """Show a profile again; its layers are part of it."""
    if layers is not None:
        raise InputError("--layers is for results: a profile has layers of its own")
    if page is not None:
        write_file(page, profile_page(made))
    if json:
        print_json(made.model_dump_json(indent=1))
    else:
        print_profile(made, page=page, verbose=verbose)


def _check(made: CheckReport, page: Path | None, layers: Path | None, *, json: bool, verbose: bool) -> None:
    """Show a check report again; the exit code is not that of the check."""
    if layers is not None:
        raise InputError("--layers is for results: the page of a check has none")
    if page is not None:
        write_file(page, check_page(made))
    if json:
        print_json(made.model_dump_json(indent=1))
    else:
        print_check(made, page="" if page is None else str(page), verbose=verbose)


def _convert(file: Path, format_: str, output: Path | None) -> None:
    if format_ not in (known := (*_FORMATS, *FORMATS)):
        raise InputError(f"unknown format {format_!r}; there are {', '.join(known)}{did_you_mean(format_, known)}")
    if output is not None:
        require_writable(output)
    if format_ in FORMATS:
        if file.suffix == ".journal" or _CHECK not in read_document(file, "check report", "schema_version"):
            raise InputError(
                f"{file} is not a check report, which --format {format_} needs: {_FORMATS[0]} is for results"
            )
        if output is None:
            show(load_check(file), format_)
        else:
            save_as(load_check(file), [Write(format_, output)])
        return
    if file.suffix == ".journal":
        loaded = results_of_journal(file)
        document, missing = document_of_results(loaded), without_row(loaded)
    elif _CHECK in (found := read_document(file, "results file", "schema_version")):
        report = load_check(file)
        document = document_of_check(report)
        missing = tuple(f"{name}: {line}" for name, one in report.results.items() for line in without_row(one))
    else:
        if is_profile(found):
            raise InputError(f"{file} is a profile: it has no rows for {format_}")
        loaded = results_of_document(found, file)
        document, missing = document_of_results(loaded), without_row(loaded)
    for line in missing:
        say(f"deploy: {line}")
    if output is None:
        print_json(as_json(document).rstrip())
    else:
        write_file(output, as_json(document))


def _bundles(results: Results, folder: Path) -> dict[str, str]:
    """Find the networks of a run beside its results."""
    found = {row.label: folder / "export" / row.label for row in results.models}
    return {label: str(bundle) for label, bundle in found.items() if bundle.is_dir()}
