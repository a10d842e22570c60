"""One time of a layer from those of its executions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

__all__ = ["undisturbed_mean"]

_RESOLUTION_NS = 1000


def undisturbed_mean(times_ns: Sequence[int]) -> int:
    """Return the mean of the executions that nothing interrupted.

    A mean tells more than the microseconds that runtimes count in. An execution of more than twice the median waited
    for another program to leave the core.

    Parameters
    ----------
    times_ns : sequence of int
        Nanoseconds of each execution, in order; the first counts only where it is alone.
    """
    times = times_ns[1:] or times_ns
    longest = 2 * median(times) + _RESOLUTION_NS
    kept = [time for time in times if time <= longest]
    return round(sum(kept) / len(kept))
