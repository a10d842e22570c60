"""Search for the largest share at which a cost is within its limit, where each look is expensive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["largest_within"]

Found = TypeVar("Found")

_LOOKS = 10
_CLOSE = 0.005
"""Share of the dense cost below the limit at which the search ends."""


def largest_within(attempt: Callable[[float], tuple[float, Found] | None], limit: float, dense: float) -> Found | None:
    """Return what came of the largest share whose cost is within the limit, or None where nothing was.

    Between two looked-at shares the next one is where the cost would meet the limit if it grew evenly, and every second
    time the middle: ten looks at most.

    Parameters
    ----------
    attempt : callable
        ``attempt(share)`` for a share in (0, 1) returns the cost, which should not fall as the share grows, and what is
        to be found; None where the share is too small to be legal.
    limit, dense : float
        The most that the cost may be, and what it is at share 1.
    """
    low, high = (0.0, 0.0), (1.0, dense)
    best: tuple[float, Found] | None = None
    for look in range(_LOOKS):
        even = (limit - low[1]) / (high[1] - low[1]) if high[1] > low[1] else 0.5
        share = low[0] + (high[0] - low[0]) * (0.5 if look % 2 else min(max(even, 0.05), 0.95))
        found = attempt(share)
        if found is None:
            low = (share, low[1])
        elif found[0] > limit:
            high = (share, found[0])
        else:
            low = (share, found[0])
            if best is None or found[0] >= best[0]:
                best = found
            if limit - found[0] < _CLOSE * dense:
                break
    return None if best is None else best[1]
