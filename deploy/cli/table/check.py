"""``deploy table check``: measure new plans, and compare with the predictions of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.subject.backend_options import compile_options, require_backends
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.check import check_table
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.cli import options as given
from deploy.cli.output import print_tables, tell
from deploy.report.latency_table import check_tables

__all__ = ["check"]


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="Latency table, from deploy table build.")],
    model: Annotated[Path, typer.Argument(metavar="DENSE", help="ONNX file of the dense network.")],
    plan_space: Annotated[Path, typer.Option("--plan-space", help="Plan space of DENSE, from deploy table space.")],
    plans: Annotated[int, typer.Option("--plans", min=3, help="New plans to measure.")] = 10,
    seed: given.Seed = 1,
) -> None:
    """Measure plans that the table has not seen, and print how far its predictions are off."""
    known = LatencyTable.load(table)
    key = known.key
    require_backends([key.backend], key.device)
    spec = SubjectSpec(
        model=model,
        backend=key.backend,
        options=compile_options(key.backend, precision=key.precision, threads=key.threads, device=key.device),
        batch=key.batch,
        shapes=key.shapes,
    )
    held_out, measured = check_table(
        known, spec, PlanSpace.load(plan_space), where=str(table), plans=plans, seed=seed, progress=tell
    )
    print_tables(*check_tables(held_out, measured))
