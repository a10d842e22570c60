"""``deploy table build``: measure plans, and fit the time of each layer to the widths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.subject.backend_options import compile_options, require_backends
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import build_table
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.cli import options as given
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.output import print_line, print_tables, tell
from deploy.exit_codes import OK
from deploy.files.atomic import require_writable
from deploy.report.latency_table import latency_tables
from deploy.results.bench_grid import shapes

__all__ = ["build", "show_fetched"]


def build(
    model: Annotated[Path, typer.Argument(metavar="DENSE", help="ONNX file of the dense network.")],
    plan_space: Annotated[Path, typer.Option("--plan-space", help="Plan space of DENSE, from deploy table space.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the table here, as JSON.")],
    backend: given.Backend = "ort",
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batch = None,
    shape: given.Shapes = None,
    plans: Annotated[int, typer.Option("--plans", min=20, help="Plans to measure.")] = 40,
    seed: given.Seed = 0,
) -> None:
    """Measure random plans of a network, and fit how the time of each layer follows its widths."""
    require_writable(output)
    require_backends([backend], device)
    spec = SubjectSpec(
        model=model,
        backend=backend,
        options=compile_options(backend, precision=precision, threads=threads, device=device),
        batch=batch,
        shapes=shapes(shape or []),
    )
    table = build_table(spec, PlanSpace.load(plan_space), plans=plans, seed=seed, progress=lambda line, _: tell(line))
    _show(table, output)


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what the command wrote on a board.

    Raises
    ------
    RecordError
        It is not a latency table.
    BoardError
        It is of another network.
    """
    table = LatencyTable.load(file)
    command.require((table.key.model_sha256,), OK)
    output = command.path("output")
    assert output is not None
    _show(table, output)


def _show(table: LatencyTable, output: Path) -> None:
    table.save(output)
    print_tables(*latency_tables(table, top=10))
    print_line()
    print_line(f"Table: {output}")
