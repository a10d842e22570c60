"""How many queries a percentile needs to be trusted: the early-stopping rule of MLPerf LoadGen.

A query is over latency if it is slower than the value claimed for the percentile. If more than 1 - share of all queries
were over latency, seeing only a few among many would be unlikely; the rule requires enough queries to make it less
likely than 1 - confidence. It assumes independent queries: if they are correlated, use
`benchmarks.stats.autocorrelation.effective_size` as their number.

References
----------
MLCommons, inference rules, "Early stopping"; the same rule as LoadGen's, computed here from the binomial distribution.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from benchmarks.errors import SettingError
from benchmarks.stats.binomial import lower_tail, most_within

__all__ = ["CONFIDENCE", "BoundCheck", "allowed_over_latency", "holds_bound", "queries_needed"]

CONFIDENCE = 0.99
"""Confidence that LoadGen uses."""


class BoundCheck(NamedTuple):
    """Whether a bound is shown to hold, and if not, how many more queries within the bound would show it.

    Parameters
    ----------
    holds : bool
        Whether the share of queries within the bound is shown.
    n_more : int
        Missing queries, 0 if it holds. Each further query over the bound raises it.
    """

    holds: bool
    n_more: int


def queries_needed(share: float, over_latency: int, confidence: float = CONFIDENCE, tolerance: float = 0.0) -> int:
    """Return the fewest queries that show a percentile with `over_latency` of them over latency.

    With h(t) the smallest h for which ``P[Binomial(h + t, 1 - share + tolerance) <= t] <= 1 - confidence``, it is
    h(t) + t.

    Parameters
    ----------
    share : float
        In (0, 1): 0.99 for p99.
    over_latency : int
        t, the number of queries over latency; 0 or more.
    confidence : float, default=0.99
        In [0.5, 1).
    tolerance : float, default=0
        How much smaller than `share` the true share may be; less than `share`.

    Raises
    ------
    SettingError
        An argument is out of its range.

    Examples
    --------
    >>> [queries_needed(share, 1) for share in (0.5, 0.9, 0.99, 0.999)]
    [11, 64, 662, 6636]
    """
    over = _over_share(share, confidence, tolerance)
    if over_latency < 0:
        raise SettingError(f"the number of queries over latency is 0 or more, got {over_latency}")
    return _queries_needed(over, over_latency, _error(confidence))


def allowed_over_latency(n: int, share: float, confidence: float = CONFIDENCE, tolerance: float = 0.0) -> int | None:
    """Return the maximum number of over-latency queries with which n queries still show the percentile.

    Parameters
    ----------
    n : int
        Queries made.
    share, confidence, tolerance : float
        See `queries_needed`.

    Returns
    -------
    int or None
        The largest t with ``n >= queries_needed(share, t)``; None if even t = 0 needs more.

    Raises
    ------
    SettingError
        An argument is out of its range.
    """
    over = _over_share(share, confidence, tolerance)
    return most_within(n, over, _error(confidence)) if n > 0 else None


def holds_bound(
    n: int, n_over: int, share: float, confidence: float = CONFIDENCE, tolerance: float = 0.0
) -> BoundCheck:
    """Return whether n queries, n_over of them over a latency bound, show that `share` of all meet it (Server).

    Parameters
    ----------
    n, n_over : int
        Queries made, and queries that took longer than the bound.
    share, confidence, tolerance : float
        See `queries_needed`.

    Raises
    ------
    SettingError
        More queries over the bound than queries, or an argument out of its range.

    Examples
    --------
    >>> holds_bound(662, 1, 0.99), holds_bound(662, 2, 0.99)
    (BoundCheck(holds=True, n_more=0), BoundCheck(holds=False, n_more=176))
    """
    if not 0 <= n_over <= n:
        raise SettingError(f"of {n} queries {n_over} cannot be over the bound")
    missing = queries_needed(share, n_over, confidence, tolerance) - n
    return BoundCheck(holds=missing <= 0, n_more=max(0, missing))


def _over_share(share: float, confidence: float, tolerance: float) -> float:
    """Return the share of over-latency queries to rule out."""
    if not 0 < share < 1:
        raise SettingError(f"a percentile is a share between 0 and 1, got {share}")
    if not 0.5 <= confidence < 1:
        raise SettingError(f"the confidence lies between 0.5 and 1, got {confidence}")
    if not 0 <= tolerance < share:
        raise SettingError(f"the tolerance lies between 0 and the share {share:g}, got {tolerance}")
    return round(1 - share + tolerance, 15)


def _error(confidence: float) -> float:
    """Return the allowed error, slightly widened so that rounding does not exclude an equal tail."""
    return (1 - confidence) * (1 + 1e-12)


@lru_cache(maxsize=4096)
def _queries_needed(over: float, over_latency: int, error: float) -> int:
    fails = over_latency  # this few queries cannot have more than t over latency
    step = max(1, math.ceil(over_latency / over) - over_latency)
    while lower_tail(over_latency, fails + step, over) > error:
        fails, step = fails + step, 2 * step
    enough = fails + step
    while enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if lower_tail(over_latency, middle, over) <= error else (middle, enough)
    return enough
