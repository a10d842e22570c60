"""``deploy study published``: compare the FLOPs savings of published pruned networks with their measured speed-up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.settings import Settings
from deploy.cli import options as given
from deploy.cli.measure.options import names_of
from deploy.cli.output import leave, note, print_json, print_tables, tell
from deploy.exit_codes import measured_code, sides
from deploy.report.markdown import markdown as as_markdown
from deploy.report.markdown import require_block, write_block
from deploy.results.bench_grid import Grid
from deploy.sources.boundary import require
from deploy.studies.published.catalogue import load_catalogue
from deploy.studies.published.study import run_study
from deploy.studies.published.tables import (
    catalogue_table,
    left_out_table,
    measured_table,
    promised_table,
    study_table,
)

__all__ = ["published"]


def published(
    backend: given.Backends = None,
    only: given.Only = None,
    budget: given.Budget = 60.0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that keeps finished rows.")] = Path(
        "published"
    ),
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batch = None,
    margin: given.Margin = None,
    trials: given.Trials = None,
    seed: given.Seed = 0,
    accept_unfit: given.AcceptUnfit = False,
    markdown: given.MarkdownPage = None,
    json: given.Json = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show the catalogue and measure nothing.")] = False,
) -> None:
    """Measure pruned networks published in papers alongside their dense parents (random weights)."""
    catalogue = load_catalogue()
    entries = catalogue.select(tuple(only or ()))
    block = "catalogue" if list_only else "measured"
    if markdown is not None:
        require_block(markdown, block)
    if list_only:
        print_tables(promised_table(entries), left_out_table(catalogue))
        if markdown is not None:
            text = f"{as_markdown(catalogue_table(entries))}\n### Left out\n\n{as_markdown(left_out_table(catalogue))}"
            write_block(markdown, block, text)
        return

    require("deploy study published", "torch", "torchvision")
    grid = Grid(
        backends=names_of(backend),
        precision=precision,
        device=device,
        threads=(threads,),
        batches=(batch or 1,),
    )
    settings = Settings(budget_s=budget, margin=given.MARGIN if margin is None else margin, trials=trials, seed=seed)
    results = run_study(entries, grid, settings, output, note, tell, keep_unfit=accept_unfit)
    if json:
        print_json(results.model_dump_json(indent=1))
    else:
        print_tables(promised_table(entries), measured_table(entries, results))
    if markdown is not None:
        write_block(markdown, block, as_markdown(study_table(entries, results)))
    measured = sides(row.comparison for row in results.rows)
    missing = any(row.reason for row in results.rows)
    leave(measured_code(measured, missing=missing, accept_unfit=accept_unfit))
