"""Stopping rules of a measurement: pure functions of the trials so far that return a reason to stop, or None."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.arm import Arm
from benchmarks.records.measurement import Interval, Trial
from benchmarks.settings import NOT_A_VERDICT, Settings
from benchmarks.stats.group_sequential import plan_analyses
from benchmarks.stats.log_ratios import log_ratios
from benchmarks.stats.sequential_test import Decision, decide, early_end
from benchmarks.stats.summary import median_interval, percentile, supports

__all__ = ["MOST_TRIALS", "enough_pairs", "enough_trials", "judge_pairs"]

MOST_TRIALS = 30
"""Limit for one model measured alone; what this many do not settle, more would not either."""

_ERROR = 0.05
_FEWEST_PAIRS = 2  # fewer have no interval
_FEWEST_FOR_A_VERDICT = 6  # fewer have no 95 % interval


def enough_trials(trials: Sequence[Trial], settings: Settings, *, spent: bool) -> str | None:
    """Return why one model was measured enough (its percentile is known as precisely as requested), or None.

    Parameters
    ----------
    trials : sequence of Trial
        Trials made so far.
    settings : Settings
        ``trials`` fixes their number; else ``percentile`` and ``half_width`` decide.
    spent : bool
        Whether a further trial would end after the budget.
    """
    n = len(trials)
    if settings.trials is not None and n >= settings.trials:
        return f"the {n} trials asked for were made"
    if spent and n > 0:
        return f"the budget of {settings.budget_s:g} s ended after {_trials(n)}"
    if settings.trials is None and n >= _FEWEST_FOR_A_VERDICT:
        name = f"p{100 * settings.percentile:g}"
        half_width = _half_width(trials, settings.percentile)
        if half_width is not None and half_width <= settings.half_width:
            return f"{name} is known within {half_width:.1%} after {n} trials"
        if n >= MOST_TRIALS:
            return f"{name} is not known within {settings.half_width:.1%} after {n} trials, the most that are made"
    return None


def enough_pairs(baseline: Arm, candidate: Arm, settings: Settings, *, spent: bool) -> str | None:
    """Return why a comparison can end (its verdict is clear, or more pairs would not be analysed), or None.

    If one arm failed, the other is measured as if alone.

    Parameters
    ----------
    baseline, candidate : Arm
        With the trials made so far.
    settings : Settings
        ``trials`` fixes their number; else the looks of `benchmarks.stats.sequential_test` decide.
    spent : bool
        Whether a further pair would end after the budget.
    """
    for arm, other in ((baseline, candidate), (candidate, baseline)):
        if arm.failure is not None:
            ended = enough_trials(other.trials, settings, spent=spent)
            return None if ended is None else f"{arm.subject.label} failed; {other.subject.label} alone: {ended}"
    n = len(candidate.trials)
    if n < _FEWEST_PAIRS:
        return None
    if settings.trials is not None and n >= settings.trials:
        return f"the {n} pairs of trials asked for were made"
    decision = judge_pairs(log_ratios(candidate.trials, baseline.trials), settings, spent=spent)
    return None if decision.verdict == "continue" else decision.reason


def judge_pairs(ratios: Sequence[float], settings: Settings, *, spent: bool) -> Decision:
    """Return the decision from the pairs made so far.

    If the number of pairs was fixed in advance, they are analysed once, at the end; else see
    `benchmarks.stats.sequential_test`. Fewer than 6 pairs, and pairs of a quick measurement, give an interval but no
    verdict.

    Parameters
    ----------
    ratios : sequence of float
        log(baseline / candidate) of at least two pairs.
    settings : Settings
        Margin, strictness, times of analysis, and the number of pairs if fixed.
    spent : bool
        Whether no further pair will be made.
    """
    n = len(ratios)
    if settings.trials is None:
        decision = early_end(
            ratios,
            settings.margin,
            settings.analyses,
            budget_s=settings.budget_s,
            seconds_left=0.0 if spent and not settings.provisional else 1.0,
            seconds_per_pair=1.0,
            strict=settings.strict,
        )
    elif n < settings.trials and not spent:
        reason = f"{n} of {settings.trials} pairs"
        return Decision(verdict="continue", speedup=None, look=None, spent=0.0, reason=reason)
    elif n < _FEWEST_FOR_A_VERDICT:
        reason = f"{n} pairs; a verdict needs at least {_FEWEST_FOR_A_VERDICT}"
        decision = Decision(verdict="inconclusive", speedup=None, look=None, spent=0.0, reason=reason)
    else:
        decision = decide(ratios, settings.margin, plan_analyses(_ERROR, n, n_looks=1), strict=settings.strict)
    if decision.verdict == "continue" and spent:
        reason = f"{n} pairs decide nothing yet"
        decision = decision.model_copy(update={"verdict": "inconclusive", "reason": reason})
    if decision.verdict == "continue":
        return decision
    if settings.fast:
        decision = decision.model_copy(update={"verdict": "inconclusive", "reason": NOT_A_VERDICT})
    if decision.speedup is not None:
        return decision
    inner = median_interval(ratios)
    speedup = Interval(
        value=math.exp(inner.value),
        low=math.exp(inner.low),
        high=math.exp(inner.high),
        confidence=inner.confidence,
        n=n,
    )
    return decision.model_copy(update={"speedup": speedup})


def _half_width(trials: Sequence[Trial], share: float) -> float | None:
    """Return the relative half-width of the interval of the trials' own percentiles.

    None if a single trial has too few calls to show the percentile.
    """
    calls = [trial.calls_ns for trial in trials]
    if not all(supports(len(one), share) for one in calls):
        return None
    interval = median_interval([percentile(one, share) for one in calls])
    return (interval.high - interval.low) / 2 / interval.value


def _trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"
