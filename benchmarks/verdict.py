"""From two measurements made together to a speed-up, its interval and a verdict. Pure functions of the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from benchmarks.errors import NotComparableError
from benchmarks.records import Interval, Measurement, Trial
from benchmarks.stats import median_interval

__all__ = ["NEEDED_CONFIDENCE", "Verdict", "decide", "log_ratios", "require_comparable"]

Verdict = Literal["faster", "slower", "equivalent", "inconclusive"]

NEEDED_CONFIDENCE = 0.95
"""Below it no verdict is given: with fewer than 6 pairs every comparison is inconclusive."""


def require_comparable(candidate: Measurement, baseline: Measurement) -> None:
    """Refuse a ratio between different quantities.

    Raises
    ------
    NotComparableError
        Precision, batch or scenario differ.
    """
    pairs = {
        "precision": (baseline.subject.precision, candidate.subject.precision),
        "batch": (baseline.subject.batch, candidate.subject.batch),
        "scenario": (baseline.scenario, candidate.scenario),
    }
    for what, (of_baseline, of_candidate) in pairs.items():
        if of_baseline != of_candidate:
            raise NotComparableError(
                f"{what} differs: {of_baseline} of {baseline.subject.label}, {of_candidate} of "
                f"{candidate.subject.label}; measure both with the same"
            )


def log_ratios(candidate: Measurement, baseline: Measurement) -> tuple[float, ...]:
    """Give one number for each pair of processes: log(baseline / candidate).

    It is the median over rounds of the log ratio of the medians of the two blocks of that round. Drift, clock frequency
    and neighbours hit both blocks of a round alike and cancel.

    Parameters
    ----------
    candidate, baseline : Measurement
        Measured together: trial i of one ran in turn with trial i of the other, block r with block r.

    Raises
    ------
    NotComparableError
        Their trials or blocks do not pair off.
    """
    if len(candidate.trials) != len(baseline.trials):
        raise NotComparableError(
            f"{len(baseline.trials)} and {len(candidate.trials)} trials do not pair off: "
            f"they were not measured together"
        )
    return tuple(_log_ratio(ours, theirs) for ours, theirs in zip(candidate.trials, baseline.trials, strict=True))


def _log_ratio(candidate: Trial, baseline: Trial) -> float:
    if len(candidate.blocks_ns) != len(baseline.blocks_ns):
        raise NotComparableError(
            f"{len(baseline.blocks_ns)} and {len(candidate.blocks_ns)} blocks do not pair off: "
            f"they were not measured together"
        )
    rounds = zip(candidate.blocks_ns, baseline.blocks_ns, strict=True)
    return median(math.log(median(theirs) / median(ours)) for ours, theirs in rounds)


def decide(ratios: Sequence[float], margin: float) -> tuple[Interval, Verdict]:
    """Give the speed-up with its interval, and what it means when effects below `margin` do not count.

    With L and U the ends of the interval of the log speed-up, and delta = log(1 + margin): *faster* if L > 0 and the
    median >= delta; *slower* if U < 0 and the median <= -delta; *equivalent* if -delta < L and U < delta; else
    *inconclusive*.

    Parameters
    ----------
    ratios : sequence of float
        See `log_ratios`; at least two.
    margin : float
        Smallest effect that counts, as a share.

    Raises
    ------
    SettingError
        Fewer than two pairs.
    """
    inner = median_interval(ratios, NEEDED_CONFIDENCE)
    speedup = Interval(
        value=math.exp(inner.value),
        low=math.exp(inner.low),
        high=math.exp(inner.high),
        confidence=inner.confidence,
        n=inner.n,
    )
    delta = math.log1p(margin)
    if inner.confidence < NEEDED_CONFIDENCE:
        return speedup, "inconclusive"
    if inner.low > 0 and inner.value >= delta:
        return speedup, "faster"
    if inner.high < 0 and inner.value <= -delta:
        return speedup, "slower"
    if -delta < inner.low and inner.high < delta:
        return speedup, "equivalent"
    return speedup, "inconclusive"
