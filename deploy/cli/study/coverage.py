"""``deploy study coverage``: prune, verify and run every network of a long list, and compare with another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import options as given
from deploy.cli.output import json_array, note, print_json, print_line, print_tables, tell
from deploy.exit_codes import WRONG_ANSWERS
from deploy.report.markdown import require_block, write_block
from deploy.sources.boundary import require
from deploy.studies.coverage.catalogue import entries
from deploy.studies.coverage.rows import CoverageRow, CoverageSettings, Limits
from deploy.studies.coverage.study import choose, jobs_of, run
from deploy.studies.coverage.table import block_of, lost, totals
from deploy.studies.coverage.table import markdown as as_markdown

__all__ = ["coverage"]


def coverage(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the rows; finished rows are not repeated.")
    ],
    set_: Annotated[
        str,
        typer.Option("--set", help="torchvision, segmentation, detection, video, flow, timm; all of these; libraries."),
    ] = "all",
    only: given.Only = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", help="ours or torch-pruning; repeat for both. Default: ours.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that run at the same time.")] = 1,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds for one network under one engine.")] = 600.0,
    prune_limit: Annotated[
        float, typer.Option(min=1, help="Seconds for one pruning call of the other library.")
    ] = 90.0,
    memory_limit: Annotated[float, typer.Option(min=1, help="Resident gigabytes of one network's processes.")] = 14.0,
    markdown: given.MarkdownPage = None,
    json: given.Json = False,
) -> None:
    """Remove 30 % of the units of every network of a list, verify, export and run the result on two runtimes."""
    require("deploy study coverage", "torch", "torchvision", "safetensors")
    block = block_of(set_)
    if markdown is not None:
        require_block(markdown, block)
    limits = Limits(time_s=time_limit, prune_s=prune_limit, memory_gb=memory_limit)
    asked = jobs_of(choose(entries(), set_, only or ()), engine or ["ours"], CoverageSettings(), limits)
    rows = run(asked, output, at_once=jobs, report=_say)
    if markdown is not None:
        write_block(markdown, block, as_markdown(rows))
    if json:
        print_json(json_array(rows))
    else:
        print_tables(totals(rows))
    if not json and (missing := lost(rows)):
        print_line(f"Handled by Torch-Pruning and not by this project: {', '.join(missing)}")
    if any(row.outcome == "wrong" and not row.runtime_at_fault and row.job.engine == "ours" for row in rows):
        raise typer.Exit(WRONG_ANSWERS)


def _say(row: CoverageRow, done: int, total: int) -> None:
    entry = row.job.entry
    why = f" at {row.phase}: {row.reason}" if row.outcome != "ok" else ""
    note(f"{done}/{total} {entry.set}:{entry.name} {row.job.engine}: {row.outcome}{why}")
    tell(f"{done} of {total} networks")
