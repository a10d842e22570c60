"""Table of a model under load."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from benchmarks.errors import SettingError
from benchmarks.scenarios import SCENARIOS, DeviceResult, MultiStreamResult, OfflineResult, ScenarioResult, ServerResult
from benchmarks.scenarios.load import LoadMeasurement
from benchmarks.stats.summary import percentile, percentile_interval, supports
from deploy.report.formatting import NOTHING, duration, rate
from deploy.report.table import Table, left
from deploy.report.terminal import print_table

__all__ = ["load_table", "per_second", "print_load"]

_SHARES = (0.5, 0.9, 0.99)
_N_CELLS = len(_SHARES) + 1


def load_table(measurements: Sequence[LoadMeasurement]) -> Table:
    """Derive the table: one row per measurement, all of one scenario."""
    rows, notes = [], []
    for measurement in measurements:
        subject, result = measurement.subject, measurement.result
        first = (subject.backend, str(subject.streams))
        if result is None:
            rows.append((*first, "failed", *[NOTHING] * (_N_CELLS + 1)))
            continue
        reasons = measurement.fitness.reasons if measurement.fitness is not None else ()
        remarks = [str(reason) for reason in reasons] + _limit(result)
        notes += [f"{subject.backend}, streams {subject.streams}: {remark}" for remark in remarks]
        rows.append((*first, *_cells(result)))
    result = next(one.result for one in measurements if one.result is not None)
    bound = f" Bound: {duration(result.settings.bound_ns)}." if isinstance(result, ServerResult) else ""
    subject = measurements[0].subject
    return Table(
        f"Measured: {result.scenario} (MLPerf-style)",
        (*left("backend"), "streams", "per second", "p50", "p90", "p99", "p99 in", "requests"),
        tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
        caption=f"{SCENARIOS[result.scenario].definition}.{bound} {subject.precision}, threads per inference: "
        f"{subject.threads}, {subject.device}, batch {subject.batch}. p99 in: 95 % interval of the "
        "service's p99, wider where requests are correlated.",
    )


def print_load(measurements: Sequence[LoadMeasurement], console: Console | None = None) -> None:
    """Print the table, by default to stdout."""
    print_table(load_table(measurements), console or Console(highlight=False))


def per_second(result: ScenarioResult) -> float | None:
    """Return the examples per second; None if no rate keeps the latency bound."""
    if isinstance(result, DeviceResult):
        return 1e9 * result.batch / float(result.latencies_ns.mean())
    if isinstance(result, OfflineResult | MultiStreamResult):
        return result.throughput_per_s
    held = result.found.held_per_s
    return None if held is None else held * result.batch


def _cells(result: ScenarioResult) -> tuple[str, ...]:
    speed = per_second(result)
    if speed is None:
        probes = result.probes if isinstance(result, ServerResult) else ()
        return ("none holds", *[NOTHING] * _N_CELLS, str(sum(len(probe.done_ns) for probe in probes)))
    if isinstance(result, OfflineResult):
        return (rate(speed), *[NOTHING] * _N_CELLS, str(len(result.done_ns)))
    if isinstance(result, ServerResult):
        held = [probe for probe in result.probes if probe.rate_per_s == result.found.held_per_s]
        latencies = max(held, key=lambda probe: len(probe.done_ns)).latencies_ns
    else:
        latencies = result.latencies_ns
    return (rate(speed), *_percentiles(latencies.tolist()), str(len(latencies)))


def _limit(result: ScenarioResult) -> list[str]:
    if not isinstance(result, ServerResult) or result.found.failed_per_s is None:
        return []
    return [f"{rate(result.found.failed_per_s * result.batch)} per second no longer keep the bound"]


def _percentiles(latencies_ns: list[int]) -> list[str]:
    n = len(latencies_ns)
    cells = [duration(percentile(latencies_ns, share)) if supports(n, share) else NOTHING for share in _SHARES]
    return [*cells, _within(latencies_ns, _SHARES[-1])]


def _within(latencies_ns: list[int], share: float) -> str:
    try:
        interval = percentile_interval(latencies_ns, share)
    except SettingError:  # too few independent samples: the service's percentile is unknown
        return NOTHING
    return f"{duration(interval.low)} to {duration(interval.high)}"
