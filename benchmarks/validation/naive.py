"""What two steps of a CI job do to find out whether something got slower. Not how it is done here: shown beside it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from benchmarks.errors import SettingError

__all__ = ["NAIVE_CALLS", "NAIVE_DROPPED", "NAIVE_THRESHOLD", "naive_verdict"]

NAIVE_CALLS = 50
"""Timed calls of each of the two processes, one after the other."""

NAIVE_DROPPED = 5
"""Calls before them that are not counted."""

NAIVE_THRESHOLD = 0.05
"""Change of the median that is flagged, as a share."""


def naive_verdict(
    baseline_ns: Sequence[int], candidate_ns: Sequence[int], threshold: float = NAIVE_THRESHOLD
) -> Literal["faster", "slower", "same"]:
    """Flag a change when the medians of two runs differ by more than a threshold.

    It takes the calls of one process for independent samples of the model, and two moments for the same.

    Parameters
    ----------
    baseline_ns, candidate_ns : sequence of int
        Nanoseconds of the calls of one process each, the second started when the first had ended.
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
