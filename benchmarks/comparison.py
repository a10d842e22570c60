"""From two measurements that were made in turn to a comparison: the one place where it is put together."""

from __future__ import annotations

from typing import Literal

from benchmarks.records.measurement import Comparison, Cost, Interval, Measurement
from benchmarks.settings import Settings
from benchmarks.stats.log_ratios import Verdict, log_ratios, require_comparable
from benchmarks.stopping import judge_pairs

__all__ = ["MIN_PAIRS", "compared"]

MIN_PAIRS = 2
"""Fewer have no interval."""


def compared(
    baseline: Measurement,
    candidate: Measurement,
    costs: tuple[Cost, Cost],
    settings: Settings,
    *,
    ended: str = "",
) -> Comparison:
    """Return the comparison of two measurements whose trials are pairs.

    Parameters
    ----------
    baseline, candidate : Measurement
        Trial by trial measured in turn. Where one of them failed the verdict is ``"failed"``.
    costs : (Cost, Cost)
        Of the baseline and of the candidate.
    settings : Settings
        Margin, strictness, and the number of pairs if it was fixed before.
    ended : str
        Why no further pair was made.

    Raises
    ------
    NotComparableError
        They differ in what must be the same.
    """
    speedup: Interval | None = None
    verdict: Verdict | Literal["failed"] = "failed"
    ratios: tuple[float, ...] = ()
    if baseline.failure is None and candidate.failure is None:
        verdict = "inconclusive"
        require_comparable(candidate, baseline)
        ratios = log_ratios(candidate.trials, baseline.trials)
        if len(ratios) >= MIN_PAIRS:
            decision = judge_pairs(ratios, settings, spent=True)
            assert decision.verdict != "continue", "no further pair is made"
            speedup, verdict = decision.speedup, decision.verdict
    return Comparison(
        baseline=baseline,
        candidate=candidate,
        baseline_cost=costs[0],
        candidate_cost=costs[1],
        speedup=speedup,
        log_ratios=ratios,
        margin=settings.margin,
        verdict=verdict,
        ended=ended,
    )
