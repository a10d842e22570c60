"""Formatting of numbers, and the result in one plain sentence. ASCII only: it is also read without a tty."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.records.measurement import Comparison, Interval, Measurement
from benchmarks.stats.log_ratios import NEEDED_CONFIDENCE
from benchmarks.stats.summary import summarise
from deploy.report.answer.scores import is_lost
from deploy.results.results import Results
from deploy.sources.metric import Metric

__all__ = [
    "NOTHING",
    "answer",
    "count",
    "difference_unit",
    "duration",
    "failures",
    "flop_ratio",
    "interval",
    "minute",
    "percent",
    "place",
    "rate",
    "ratio",
    "realised",
    "score",
    "score_brief",
    "score_change",
    "score_name",
    "score_number",
    "score_title",
    "score_unit",
    "signed",
    "size",
    "verdict",
    "why_failed",
    "why_open",
]

NOTHING = "-"
"""Content of a cell that has no value."""


def count(number: int) -> str:
    """Shorten a count: ``count(40_813_184)`` is ``"40.8 M"``; below 10 000 it is exact."""
    if number < 10_000:
        return str(number)
    return _scaled(number, 1000, ("", "k", "M", "G", "T", "P"))


def size(number: int) -> str:
    """Write bytes in binary units: ``size(1_572_864)`` is ``"1.50 MiB"``."""
    return f"{number} B" if number < 1024 else _scaled(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(ns: float) -> str:
    """Write nanoseconds with three digits: ``duration(1_234_567)`` is ``"1.23 ms"``."""
    return _scaled(ns, 1000, ("ns", "us", "ms", "s"))


def signed(ns: float | None) -> str:
    """Write a time that may be negative: ``signed(-1_234_567)`` is ``"-1.23 ms"``; None is unknown."""
    if ns is None:
        return NOTHING
    return duration(ns) if ns >= 0 else f"-{duration(-ns)}"


def rate(per_second: float) -> str:
    """Write a number per second with three digits."""
    return _scaled(per_second, 1000, ("", "k", "M", "G"))


def percent(share: float, digits: int = 0) -> str:
    """Write a share: ``percent(0.981, 1)`` is ``"98.1 %"``."""
    return f"{100 * share:.{digits}f} %"


def score_name(metric: Metric) -> str:
    """Return the name of a metric: ``"accuracy"`` or ``"PSNR"``."""
    return "accuracy" if metric == "accuracy" else "PSNR"


def score_title(metric: Metric) -> str:
    """Return the name of a metric at the start of a title: ``"Accuracy"`` or ``"PSNR"``."""
    return "Accuracy" if metric == "accuracy" else "PSNR"


def score_unit(metric: Metric) -> str:
    """Return the unit of scores."""
    return "%" if metric == "accuracy" else "dB"


def difference_unit(metric: Metric) -> str:
    """Return the unit of score differences."""
    return "points" if metric == "accuracy" else "dB"


def score_number(metric: Metric, value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Write a score without its unit: ``"91.20"`` or ``"28.31"``."""
    shown = 100 * value if metric == "accuracy" else value
    return f"{shown:+.{digits}f}" if signed else f"{shown:.{digits}f}"


def score(metric: Metric, value: float, digits: int = 2) -> str:
    """Write a score: ``score("accuracy", 0.912)`` is ``"91.20 %"``, ``score("psnr", 28.31)`` is ``"28.31 dB"``."""
    return f"{score_number(metric, value, digits)} {score_unit(metric)}"


def score_brief(metric: Metric, value: float) -> str:
    """Write a score with its name for a progress line: ``"accuracy 91.20%"`` or ``"PSNR 28.31 dB"``."""
    written = score(metric, value)
    return f"{score_name(metric)} {written.replace(' ', '') if metric == 'accuracy' else written}"


def score_change(metric: Metric, change: float) -> str:
    """Write the difference of two scores: ``"-1.39 points"`` or ``"-0.12 dB"``."""
    return f"{score_number(metric, change, signed=True)} {difference_unit(metric)}"


def ratio(value: float) -> str:
    """Write a factor with two decimals: ``ratio(1.6)`` is ``"1.60x"``."""
    return f"{value:.2f}x"


def interval(estimate: Interval) -> str:
    """Write a factor with its interval: ``"1.62x [1.58, 1.66]"``."""
    return f"{ratio(estimate.value)} [{estimate.low:.2f}, {estimate.high:.2f}]"


def minute(utc: str) -> str:
    """Write a time to the minute: ``"2026-11-28 13:35 UTC"``."""
    return f"{utc[:16].replace('T', ' ')} UTC"


def flop_ratio(pair: Comparison) -> float | None:
    """Return the speed-up that FLOPs promise; None if a network has no FLOPs to compare or unknown ones."""
    return pair.flop_ratio if pair.baseline_cost.macs and pair.candidate_cost.macs else None


def realised(pair: Comparison) -> str:
    """Write the realised share of the promised speed-up, with its interval; `NOTHING` if there is none."""
    promise = flop_ratio(pair)
    if promise is None or promise <= 1 or pair.speedup is None:
        return NOTHING
    speedup = pair.speedup
    low, value, high = (100 * end / promise for end in (speedup.low, speedup.value, speedup.high))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def verdict(pair: Comparison) -> str:
    """Write the verdict of a comparison in words that need no context."""
    if pair.verdict == "failed":
        return "failed"
    if pair.verdict == "equivalent":
        return f"no difference of {percent(pair.margin)}"
    return pair.verdict.upper() if pair.verdict == "slower" else pair.verdict


def place(results: Results, measurement: Measurement) -> str:
    """Name a backend, with its options if it was measured with several: ``"ort, 2 threads, batch 8"``."""
    subjects = [one.subject for one in results.all_measurements()]
    parts = [measurement.subject.backend]
    for name, write in (("threads", _threads), ("batch", "batch {}".format)):
        if len({getattr(subject, name) for subject in subjects}) > 1:
            parts.append(write(getattr(measurement.subject, name)))
    return ", ".join(parts)


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def answer(results: Results) -> str:
    """Write in one sentence the gain from pruning, or how fast a single model is."""
    if results.comparisons:
        return _of_pairs(results)
    parts = [_alone(results, measurement) for measurement in results.measurements]
    parts += [f"{one.backend} was skipped: {one.reason}" for one in results.skipped]
    return f"On this machine {'; '.join(parts) or 'nothing was measured'}."


def _of_pairs(results: Results) -> str:
    """Write the promised speed-up once if it is the same for all pairs, otherwise with each pair."""
    promises = [flop_ratio(pair) for pair in results.comparisons]
    alike = len(set(promises)) == 1
    first = results.comparisons[0]
    lead = [_promise(promises[0])] if alike else []
    before, after = (results.model(side.subject.label) for side in first.sides)
    if before is not None and after is not None and before.metric == after.metric:
        ends = [score(row.metric, row.score_test) for row in (before, after) if row.score_test is not None]
        if len(ends) == 2:
            lead.append(f"test {score_name(before.metric)} went from {ends[0]} to {ends[1]}")
    parts = [
        _bought(results, pair) + ("" if alike else f" where {_promise(promise)}")
        for pair, promise in zip(results.comparisons, promises, strict=True)
    ]
    parts += [f"{one.backend} was skipped: {one.reason}" for one in results.skipped]
    opening = " and ".join(lead)
    sentence = f"{opening}; on this machine {'; '.join(parts)}." if opening else f"on this machine {'; '.join(parts)}."
    return sentence[0].upper() + sentence[1:]


def _promise(promise: float | None) -> str:
    if promise is None:
        return "FLOPs cannot be compared"
    if round(promise, 2) == 1:
        return "FLOPs stayed the same (1.00x)"
    return f"FLOPs fell {ratio(promise)}" if promise > 1 else f"FLOPs ROSE {ratio(1 / promise)}"


def _bought(results: Results, pair: Comparison) -> str:
    backend, speedup = place(results, pair.candidate), pair.speedup
    if speedup is None:
        return f"{backend} failed: {why_failed(pair)}"
    promise = flop_ratio(pair)
    kept = promise is not None and promise > 1 and not is_lost(results)
    share = f" ({percent(speedup.value / promise)} of the promise)" if kept and promise else ""
    match pair.verdict:
        case "faster":
            return f"{backend} got {interval(speedup)} faster{share}"
        case "slower":
            return f"{backend} got SLOWER: {interval(speedup)} of the speed before{share}"
        case "equivalent":
            return f"{backend} showed no difference of {percent(pair.margin)}: {interval(speedup)}{share}"
        case _:
            return f"{backend} was INCONCLUSIVE, {why_open(pair, speedup)}: {interval(speedup)}{share}"


def why_open(pair: Comparison, speedup: Interval) -> str:
    """Write why a comparison is inconclusive."""
    if speedup.confidence < NEEDED_CONFIDENCE:
        return f"{speedup.n} pairs of processes are too few for a verdict"
    ended = f"; {pair.ended}" if pair.ended else ""
    if speedup.low <= 1 <= speedup.high:
        return f"the interval holds both faster and slower{ended}"
    if speedup.low >= 1 + pair.margin or speedup.high <= 1 / (1 + pair.margin):
        return f"too few pairs of processes to be sure{ended}"
    return f"a difference, but not surely one of {percent(pair.margin)}{ended}"


def why_failed(pair: Comparison) -> str:
    """Write why a pair has no times, for each model if both failed for different reasons."""
    reasons = dict.fromkeys(side.failure for side in (pair.candidate, pair.baseline) if side.failure)
    if len(reasons) < 2:
        return next(iter(reasons), "no samples")
    sides = (pair.candidate, pair.baseline)
    return "; ".join(f"{side.subject.label}: {side.failure}" for side in sides if side.failure)


def failures(measured: Iterable[Measurement]) -> list[str]:
    """Write why measurements have no numbers, each reason once: ``"dense on ort: ..."``."""
    lines = (f"{one.subject.label} on {one.subject.backend}: {one.failure}" for one in measured if one.failure)
    return list(dict.fromkeys(lines))


def _alone(results: Results, measurement: Measurement) -> str:
    subject, where = measurement.subject, place(results, measurement)
    if measurement.failure is not None:
        return f"{subject.label} failed on {where}: {measurement.failure}"
    summary = summarise(measurement)
    tail = "" if summary.p90_ns is None else f", p90 {duration(summary.p90_ns)}"
    processes = "1 process" if summary.n_trials == 1 else f"{summary.n_trials} processes"
    return (
        f"{subject.label} takes {duration(summary.p50_ns)} on {where} "
        f"(median of {summary.n_calls} calls in {processes}{tail})"
    )


def _scaled(number: float, step: int, units: tuple[str, ...]) -> str:
    value = float(number)
    last = len(units) - 1
    for index, unit in enumerate(units):
        # 999.5 would round to 1000: it belongs to the next unit.
        if value < step - 0.5 or index == last:
            whole = value >= 99.95 or (value.is_integer() and index == 0)
            digits = 0 if whole else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}".rstrip()
        value /= step
    raise AssertionError("unreachable")
