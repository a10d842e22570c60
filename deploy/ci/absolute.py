"""Judge absolute limits: latency, throughput, load time and memory of one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median

from benchmarks.errors import SettingError
from benchmarks.records.measurement import Interval, Measurement, Trial
from benchmarks.stats.group_sequential import InterimAnalyses
from benchmarks.stats.summary import percentile_interval, supports
from deploy.ci.check_file import Limits
from deploy.ci.finding import QUIETER, Finding, against, in_mb, not_measured, to_decide, why_unfit
from deploy.report.formatting import duration, rate

__all__ = ["PERCENTILES", "judge_alone", "judge_trials", "median_at_look"]

PERCENTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}
"""Percentile of each latency limit."""

_MEMORY = "memory_mb"
_MB = 10**6
_LAST_LOOKS = 2
"""Looks beside the planned ones: at the end of the time, and at the end of a second try."""


def judge_alone(
    limits: Limits, measured: Measurement, analyses: InterimAnalyses, *, accept_unfit: bool
) -> Iterator[Finding]:
    """Yield the finding for each absolute limit of a measured model.

    Parameters
    ----------
    limits : Limits
        Latencies, throughput, load time and memory are judged.
    measured : Measurement
        Of the model alone, or next to its baseline.
    analyses : InterimAnalyses
        Schedule of the looks at the processes, which sets the width of the interval of a median over them.
    accept_unfit : bool
        Whether to accept the numbers of an unfit machine.
    """
    unfit = why_unfit([measured]) if measured.unfit and not accept_unfit else ""
    for one in judge_trials(limits, measured.trials, measured.subject.batch, analyses):
        if measured.failure is not None:
            yield not_measured(one.limit, one.statement, measured, one.allowed, one.unit)
        elif unfit and one.limit != _MEMORY:
            yield one._replace(verdict="unfit", reason=f"{unfit}; {one.reason}", remedy=QUIETER)
        else:
            yield one


def judge_trials(limits: Limits, trials: Sequence[Trial], batch: int, analyses: InterimAnalyses) -> Iterator[Finding]:
    """Yield the finding for each absolute limit from the trials alone, ignoring the fitness of the machine.

    Parameters
    ----------
    limits : Limits
        See `judge_alone`.
    trials : sequence of Trial
        The trials so far.
    batch : int
        Examples of one call.
    analyses : InterimAnalyses
        Schedule of the looks at the processes, which sets the width of the interval of a median over them.
    """
    for limit, statement, allowed, unit, write, interval in _absolute(limits, trials, batch, analyses):
        if isinstance(interval, str):
            yield Finding(limit, statement, "inconclusive", interval, to_decide(len(trials)), allowed, unit=unit)
            continue
        # A rate has a lower limit.
        sign = -1 if limit == "throughput_per_s" else 1
        ends = sorted((sign * interval.low, sign * interval.high))
        verdict = against(sign * interval.value, ends, sign * allowed)
        reason = write(interval.value)
        if interval.low != interval.high:
            reason += f" ({write(interval.low)} to {write(interval.high)})"
        undecided = verdict == "inconclusive"
        yield Finding(
            limit,
            statement,
            verdict,
            f"not decided: {reason}" if undecided else reason,
            to_decide(len(trials)) if undecided else "",
            allowed,
            interval.value,
            interval.low,
            interval.high,
            unit,
        )


def median_at_look(values: Sequence[float], analyses: InterimAnalyses) -> Interval | str:
    """Return the median over processes, or pairs of them, at the last look; or why there is none yet.

    Values after the last planned look are ignored.
    """
    reached = [look for look in analyses.schedule if look[0] <= len(values)]
    if not reached:
        return f"{len(values)} processes of the {analyses.schedule[0][0]} that the first look wants"
    n, order = reached[-1]
    ordered = sorted(values[:n])
    return Interval(
        value=median(ordered), low=ordered[order - 1], high=ordered[n - order], confidence=1 - analyses.error, n=n
    )


_Absolute = tuple[str, str, float, str, Callable[[float], str], Interval | str]


def _absolute(limits: Limits, trials: Sequence[Trial], batch: int, analyses: InterimAnalyses) -> Iterator[_Absolute]:
    """Yield limit, statement, allowed value, unit, formatter, and the interval or why there is none."""
    for limit, share in PERCENTILES.items():
        allowed = getattr(limits, limit)
        if allowed is not None:
            name = f"p{100 * share:g}"
            yield limit, f"{name} at most {allowed:g} ms", allowed, "ms", _ms, _percentile(trials, share, analyses)
    if (allowed := limits.throughput_per_s) is not None:
        rates = median_at_look([1e9 * batch / fmean(trial.calls_ns) for trial in trials], analyses)
        yield "throughput_per_s", f"at least {allowed:g} examples per second", allowed, "1/s", _per_second, rates
    if (allowed := limits.load_ms) is not None:
        loads = median_at_look([trial.load_ns / 1e6 for trial in trials], analyses)
        yield "load_ms", f"load time at most {allowed:g} ms", allowed, "ms", _ms, loads
    if limits.memory_mb is not None:
        peaks = median_at_look([float(trial.memory.peak_bytes) for trial in trials], analyses)
        statement = f"peak memory at most {limits.memory_mb:g} MB"
        yield _MEMORY, statement, limits.memory_mb * _MB, "bytes", lambda value: in_mb(round(value)), peaks


def _percentile(trials: Sequence[Trial], share: float, analyses: InterimAnalyses) -> Interval | str:
    """Return a latency percentile in ms: the median is over processes, others are over all calls."""
    if share == 0.5:
        return median_at_look([median(trial.calls_ns) / 1e6 for trial in trials], analyses)
    calls = [ns for trial in trials for ns in trial.calls_ns]
    if not supports(len(calls), share):
        return f"{len(calls)} calls are too few for p{100 * share:g}"
    try:
        found = percentile_interval(calls, share, 1 - analyses.error / (len(analyses.schedule) + _LAST_LOOKS))
    except SettingError as error:
        return str(error)
    return Interval(
        value=found.value / 1e6, low=found.low / 1e6, high=found.high / 1e6, confidence=found.confidence, n=found.n
    )


def _ms(value: float) -> str:
    return duration(1e6 * value)


def _per_second(value: float) -> str:
    return f"{rate(value)} per second"
