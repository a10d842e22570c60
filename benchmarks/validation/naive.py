"""Naive comparison by two steps of a CI job; not used here, only shown for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from benchmarks.errors import SettingError

__all__ = ["NAIVE_CALLS", "NAIVE_DROPPED", "NAIVE_THRESHOLD", "naive_verdict"]

NAIVE_CALLS = 50
"""Timed calls of each of the two processes, one after the other."""

NAIVE_DROPPED = 5
"""Discarded calls before them."""

NAIVE_THRESHOLD = 0.05
"""Change of the median to flag, as a share."""


def naive_verdict(
    baseline_ns: Sequence[int], candidate_ns: Sequence[int], threshold: float = NAIVE_THRESHOLD
) -> Literal["faster", "slower", "same"]:
    """Flag a change if the medians of two runs differ by more than a threshold.

    It treats the calls of one process as independent samples of the model, and two moments as equal.

    Parameters
    ----------
    baseline_ns, candidate_ns : sequence of int
        Nanoseconds of the calls of one process each, the second started after the first has ended.
    threshold : float, default=0.05
        As a share of the baseline's median.

    Raises
    ------
    SettingError
        One of them has no calls.
    """
    if not baseline_ns or not candidate_ns:
        raise SettingError("two medians want calls of both models")
    before_ns = median(baseline_ns)
    change_ns = median(candidate_ns) - before_ns
    if change_ns > threshold * before_ns:
        return "slower"
    return "faster" if change_ns < -threshold * before_ns else "same"
