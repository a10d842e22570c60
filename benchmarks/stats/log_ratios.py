"""Log ratios of two measurements made together, and whether they are comparable. Pure functions of the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from benchmarks.errors import NotComparableError
from benchmarks.records.measurement import Measurement, Trial

__all__ = ["NEEDED_CONFIDENCE", "Verdict", "log_ratios", "require_comparable"]

Verdict = Literal["faster", "slower", "equivalent", "inconclusive"]

NEEDED_CONFIDENCE = 0.95
"""No verdict is given below this: with fewer than 6 pairs every comparison is inconclusive."""


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


def log_ratios(candidate: Sequence[Trial], baseline: Sequence[Trial]) -> tuple[float, ...]:
    """Return log(baseline / candidate) for each pair of processes.

    It is the median over rounds of the log ratio of the medians of the two blocks of that round. Drift, clock frequency
    and neighbours affect both blocks of a round alike and cancel.

    Parameters
    ----------
    candidate, baseline : sequence of Trial
        Measured together: trial i of one ran in turn with trial i of the other, block r with block r.

    Raises
    ------
    NotComparableError
        Their trials or blocks do not pair off.
    """
    if len(candidate) != len(baseline):
        raise NotComparableError(
            f"{len(baseline)} and {len(candidate)} trials do not pair off: they were not measured together"
        )
    return tuple(_log_ratio(ours, theirs) for ours, theirs in zip(candidate, baseline, strict=True))


def _log_ratio(candidate: Trial, baseline: Trial) -> float:
    if len(candidate.blocks_ns) != len(baseline.blocks_ns):
        raise NotComparableError(
            f"{len(baseline.blocks_ns)} and {len(candidate.blocks_ns)} blocks do not pair off: "
            f"they were not measured together"
        )
    rounds = zip(candidate.blocks_ns, baseline.blocks_ns, strict=True)
    return median(math.log(median(theirs) / median(ours)) for ours, theirs in rounds)
