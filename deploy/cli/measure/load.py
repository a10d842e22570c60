"""``deploy load``: measure under load, from several callers, random arrivals, or all work queued at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import SettingError
from benchmarks.scenarios import SCENARIOS, Device, MultiStream, ScenarioSettings, Server
from benchmarks.scenarios.load import LoadMeasurement, OfflineFor, measure_load
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import require_backends
from deploy.cli import options as given
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.measure.options import Feeds, names_of
from deploy.cli.output import json_array, leave, print_json, say, tell
from deploy.exit_codes import measured_code
from deploy.files.atomic import require_writable, write_file
from deploy.report.load_table import print_load
from deploy.report.pages.tables_with_bars import load_page
from deploy.results.bench_grid import Grid, numbers, onnx_file, reference_of
from deploy.results.load_rows import read_load

__all__ = ["load", "show_fetched"]

_FIRST_CALL_S = 60.0
"""Time allowed for the first call, in addition to the duration of the load."""


def load(
    model: given.Model,
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="multi-stream, server, offline or device.")],
    backend: given.Backends = None,
    streams: Annotated[str, typer.Option(help="Requests in flight, or several: 1,2,4.")] = "1",
    bound_ms: Annotated[
        float | None, typer.Option("--bound-ms", help="server: latency bound, in milliseconds.")
    ] = None,
    percentile: Annotated[float, typer.Option(help="server: percentile that must meet the bound.")] = 99.0,
    rate: Annotated[
        float | None, typer.Option(help="server: requests per second to test; default: search for the highest.")
    ] = None,
    precision: given.Precision = "fp32",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads of one inference; default: all usable cores, shared by the streams."
        ),
    ] = None,
    device: given.Device = None,
    batch: given.Batch = None,
    *,
    feeds: Feeds,
    duration: given.Duration = 30.0,
    no_check: given.NoCheck = False,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write raw samples here, one JSON line per row.")
    ] = None,
    page: given.PageFile = None,
    json: given.Json = False,
) -> None:
    """Measure an ONNX file under load: throughput, or the highest request rate that keeps a latency bound."""
    path = onnx_file(model)
    names = names_of(backend)
    loads = [
        _scenario(scenario, n or 1, bound_ms, percentile, rate, duration, seed) for n in numbers(streams, "--streams")
    ]
    grid = Grid(backends=names, precision=precision, device=device, threads=(threads,), batches=(batch,))
    points = feeds.into(grid).specs({path.stem: path})
    for target in filter(None, (output, page)):
        require_writable(target)
    require_backends(names, device)
    reference = reference_of(path)
    rows: list[LoadMeasurement] = []
    for (spec,) in points:
        for one in loads:
            shared = threads or max(1, spec.options.threads // one.streams)
            rows.append(
                measure_load(
                    replace(spec, options=replace(spec.options, threads=shared)),
                    one,
                    reference=reference,
                    settings=Settings(seed=seed, check=not no_check, budget_s=_FIRST_CALL_S + duration),
                    progress=tell,
                )
            )
            if output is not None:
                _save(rows, output)
    _show(rows, page, json=json, accept_unfit=accept_unfit)


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what the command wrote on a board.

    Raises
    ------
    ResultsError
        It is not a result of a load.
    BoardError
        It is of another model, or does not match the exit code that the board reports.
    """
    rows = read_load(file)
    accept_unfit = bool(command.options["accept_unfit"])
    command.require((row.subject.sha256 for row in rows), measured_code(rows, accept_unfit=accept_unfit))
    if (output := command.path("output")) is not None:
        _save(rows, output)
    _show(rows, command.path("page"), json=bool(command.options["json"]), accept_unfit=accept_unfit)


def _save(rows: Sequence[LoadMeasurement], output: Path) -> None:
    write_file(output, "".join(row.model_dump_json() + "\n" for row in rows))


def _show(rows: Sequence[LoadMeasurement], page: Path | None, *, json: bool, accept_unfit: bool) -> None:
    if page is not None and any(row.failure is None for row in rows):
        write_file(page, load_page(rows))
    if json:
        print_json(json_array(rows))
    elif any(row.failure is None for row in rows):
        print_load(rows)
    for reason in dict.fromkeys(f"{row.subject.backend}: {row.failure}" for row in rows if row.failure):
        say(f"deploy: {reason}")
    leave(measured_code(rows, accept_unfit=accept_unfit))


def _scenario(
    name: str,
    streams: int,
    bound_ms: float | None,
    percentile: float,
    rate: float | None,
    duration_s: float,
    seed: int,
) -> ScenarioSettings | OfflineFor:
    if not 0 < duration_s < float("inf"):
        raise SettingError(f"--duration must be positive and finite, got {duration_s}")
    if name == "multi-stream":
        return MultiStream(streams=streams, min_duration_ns=round(1e9 * duration_s))
    if name == "device":
        return Device()
    if name == "offline":
        return OfflineFor(streams=streams, seconds=duration_s)
    if name != "server":
        raise SettingError(f"scenario {name!r} is not one of {', '.join(SCENARIOS)}")
    if bound_ms is None:
        raise SettingError("scenario 'server' needs a bound, for example --bound-ms 20")
    for option, value in (("--bound-ms", bound_ms), ("--rate", rate or 1.0)):
        if not math.isfinite(value):
            raise SettingError(f"{option} must be finite, got {value}")
    return Server(
        bound_ns=round(1e6 * bound_ms),
        share=percentile / 100,
        streams=streams,
        rate_per_s=rate,
        budget_ns=round(1e9 * duration_s),
        seed=seed,
    )
