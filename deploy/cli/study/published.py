"""``deploy study published``: what the papers' pruned networks promise in FLOPs against what this machine gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.settings import Settings
from deploy.cli import options as given
from deploy.cli.output import print_tables, say
from deploy.exit_codes import OK, measured_code, sides
from deploy.report.markdown import markdown as as_markdown
from deploy.report.markdown import require_block, write_block
from deploy.results.bench_grid import Grid
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
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Name or pattern of networks, for example 'l1-*'; repeatable.")
    ] = None,
    budget: given.Budget = 60.0,
    out: Annotated[
        Path, typer.Option("--out", help="Folder that keeps finished rows; the same command goes on where it ended.")
    ] = Path("published"),
    precision: given.Precision = "fp32",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference; default: all cores.")] = None,
    device: given.Device = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images of one inference.")] = 1,
    margin: given.Margin = 0.03,
    trials: given.Trials = None,
    seed: given.Seed = 0,
    accept_unfit: given.AcceptUnfit = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Page that receives the table, between its two marks.")
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only show the catalogue; measure nothing.")] = False,
) -> None:
    """Measure pruned networks that papers published beside their dense parents (random weights)."""
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

    grid = Grid(
        backends=list(dict.fromkeys(backend or ["ort"])),
        precision=precision,
        device=device,
        threads=(threads,),
        batches=(batch,),
    )
    settings = Settings(budget_s=budget, margin=margin, trials=trials, seed=seed)
    results = run_study(entries, grid, settings, out, say, keep_unfit=accept_unfit)
    print_tables(promised_table(entries), measured_table(entries, results))
    if markdown is not None:
        write_block(markdown, block, as_markdown(study_table(entries, results)))
    measured = sides(row.comparison for row in results.rows)
    missing = any(row.reason for row in results.rows)
    if (code := measured_code(measured, missing=missing, accept_unfit=accept_unfit)) != OK:
        raise typer.Exit(code)
