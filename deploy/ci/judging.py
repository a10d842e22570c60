"""Judge measurements against limits: one finding per limit, with a verdict and a sentence. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from benchmarks.records.measurement import Comparison, Cost, Measurement, Trial
from benchmarks.stats.group_sequential import InterimAnalyses
from deploy.ci.absolute import median_at_look
from deploy.ci.check_file import Limits, Policy
from deploy.ci.check_report import Outcome, RowVerdict
from deploy.ci.finding import QUIETER, WRONG, Asked, Finding, against, in_mb, not_measured, to_decide, why_unfit
from deploy.report.formatting import count, percent

__all__ = ["judge_answers", "judge_cost", "judge_memory", "judge_pair", "outcome_of", "wrong_answers"]

_MB = 10**6


def outcome_of(verdict: RowVerdict, *, inconclusive: Policy, unfit: Policy) -> Outcome:
    """Return how a job treats a verdict; ``"retry"`` here means that the second try failed too."""
    policy = {"inconclusive": inconclusive, "unfit": unfit}.get(verdict)
    if verdict == "kept":
        return "passed"
    return "warning" if policy == "warn" else "failure"


def judge_cost(limits: Limits, cost: Cost, baseline: Cost | None) -> Iterator[Finding]:
    """Yield the findings for limits on file size, MACs and parameters.

    Parameters
    ----------
    limits : Limits
        ``larger_file``, ``file_mb``, ``macs`` and ``parameters`` are judged.
    cost, baseline : Cost
        Cost of the model and of its baseline.
    """
    if limits.larger_file is not None and baseline is not None:
        change = cost.file_bytes / max(1, baseline.file_bytes) - 1
        yield _exactly(
            "larger_file",
            _than_baseline("file", "larger", limits.larger_file),
            change,
            limits.larger_file,
            "share",
            f"{_changed(change, 'larger', 'smaller')}: {in_mb(baseline.file_bytes)} before, {in_mb(cost.file_bytes)} "
            "now",
        )
    if limits.file_mb is not None:
        allowed = limits.file_mb * _MB
        yield _exactly(
            "file_mb", f"file at most {limits.file_mb:g} MB", cost.file_bytes, allowed, "bytes", in_mb(cost.file_bytes)
        )
    if limits.macs is not None:
        statement = f"at most {count(round(limits.macs))} MACs"
        known = f"{count(cost.macs)} MACs"
        if cost.unknown and cost.macs <= limits.macs:
            unknown = f"those of {len(cost.unknown)} nodes are not known: {cost.unknown[0]}"
            yield Finding("macs", statement, "failed", f"at least {known}; {unknown}", allowed=limits.macs, unit="MACs")
        else:
            yield _exactly("macs", statement, cost.macs, limits.macs, "MACs", known)
    if limits.parameters is not None:
        statement = f"at most {count(round(limits.parameters))} parameters"
        known = f"{count(cost.parameters)} parameters"
        yield _exactly("parameters", statement, cost.parameters, limits.parameters, "parameters", known)


def judge_pair(asked: Asked, pair: Comparison, analyses: InterimAnalyses, *, accept_unfit: bool) -> Iterator[Finding]:
    """Yield the findings for ``slower`` and ``more_memory`` from a comparison.

    Parameters
    ----------
    asked : Asked
        The model and its limits.
    pair : Comparison
        Comparison made with the margin of the limit.
    analyses : InterimAnalyses
        Schedule of the looks at its pairs.
    accept_unfit : bool
        Whether to accept the numbers of an unfit machine.
    """
    limits = asked.limits
    unfit = pair.unfit and not accept_unfit
    if limits.slower is not None:
        yield _speed(asked, limits.slower, pair, unfit=unfit)
    if limits.more_memory is not None:
        if pair.verdict == "failed":
            statement = _of_memory(limits.more_memory)
            yield not_measured("more_memory", statement, _failed_side(pair), limits.more_memory, "share")
        else:
            yield judge_memory(limits.more_memory, pair.baseline.trials, pair.candidate.trials, analyses)


def judge_memory(
    allowed: float, baseline: Sequence[Trial], candidate: Sequence[Trial], analyses: InterimAnalyses
) -> Finding:
    """Return the finding for ``more_memory`` from the trials of two models.

    Parameters
    ----------
    allowed : float
        Share of the baseline's peak.
    baseline, candidate : sequence of Trial
        Paired trials, of equal length.
    analyses : InterimAnalyses
        Schedule of the looks at the pairs.
    """
    statement = _of_memory(allowed)
    peaks = [
        (before.memory.peak_bytes, after.memory.peak_bytes) for before, after in zip(baseline, candidate, strict=True)
    ]
    ratios = median_at_look([after / before - 1 for before, after in peaks], analyses)
    if isinstance(ratios, str):
        return Finding("more_memory", statement, "inconclusive", ratios, to_decide(len(peaks)), allowed, unit="share")
    before, after = (sorted(side)[len(side) // 2] for side in zip(*peaks, strict=True))
    verdict = against(ratios.value, (ratios.low, ratios.high), allowed)
    change = _changed(ratios.value, "more", "less")
    reason = f"{change} ({_signed(ratios.low)} to {_signed(ratios.high)}): {in_mb(before)} before, {in_mb(after)} now"
    remedy = to_decide(len(peaks)) if verdict == "inconclusive" else ""
    return Finding(
        "more_memory", statement, verdict, reason, remedy, allowed, ratios.value, ratios.low, ratios.high, "share"
    )


def judge_answers(measured: Measurement) -> Finding:
    """Return the finding for ``answers``; `measured` was checked against the baseline's outputs."""
    statement = "the same answers as the baseline"
    if measured.failure_kind == WRONG:
        return Finding("answers", statement, "broken", (measured.failure or "").removeprefix("wrong answers: "))
    if measured.failure is not None:
        return Finding("answers", statement, "failed", measured.failure)
    agreement = measured.agreement
    if agreement is None:
        why = next(iter(measured.doubts), "nothing could be compared")
        return Finding("answers", statement, "failed", why)
    share = agreement.max_abs_error / agreement.output_range
    reason = f"largest difference {share:.2g} of the output's range, {agreement.tolerance:.2g} is allowed"
    return Finding("answers", statement, "kept", reason)


def wrong_answers(measured: Iterable[Measurement]) -> Finding | None:
    """Return a finding if a compiled model gives wrong outputs, in which case nothing was timed; else None."""
    wrong = next((one for one in measured if one.failure_kind == WRONG), None)
    if wrong is None:
        return None
    reason = f"{wrong.subject.label}: {(wrong.failure or '').removeprefix('wrong answers: ')}"
    return Finding("answers", "compiled, it answers as its file says", "broken", reason)


def _speed(asked: Asked, allowed: float, pair: Comparison, *, unfit: bool) -> Finding:
    statement = _than_baseline("", "slower", allowed)
    if pair.verdict == "failed" or pair.speedup is None:
        return not_measured("slower", statement, _failed_side(pair), allowed, "share")
    speedup = pair.speedup
    observed, low, high = (1 / end - 1 for end in (speedup.value, speedup.high, speedup.low))
    pairs = f"{speedup.n} pairs of processes"
    seen = f"{_changed(observed, 'slower', 'faster')} ({_signed(low)} to {_signed(high)} of the time, {pairs})"
    remedy = ""
    verdict: RowVerdict = "kept"
    if unfit:
        verdict, seen, remedy = "unfit", f"{why_unfit(pair.sides)}; {seen}", QUIETER
    elif pair.verdict == "slower":
        verdict, remedy = "broken", asked.explain and f"see why: {asked.explain}"
    elif pair.verdict == "inconclusive":
        verdict, seen, remedy = "inconclusive", f"not decided: {seen}; {pair.ended}", to_decide(len(pair.log_ratios))
    return Finding("slower", statement, verdict, seen, remedy, allowed, observed, low, high, "share")


def _failed_side(pair: Comparison) -> Measurement:
    """Return the model that could not be measured; the candidate if both failed, or neither."""
    return next((side for side in (pair.candidate, pair.baseline) if side.failure is not None), pair.candidate)


def _exactly(
    limit: str,
    statement: str,
    observed: float,
    allowed: float,
    unit: Literal["share", "bytes", "MACs", "parameters"],
    reason: str,
) -> Finding:
    verdict: RowVerdict = "kept" if observed <= allowed else "broken"
    return Finding(limit, statement, verdict, reason, "", allowed, observed, unit=unit)


def _of_memory(allowed: float) -> str:
    return _than_baseline("peak memory", "larger", allowed)


def _than_baseline(what: str, how: str, allowed: float) -> str:
    least = f"{100 * allowed:.3g} %"
    begin = f"{what} " if what else ""
    return f"{begin}not {how} than the baseline" + (f" by more than {least}" if allowed else "")


def _changed(change: float, more: str, less: str) -> str:
    """Format a change: ``"5.2 % slower"``."""
    if abs(change) < 5e-4:
        return f"no change ({percent(abs(change), 2)})" if change else "no change"
    return f"{percent(abs(change), 1)} {more if change > 0 else less}"


def _signed(change: float) -> str:
    return f"{100 * change:+.1f} %"
