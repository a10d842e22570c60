"""``deploy calibrate``: compare a model with itself, and remember how small a difference this machine can tell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import BenchmarkError
from benchmarks.machine.noise_floor import fingerprint, noise_floor, store
from benchmarks.runner import compare
from benchmarks.settings import Settings
from benchmarks.subject.subject import SubjectSpec
from deploy.backend_options import compile_options, require_backends
from deploy.cli import options as given
from deploy.exit_codes import UNFIT
from deploy.report.formatting import duration, percent
from deploy.results.bench_grid import onnx_file, reference_of

__all__ = ["calibrate"]


def calibrate(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: Annotated[int | None, typer.Option(help="Threads of one inference; default: all usable cores.")] = None,
    device: given.Device = None,
    pairs: Annotated[int, typer.Option(min=8, help="Pairs of fresh processes.")] = 20,
    margin: given.Margin = 0.03,
    budget: given.Budget = 600.0,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
) -> None:
    """Measure MODEL against itself: the noise floor of this machine, shown from then on beside every comparison."""
    path, names = onnx_file(model), list(dict.fromkeys(backend or ["ort"]))
    require_backends(names, device)
    reference = reference_of(path)
    unfit = False
    for name in names:
        options = compile_options(name, precision=precision, threads=threads, device=device)
        first, second = (
            SubjectSpec(model=path, label=label, backend=name, options=options) for label in ("itself", "again")
        )
        found = compare(
            first,
            second,
            candidate_reference=reference,
            baseline_reference=reference,
            settings=Settings(trials=pairs, margin=margin, budget_s=budget, seed=seed),
            progress=partial(_say, name),
        )
        if found.verdict == "failed":
            raise BenchmarkError(f"{name}: {found.candidate.failure or found.baseline.failure}")
        calls = sorted(ns for trial in found.baseline.trials for ns in trial.calls_ns)
        floor = noise_floor(
            found.log_ratios,
            fingerprint=fingerprint(found.baseline.environment),
            backend=name,
            model_latency_ns=calls[len(calls) // 2],
            started_utc=found.baseline.started_utc,
            margin=margin,
        )
        where = store(floor)
        smallest = "no margin" if floor.smallest_margin is None else f"a margin of {percent(floor.smallest_margin, 1)}"
        typer.echo(
            f"{name}: {floor.n_pairs} pairs of {duration(floor.model_latency_ns)}, spread {percent(floor.spread, 2)}; "
            f"{smallest} is decided in 95 % of comparisons; false alarms at {percent(margin)}: "
            f"{percent(floor.false_alarm_rate, 1)}. Kept in {where}"
        )
        fitness = found.baseline.fitness
        for reason in fitness.reasons if fitness is not None else ():
            typer.echo(f"{name}: {reason}", err=True)
        unfit = unfit or found.baseline.unfit
    if unfit and not accept_unfit:
        raise typer.Exit(UNFIT)


def _say(backend: str, line: str) -> None:
    typer.echo(f"{backend}: {line}", err=True)
