"""``deploy calibrate``: compare a model with itself, and save the smallest difference this machine can resolve."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.errors import BenchmarkError
from benchmarks.machine.noise_floor import NoiseFloor, fingerprint, noise_floor, store
from benchmarks.runner import compare
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import compile_options, require_backends
from benchmarks.subject.subject import SubjectSpec
from deploy.cli import options as given
from deploy.cli.measure.options import names_of
from deploy.cli.output import json_array, leave, print_json, print_line, say, tell
from deploy.exit_codes import OK, UNFIT
from deploy.report.formatting import duration, percent
from deploy.results.bench_grid import onnx_file, reference_of, saying_for

__all__ = ["calibrate"]


def calibrate(
    model: given.Model,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    pairs: Annotated[int, typer.Option(min=8, help="Pairs of fresh processes.")] = 20,
    margin: given.Margin = None,
    budget: given.Budget = 600.0,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    json: given.Json = False,
) -> None:
    """Measure a model against itself: the noise floor of this machine, shown with every later comparison."""
    path, names = onnx_file(model), names_of(backend)
    require_backends(names, device)
    reference = reference_of(path)
    counts = given.MARGIN if margin is None else margin
    unfit = False
    floors: list[NoiseFloor] = []
    for name in names:
        options = compile_options(name, precision=precision, threads=threads, device=device)
        first, second = (
            SubjectSpec(model=path, label=label, backend=name, options=options) for label in ("itself", "again")
        )
        comparison = compare(
            first,
            second,
            candidate_reference=reference,
            baseline_reference=reference,
            settings=Settings(trials=pairs, margin=counts, budget_s=budget, seed=seed),
            progress=saying_for(name, tell),
        )
        if comparison.verdict == "failed":
            raise BenchmarkError(f"{name}: {comparison.candidate.failure or comparison.baseline.failure}")
        calls = sorted(ns for trial in comparison.baseline.trials for ns in trial.calls_ns)
        floor = noise_floor(
            comparison.log_ratios,
            fingerprint=fingerprint(comparison.baseline.environment),
            backend=name,
            model_latency_ns=calls[len(calls) // 2],
            started_utc=comparison.baseline.started_utc,
            margin=counts,
        )
        where = store(floor)
        floors.append(floor)
        smallest = "no margin" if floor.smallest_margin is None else f"a margin of {percent(floor.smallest_margin, 1)}"
        (say if json else print_line)(
            f"{name}: {floor.n_pairs} pairs of {duration(floor.model_latency_ns)}, spread {percent(floor.spread, 2)}; "
            f"{smallest} is decided in 95 % of comparisons; false alarms at {percent(counts)}: "
            f"{percent(floor.false_alarm_rate, 1)}. Saved to {where}"
        )
        fitness = comparison.baseline.fitness
        for reason in fitness.reasons if fitness is not None else ():
            say(f"{name}: {reason}")
        unfit = unfit or comparison.baseline.unfit
    if json:
        print_json(json_array(floors))
    leave(UNFIT if unfit and not accept_unfit else OK)
