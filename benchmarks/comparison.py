"""Build a comparison from two measurements whose trials were made in turn."""

from __future__ import annotations

from typing import Literal

from benchmarks.records.measurement import Comparison, Cost, Fitness, Interval, Measurement
from benchmarks.settings import Settings
from benchmarks.stats.log_ratios import Verdict, log_ratios, require_comparable
from benchmarks.stopping import judge_pairs

__all__ = ["MIN_PAIRS", "compared", "continued"]

MIN_PAIRS = 2
"""With fewer pairs there is no confidence interval."""


def compared(
    baseline: Measurement,
    candidate: Measurement,
    costs: tuple[Cost, Cost],
    settings: Settings,
    *,
    ended: str = "",
) -> Comparison:
    """Return the comparison of two measurements with paired trials.

    Parameters
    ----------
    baseline, candidate : Measurement
        Measured in turn, trial by trial. If one of them failed, the verdict is ``"failed"``.
    costs : (Cost, Cost)
        Costs of the baseline and of the candidate.
    settings : Settings
        Margin, strictness, and the number of pairs if fixed in advance.
    ended : str
        Why no further pair was made.

    Raises
    ------
    NotComparableError
        They differ in something that must be the same.
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


def continued(earlier: Measurement, later: Measurement) -> Measurement:
    """Return the record of a measurement that continued an earlier one, with the trials of both.

    Doubts about the machine during either part apply to the whole.

    Parameters
    ----------
    earlier, later : Measurement
        Both of one subject; the later one starts with the trials of the earlier one, unless it failed.
    """
    reasons = {
        reason.words: reason
        for one in (later, earlier)
        for reason in (() if one.fitness is None else one.fitness.reasons)
    }
    grave_first = tuple(sorted(reasons.values(), key=lambda reason: reason.severity != "unfit"))
    looked = earlier.fitness is not None or later.fitness is not None
    return later.model_copy(
        update={
            "fitness": Fitness(reasons=grave_first) if looked else None,
            "doubts": tuple(dict.fromkeys((*later.doubts, *earlier.doubts))),
            "budget_s": (earlier.budget_s or 0.0) + (later.budget_s or 0.0) or None,
            "started_utc": earlier.started_utc,
        }
    )
