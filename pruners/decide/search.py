"""Search for the largest share whose cost is within a limit, when each evaluation is expensive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["largest_within"]

Found = TypeVar("Found")

_LOOKS = 10
_CLOSE = 0.005
"""The search ends this close below the limit, as a share of the dense cost."""


def largest_within(attempt: Callable[[float], tuple[float, Found] | None], limit: float, dense: float) -> Found | None:
    """Return the result at the largest share found whose cost is within the limit, or None if there is none.

    Between two evaluated shares the next one is, in turn, where the cost would meet the limit if it grew linearly, and
    the middle; at most ten are evaluated.

    Parameters
    ----------
    attempt : callable
        ``attempt(share)`` for a share in (0, 1) returns the cost and the result; None if the share is too small to be
        legal. Where the cost falls as the share grows, larger shares within the limit may be missed.
    limit, dense : float
        The limit on the cost, and the cost at share 1.
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
            low, best = (share, found[0]), found
            if limit - found[0] < _CLOSE * dense:
                break
    return None if best is None else best[1]
