"""When enough pairs of processes have been measured: the sequential decision, with its error bounded exactly.

One number per pair, log(baseline / candidate), is looked at a few times while pairs are added. At a look of n pairs the
interval of their median is [d_(k), d_(n+1-k)]: an inverted sign test, which assumes nothing but independent pairs with
a common median. Whether any interval of the whole schedule misses that median depends on signs only, and signs are a
fair random walk: its probability is counted, not estimated. A verdict, whichever it is and whenever it is given, is
wrong only if an interval missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import median
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from benchmarks.errors import SettingError
from benchmarks.records import Interval
from benchmarks.schema import Record
from benchmarks.verdict import Verdict

__all__ = [
    "Decision",
    "Looks",
    "SequentialVerdict",
    "decide",
    "early_end",
    "family_looks",
    "holm",
    "p_value",
    "plan_looks",
]

SequentialVerdict = Verdict | Literal["continue"]

_Schedule = tuple[tuple[int, int], ...]


class Looks(Record):
    """When the pairs are looked at, and how wide the interval then is.

    The default spends 4.4 % by the sum over the looks; 3.0 % is what it really spends, as the looks share their pairs.
    """

    schedule: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        ((8, 1), (11, 2), (14, 3), (20, 5)),
        min_length=1,
        description="(pairs n, order k) of each look: its interval reaches from the k-th smallest to the k-th largest",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Looks:
        pairs = [n for n, _ in self.schedule]
        if any(later <= earlier for earlier, later in zip(pairs, pairs[1:], strict=False)):
            raise ValueError(f"every look wants more pairs than the one before, got {pairs}")
        for n, order in self.schedule:
            if 2 * order > n:
                raise ValueError(f"there is no interval of order {order} among {n} pairs: {n // 2} is the largest")
        return self

    @property
    def error(self) -> float:
        """Probability that any interval of the schedule misses the true median: exact, or less where pairs tie."""
        return _spent(self.schedule)[-1]

    @property
    def union_bound(self) -> float:
        """Sum of the two-sided errors of the single looks: what `error` would be if no look shared a pair."""
        return min(1.0, float(sum(_two_sided(n, order) for n, order in self.schedule)))

    @property
    def max_pairs(self) -> int:
        """Pairs of the last look."""
        return self.schedule[-1][0]


class Decision(Record):
    """What the pairs so far say."""

    verdict: SequentialVerdict
    speedup: Interval | None = Field(description="of the look used: baseline over candidate; None before the first look")
    look: NonNegativeInt | None = Field(description="index of the look used; None before the first")
    spent: float = Field(ge=0, lt=1, description="probability that any interval up to this look misses")
    reason: str = Field(description="why, in words")


def decide(ratios: Sequence[float], margin: float, looks: Looks, *, strict: bool = False) -> Decision:
    """Decide at the first look that decides; later pairs change nothing.

    With L and U the ends of the interval of the log speed-up, and delta = log(1 + margin): *faster* if L > 0 and the
    median >= delta; *slower* if U < 0 and the median <= -delta; *equivalent* if -delta < L and U < delta. Otherwise
    *continue*, and after the last look *inconclusive*.

    Parameters
    ----------
    ratios : sequence of float
        log(baseline / candidate), one per pair, in the order in which they were measured.
    margin : float
        Smallest effect that counts, as a share.
    looks : Looks
        Chosen before the first pair was measured.
    strict : bool, default=False
        Ask more of *faster* and *slower*: the whole interval beyond delta.

    Returns
    -------
    Decision
        The confidence of its interval is that of the whole procedure, 1 - ``looks.error``: an interval at which one
        stops covers as often as that, wherever one stops.

    Raises
    ------
    SettingError
        A ratio is not finite, or the margin not between 0 and 1.
    """
    _require_sound(ratios, margin)
    reached = [index for index, (n, _) in enumerate(looks.schedule) if n <= len(ratios)]
    if not reached:
        first = looks.schedule[0][0]
        reason = f"{len(ratios)} of the {first} pairs of the first look"
        return Decision(verdict="continue", speedup=None, look=None, spent=0.0, reason=reason)
    for index in reached:
        low, value, high = _interval(ratios, *looks.schedule[index])
        verdict = _verdict(low, value, high, math.log1p(margin), strict=strict)
        if verdict is not None or index == reached[-1]:
            break
    n = looks.schedule[index][0]
    if verdict is not None:
        reason = _because(verdict, margin, moved=not low <= 0 <= high, strict=strict)
    elif index + 1 < len(looks.schedule):
        verdict, reason = "continue", f"{n} pairs decide nothing; the next look is at {looks.schedule[index + 1][0]}"
    else:
        verdict, reason = "inconclusive", f"{n} pairs, all that were planned, decide nothing"
    speedup = Interval(value=math.exp(value), low=math.exp(low), high=math.exp(high), confidence=1 - looks.error, n=n)
    return Decision(
        verdict=verdict, speedup=speedup, look=index, spent=_spent(looks.schedule)[index], reason=reason
    )


def early_end(
    ratios: Sequence[float],
    margin: float,
    looks: Looks,
    *,
    budget_s: float,
    seconds_left: float,
    seconds_per_pair: float,
    strict: bool = False,
) -> Decision:
    """Decide like `decide` while another pair fits into the time; when none does, look a last time at all pairs.

    The looks that will not come leave error unspent. The last one takes the narrowest interval with which the whole
    still spends at most ``looks.error``. That holds because the clock ends the measurement, whatever the ratios are.

    Parameters
    ----------
    ratios, margin, looks, strict
        See `decide`.
    budget_s : float
        Seconds that the whole was given; for the words.
    seconds_left, seconds_per_pair : float
        What is left of them, and what the next pair is expected to take.

    Returns
    -------
    Decision
        ``"continue"`` only if another pair fits.

    Raises
    ------
    SettingError
        See `decide`.
    """
    decision = decide(ratios, margin, looks, strict=strict)
    if decision.verdict != "continue" or seconds_left >= seconds_per_pair:
        return decision
    n = len(ratios)
    ended = f"the budget of {budget_s:g} s ended after {n} pair{'' if n == 1 else 's'}"
    shortened = _shortened(looks, n)
    if shortened is None:
        return decision.model_copy(update={"verdict": "inconclusive", "reason": ended})
    last = decide(ratios, margin, shortened, strict=strict)
    reason = ended if last.verdict == "inconclusive" else f"{ended}; {last.reason}"
    return last.model_copy(update={"reason": reason})


def plan_looks(error: float = 0.05, pairs: int = 20, n_looks: int = 4) -> Looks:
    """Make a schedule for an error and a largest number of pairs.

    The looks lie evenly between the fewest pairs that can decide and `pairs`. After look j of K at most j / K of the
    error is spent; what a look leaves, the next may use.

    Parameters
    ----------
    error : float, default=0.05
        Bound of `Looks.error`, in (0, 1).
    pairs : int, default=20
        Of the last look.
    n_looks : int, default=4
        Fewer where `pairs` has no room for them.

    Raises
    ------
    SettingError
        The error cannot be had with so few pairs.

    Examples
    --------
    >>> plan_looks(0.05, 6).schedule
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
    return Looks(schedule=schedule)


def family_looks(n_comparisons: int, error: float = 0.05, pairs: int = 20) -> Looks:
    """Make the schedule of each of several comparisons of one gate, so that all verdicts together keep the error.

    Each comparison gets the share ``error / n_comparisons``. This bounds wrong verdicts of every kind, *equivalent*
    among them, keeps the intervals true together, and is known before the first look, when it must be; Holm's method,
    which rejects more, does none of this (see `holm`). It costs little: for ten comparisons the first look is at 11
    pairs, not at 8.

    Raises
    ------
    SettingError
        No comparison, or too few pairs for the share of each.
    """
    if n_comparisons < 1:
        raise SettingError(f"a family has at least one comparison, got {n_comparisons}")
    return plan_looks(error / n_comparisons, pairs)


def p_value(ratios: Sequence[float], looks: Looks) -> float:
    """Give the two-sided p-value of "no difference" for a comparison that may have stopped at any of its looks.

    With x the smallest sign-test p-value of the looks reached, it is the probability that any look of the whole
    schedule shows x or less when nothing differs: exact for every rule of stopping at a look.

    Raises
    ------
    SettingError
        A ratio is not finite.
    """
    _require_sound(ratios)
    reached = [n for n, _ in looks.schedule if n <= len(ratios)]
    if not reached:
        return 1.0
    smallest = min(_sign_test(ratios[:n]) for n in reached)
    orders = [(n, max((k for k in range(1, n // 2 + 1) if _two_sided(n, k) <= smallest), default=0)) for n, _ in looks.schedule]
    as_extreme = tuple((n, order) for n, order in orders if order > 0)
    return _spent(as_extreme)[-1] if smallest < 1 else 1.0


def holm(p_values: Sequence[float], error: float = 0.05) -> tuple[bool, ...]:
    """Tell which of several comparisons show a difference when the family may cry wolf with probability `error`.

    The i-th smallest of m p-values must stay within ``error / (m - i + 1)``, and so must all smaller ones. For
    comparisons that were measured with schedules of their own; it says nothing about *equivalent*.

    Parameters
    ----------
    p_values : sequence of float
        See `p_value`.
    error : float, default=0.05
        Probability of one or more differences where there are none, whatever the dependence between comparisons.

    References
    ----------
    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    shown = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > error / (len(p_values) - rank):
            break
        shown[index] = True
    return tuple(shown)


def _require_sound(ratios: Sequence[float], margin: float = 0.5) -> None:
    for index, ratio in enumerate(ratios):
        if not math.isfinite(ratio):
            raise SettingError(f"the log ratio of pair {index + 1} is {ratio}: not a finite number")
    if not 0 < margin < 1:
        raise SettingError(f"margin must lie between 0 and 1, got {margin}")


def _interval(ratios: Sequence[float], n: int, order: int) -> tuple[float, float, float]:
    ordered = sorted(ratios[:n])
    return ordered[order - 1], median(ordered), ordered[n - order]


def _verdict(low: float, value: float, high: float, delta: float, *, strict: bool) -> Verdict | None:
    if low > delta if strict else (low > 0 and value >= delta):
        return "faster"
    if high < -delta if strict else (high < 0 and value <= -delta):
        return "slower"
    if -delta < low and high < delta:
        return "equivalent"
    return None


def _because(verdict: Verdict, margin: float, *, moved: bool, strict: bool) -> str:
    if verdict == "equivalent":
        real = ", though not around zero: a difference that does not count" if moved else ""
        return f"the interval lies within {margin:.3g} of no difference{real}"
    if strict:
        return f"the whole interval is {verdict} by more than {margin:.3g}"
    return f"the whole interval is {verdict}, its median by {margin:.3g} or more"


def _two_sided(n: int, order: int) -> Fraction:
    return Fraction(2 * sum(math.comb(n, i) for i in range(order)), 2**n)


def _sign_test(ratios: Sequence[float]) -> Fraction:
    """Exact two-sided sign test of a median of zero; a zero speaks for no difference."""
    n = len(ratios)
    against = n - max(sum(ratio > 0 for ratio in ratios), sum(ratio < 0 for ratio in ratios))
    return min(Fraction(1), _two_sided(n, against + 1))


def _fewest(error: float) -> int:
    """Fewest pairs whose whole range misses with probability `error` at most."""
    n = 2
    while 2 / 2**n > error:
        n += 1
    return n


def _widest_order(before: _Schedule, n: int, error: float) -> int:
    """Give the largest order of a look at n pairs after others with which all spend `error` at most, or 0."""
    orders = [order for order in range(1, n // 2 + 1) if _spent((*before, (n, order)))[-1] <= error]
    return max(orders, default=0)


def _shortened(looks: Looks, n: int) -> Looks | None:
    """Give the looks before n pairs, and one at n pairs; None where that one cannot be had."""
    before = tuple(look for look in looks.schedule if look[0] < n)
    order = _widest_order(before, n, looks.error)
    return Looks(schedule=(*before, (n, order))) if order > 0 else None


@lru_cache(maxsize=4096)
def _spent(schedule: _Schedule) -> tuple[float, ...]:
    """Count, look by look, the share of sign sequences in which an interval up to that look missed.

    A sequence of n signs of (ratio - true median) is missed by the interval of order k when fewer than k of them are
    positive, or fewer than k negative. Sequences not missed yet are counted by their positive signs.
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
