"""One time per layer from the times of its executions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

__all__ = ["undisturbed_mean"]

_RESOLUTION_NS = 1000


def undisturbed_mean(times_ns: Sequence[int]) -> int:
    """Return the mean time of the executions that nothing interrupted.

    A mean resolves more finely than the microseconds runtimes count in. An execution of more than twice the median
    waited for another program to leave the core.

    Parameters
    ----------
    times_ns : sequence of int
        Nanoseconds of each execution, in order; the first counts only if it is the only one.
    """
    times = times_ns[1:] or times_ns
    longest = 2 * median(times) + _RESOLUTION_NS
    kept = [time for time in times if time <= longest]
    return round(sum(kept) / len(kept))
