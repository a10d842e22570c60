"""``deploy layers``: profile where the time of a call goes, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.layers.comparison import LayerReport
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.records.file import load as load_record
from deploy.cli import options as given
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.measure.options import Feeds, Points
from deploy.cli.output import print_json, print_tables, tell
from deploy.exit_codes import OK
from deploy.files.atomic import require_writable, write_file
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.report.pages.tables_with_bars import layer_page
from deploy.results.bench_grid import label_models
from deploy.results.layer_profiles import profile_models

__all__ = ["layers", "show_fetched"]


def layers(
    model: given.Model,
    against: given.Against = None,
    *,
    points: Points,
    feeds: Feeds,
    duration: given.Duration = 2.0,
    top: Annotated[int, typer.Option(min=0, help="Layers to list, the slowest first; 0: all.")] = 20,
    seed: given.Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all layers here, as JSON.")] = None,
    page: given.PageFile = None,
    json: given.Json = False,
) -> None:
    """Profile an ONNX file layer by layer: time, MACs, bytes, and share of the measured roofline."""
    for target in filter(None, (output, page)):
        require_writable(target)
    grid, models = feeds.into(points.grid()), label_models(model, against)
    report = LayerReport()
    for profiles, pair in profile_models(models, grid, duration_s=duration, seed=seed, say=tell):
        point = LayerReport().with_point(profiles, pair)
        report = report.with_point(profiles, pair)
        if output is not None:
            _save(report, output)
        if not json:
            _print(point, top)
    if page is not None:
        write_file(page, layer_page(report))
    if json:
        print_json(report.model_dump_json(indent=1))


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what the command wrote on a board.

    Raises
    ------
    RecordError
        It is not a report of layers.
    BoardError
        It is of other models.
    """
    report = load_record(file, LayerReport, "report of layers")
    command.require((one.subject.sha256 for one in _all_profiles(report)), OK)
    output, page = command.path("output"), command.path("page")
    if output is not None:
        _save(report, output)
    if page is not None:
        write_file(page, layer_page(report))
    if command.options["json"]:
        print_json(report.model_dump_json(indent=1))
    else:
        _print(report, command.options["top"])


def _all_profiles(report: LayerReport) -> list[LayerProfile]:
    return [*report.profiles, *(one for pair in report.comparisons for one in (pair.baseline, pair.candidate))]


def _save(report: LayerReport, output: Path) -> None:
    write_file(output, report.model_dump_json(indent=1) + "\n")


def _print(report: LayerReport, top: int) -> None:
    shown = top or None
    tables = [table for profile in report.profiles for table in profile_tables(profile, shown)]
    for pair in report.comparisons:
        tables += [table for profile in (pair.baseline, pair.candidate) for table in profile_tables(profile, shown)]
        tables += comparison_tables(pair, shown)
    print_tables(*tables)
