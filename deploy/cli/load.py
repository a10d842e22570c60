"""``deploy load``: a model with several callers, with requests that come at random, or with all work there at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import SettingError
from benchmarks.scenarios import SCENARIOS, Device, MultiStream, ScenarioSettings, Server
from benchmarks.scenarios.load import LoadMeasurement, OfflineFor, measure_load
from benchmarks.settings import Settings
from benchmarks.subject.subject import SubjectSpec
from deploy.backend_options import compile_options, require_backends
from deploy.cli import options as given
from deploy.cli.output import say
from deploy.exit_codes import OK, measured_code
from deploy.files.atomic import require_writable, write_file
from deploy.report.load_table import print_load
from deploy.results.bench_grid import numbers, onnx_file, reference_of, shapes

__all__ = ["load"]


def load(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="multi-stream, server, offline or device.")],
    backend: given.Backends = None,
    streams: Annotated[str, typer.Option(help="Requests in flight, or several numbers: 1,2,4.")] = "1",
    bound_ms: Annotated[
        float | None, typer.Option("--bound-ms", help="server: latency that the percentile has to keep.")
    ] = None,
    percentile: Annotated[float, typer.Option(help="server: which one, for example 99.")] = 99.0,
    rate: Annotated[
        float | None, typer.Option(help="server: requests per second to judge; default: the highest is searched for.")
    ] = None,
    precision: given.Precision = "fp32",
    threads: Annotated[int, typer.Option(help="Threads of one inference.")] = 1,
    device: given.Device = None,
    batch: Annotated[int | None, typer.Option(help="Size of a free batch dimension; default: 1.")] = None,
    shape: given.Shapes = None,
    budget: Annotated[float, typer.Option("--budget", help="Seconds for each row, about.")] = 30.0,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write raw samples here, a JSON line each.")
    ] = None,
) -> None:
    """Put a load on an ONNX file: answers first, then throughput, or the highest rate that keeps a latency bound."""
    path = onnx_file(model)
    names = list(dict.fromkeys(backend or ["ort"]))
    loads = [
        _scenario(scenario, n or 1, bound_ms, percentile, rate, budget, seed) for n in numbers(streams, "--streams")
    ]
    sizes = shapes(shape or [])
    if output is not None:
        require_writable(output)
    require_backends(names, device)
    reference = reference_of(path)
    found: list[LoadMeasurement] = []
    for name in names:
        options = compile_options(name, precision=precision, threads=threads, device=device)
        spec = SubjectSpec(model=path, backend=name, options=options, batch=batch, shapes=sizes)
        for one in loads:
            found.append(
                measure_load(
                    spec,
                    one,
                    reference=reference,
                    settings=Settings(seed=seed),
                    progress=say,
                )
            )
            if output is not None:
                write_file(output, "".join(row.model_dump_json() + "\n" for row in found))
    if any(row.failure is None for row in found):
        print_load(found)
    for reason in dict.fromkeys(f"{row.subject.backend}: {row.failure}" for row in found if row.failure):
        typer.echo(f"deploy: {reason}", err=True)
    if (code := measured_code(found, accept_unfit=accept_unfit)) != OK:
        raise typer.Exit(code)


def _scenario(
    name: str,
    streams: int,
    bound_ms: float | None,
    percentile: float,
    rate: float | None,
    budget_s: float,
    seed: int,
) -> ScenarioSettings | OfflineFor:
    if not 0 < budget_s < float("inf"):
        raise SettingError(f"--budget must be positive and finite, got {budget_s}")
    if name == "multi-stream":
        return MultiStream(streams=streams, min_duration_ns=round(1e9 * budget_s))
    if name == "device":
        return Device()
    if name == "offline":
        return OfflineFor(streams=streams, seconds=budget_s)
    if name != "server":
        raise SettingError(f"scenario {name!r} is not one of {', '.join(SCENARIOS)}")
    if bound_ms is None:
        raise SettingError("scenario 'server' wants a bound: --bound-ms 20")
    return Server(
        bound_ns=round(1e6 * bound_ms),
        share=percentile / 100,
        streams=streams,
        rate_per_s=rate,
        budget_ns=round(1e9 * budget_s),
        seed=seed,
    )
