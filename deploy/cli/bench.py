"""``deploy bench`` and ``deploy compare``: measure any ONNX file, alone or in turn with another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine.affinity import parse_cores
from benchmarks.settings import Settings
from deploy.cli import options as given
from deploy.cli.output import say
from deploy.exit_codes import OK, exit_code
from deploy.files.atomic import require_writable
from deploy.report.page import write_page
from deploy.report.terminal import print_results
from deploy.results.bench_grid import Grid, bench_models, label_models, numbers, shapes
from deploy.results.results import Results

__all__ = ["bench", "compare"]


def bench(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    against: Annotated[
        Path | None, typer.Option("--against", "-a", help="ONNX file measured in turn with it: the baseline.")
    ] = None,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batches = None,
    shape: given.Shapes = None,
    trials: given.Trials = None,
    budget: given.Budget = 60.0,
    margin: given.Margin = 0.03,
    strict: given.Strict = False,
    percentile: Annotated[
        float, typer.Option(help="Of one model alone: measure until this percentile is known, for example 99.")
    ] = 50.0,
    half_width: Annotated[float, typer.Option(help="Of one model alone: known means within this share of it.")] = 0.02,
    cores: given.Cores = None,
    cold: given.Cold = False,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    output: given.OutputFile = None,
    page: given.PageFile = None,
) -> None:
    """Measure an ONNX file: answers first, then latency, throughput and memory, in processes of its own."""
    grid = Grid(
        backends=list(dict.fromkeys(backend or ["ort"])),
        precision=precision,
        device=device,
        threads=numbers(threads, "--threads"),
        batches=numbers(batch, "--batch"),
        shapes=shapes(shape or []),
        cores=None if cores is None else parse_cores(cores),
    )
    settings = Settings(
        trials=trials,
        budget_s=budget,
        margin=margin,
        strict=strict,
        percentile=percentile / 100,
        half_width=half_width,
        cold=cold,
        seed=seed,
    )
    if page is not None:
        require_writable(page)
    results = bench_models(label_models(model, against), grid, settings, say, output)
    _tell(results, page, accept_unfit=accept_unfit)


def compare(
    baseline: Annotated[Path, typer.Argument(help="ONNX file or bundle: how it was.")],
    candidate: Annotated[Path, typer.Argument(help="ONNX file or bundle: how it would be.")],
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batches = None,
    shape: given.Shapes = None,
    trials: given.Trials = None,
    budget: given.Budget = 60.0,
    margin: given.Margin = 0.03,
    strict: given.Strict = False,
    cores: given.Cores = None,
    cold: given.Cold = False,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    output: given.OutputFile = None,
    page: given.PageFile = None,
) -> None:
    """Tell whether CANDIDATE is faster or slower than BASELINE; exit code 1 says slower, 3 says not decided."""
    bench(
        model=candidate,
        against=baseline,
        backend=backend,
        precision=precision,
        threads=threads,
        device=device,
        batch=batch,
        shape=shape,
        trials=trials,
        budget=budget,
        margin=margin,
        strict=strict,
        cores=cores,
        cold=cold,
        accept_unfit=accept_unfit,
        seed=seed,
        output=output,
        page=page,
    )


def _tell(results: Results, page: Path | None, *, accept_unfit: bool) -> None:
    measured = results.all_measurements()
    reasons = [f"{one.subject.label} on {one.subject.backend}: {one.failure}" for one in measured if one.failure]
    if len(reasons) < len(measured):  # else a table would only hide the reasons
        print_results(results)
    for reason in dict.fromkeys(reasons):
        typer.echo(f"deploy: {reason}", err=True)
    if page is not None:
        write_page(results, page)
    if (code := exit_code(results, accept_unfit=accept_unfit)) != OK:
        raise typer.Exit(code)
