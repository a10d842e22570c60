"""Schedule of interim looks at a running comparison, and the exact probability that any of their intervals misses.

At a look of n pairs the interval of their median is [d_(k), d_(n+1-k)]: an inverted sign test, which assumes only
independent pairs with a common median. Whether any interval of a schedule misses that median depends only on signs,
and signs are a fair random walk: the probability is counted, not estimated. Ties with the median only make it smaller.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from pydantic import Field, PositiveInt, model_validator

from benchmarks.errors import SettingError
from benchmarks.records.base import Record

__all__ = ["InterimAnalyses", "plan_analyses"]

_Schedule = tuple[tuple[int, int], ...]


class InterimAnalyses(Record):
    """When to look at the pairs, and how wide the interval is at each look.

    The looks of the default spend 4.4 % in sum, but only 2.8 % jointly, because they share pairs.
    """

    schedule: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        ((8, 1), (11, 2), (14, 3), (20, 5)),
        min_length=1,
        description="(pairs n, order k) of each look: its interval reaches from the k-th smallest to the k-th largest",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> InterimAnalyses:
        pairs = [n for n, _ in self.schedule]
        if any(later <= earlier for earlier, later in pairwise(pairs)):
            raise ValueError(f"every look wants more pairs than the one before, got {pairs}")
        for n, order in self.schedule:
            if 2 * order > n:
                raise ValueError(f"there is no interval of order {order} among {n} pairs: {n // 2} is the largest")
        return self

    @property
    def error(self) -> float:
        """Probability that any interval of the schedule misses the true median: exact, or less if pairs tie."""
        return _spent(self.schedule)[-1]

    @property
    def max_pairs(self) -> int:
        """Number of pairs at the last look."""
        return self.schedule[-1][0]

    @property
    def spent(self) -> tuple[float, ...]:
        """Probability, look by look, that an interval up to that look misses."""
        return _spent(self.schedule)

    def shortened(self, n: int) -> InterimAnalyses | None:
        """Return the looks before n pairs, and a last one at n pairs with the narrowest interval that `error` allows.

        None if n pairs are too few for any interval.
        """
        before = tuple(look for look in self.schedule if look[0] < n)
        order = _widest_order(before, n, self.error)
        return InterimAnalyses(schedule=(*before, (n, order))) if order > 0 else None


def plan_analyses(error: float = 0.05, pairs: int = 20, n_looks: int = 4) -> InterimAnalyses:
    """Return a schedule for an error and a maximum number of pairs.

    The looks are evenly spaced between the fewest pairs that can decide and `pairs`. After look j of K at most j / K of
    the error is spent; what one look leaves, the next may use.

    Parameters
    ----------
    error : float, default=0.05
        Bound of `InterimAnalyses.error`, in (0, 1).
    pairs : int, default=20
        Pairs at the last look.
    n_looks : int, default=4
        Number of looks; fewer if `pairs` has no room for them.

    Raises
    ------
    SettingError
        The error cannot be reached with so few pairs.

    Examples
    --------
    >>> plan_analyses(0.05, 6).schedule
    ((6, 1),)
    """
    if not 0 < error < 1:
        raise SettingError(f"an error is a probability between 0 and 1, got {error}")
    if n_looks < 1:
        raise SettingError(f"a schedule has at least one look, got {n_looks}")
    if pairs < _fewest(error):
        raise SettingError(f"an error of {error:g} wants at least {_fewest(error)} pairs, got {pairs}")
    while _fewest(error / n_looks) + n_looks - 1 > pairs:
        n_looks -= 1
    first = _fewest(error / n_looks)
    steps = max(1, n_looks - 1)
    schedule: _Schedule = ()
    for index in range(n_looks):
        n = pairs if index == n_looks - 1 else first + round(index * (pairs - first) / steps)
        order = _widest_order(schedule, n, error * (index + 1) / n_looks)
        schedule += ((n, order),)
    return InterimAnalyses(schedule=schedule)


def _fewest(error: float) -> int:
    """Return the fewest pairs whose whole range misses with probability at most `error`."""
    n = 2
    while 2 / 2**n > error:
        n += 1
    return n


def _widest_order(before: _Schedule, n: int, error: float) -> int:
    """Return the largest order of a look at n pairs after `before` that spends at most `error` in all, or 0."""
    orders = [order for order in range(1, n // 2 + 1) if _spent((*before, (n, order)))[-1] <= error]
    return max(orders, default=0)


@lru_cache(maxsize=4096)
def _spent(schedule: _Schedule) -> tuple[float, ...]:
    """Count, look by look, the share of sign sequences in which an interval up to that look missed.

    The interval of order k misses a sequence of n signs of (ratio - true median) if fewer than k are positive, or fewer
    than k negative. Sequences not missed yet are counted by their number of positive signs.
    """
    shares, missed, at = [], Fraction(0), 0
    alive = [1]
    for n, order in schedule:
        for _ in range(n - at):
            alive = [a + b for a, b in zip([*alive, 0], [0, *alive], strict=True)]
        at = n
        lost = [positive < order or positive > n - order for positive in range(n + 1)]
        missed += Fraction(sum(count for count, gone in zip(alive, lost, strict=True) if gone), 2**n)
        alive = [0 if gone else count for count, gone in zip(alive, lost, strict=True)]
        shares.append(float(missed))
    return tuple(shares)
