"""Tails of the binomial distribution, exact to about twelve digits for up to many million trials, without scipy.

References
----------
C. Loader, Fast and Accurate Computation of Binomial Probabilities (2000).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["lower_tail", "most_within"]


def lower_tail(k: int, n: int, share: float) -> float:
    """Return P[Binomial(n, share) <= k].

    Below the mean, terms are added from k downwards, each from the one before. The j-th of them is at most
    exp(-j (j - 1) / 2k) of the first, so those left out add less than 1e-20. Above the mean, the other tail is used.

    Parameters
    ----------
    k : int
        From 0 to n - 1.
    n : int
        Trials, 1 or more.
    share : float
        Success probability, in (0, 1).
    """
    if k >= n * share:
        return 1 - lower_tail(n - k - 1, n, 1 - share)
    counts = np.arange(k, max(0, k - math.ceil(10 * math.sqrt(k)) - 10), -1, dtype=np.float64)
    ratios = counts / (n - counts + 1) * ((1 - share) / share)
    return math.exp(_log_term(k, n, share)) * (1 + float(np.cumprod(ratios).sum()))


@lru_cache(maxsize=4096)
def most_within(n: int, share: float, error: float) -> int | None:
    """Return the largest k with P[Binomial(n, share) <= k] <= error < 1; None if even k = 0 exceeds it."""
    if lower_tail(0, n, share) > error:
        return None
    fits, fails = 0, n
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if lower_tail(middle, n, share) <= error else (fits, middle)
    return fits


def _log_term(k: int, n: int, share: float) -> float:
    """Return log P[Binomial(n, share) = k] to full precision, also for large n, where factorials would lose digits.

    Loader's method: the errors of Stirling's formula and the deviances are computed separately.
    """
    if k == 0:
        return n * math.log1p(-share)
    if k == n:
        return n * math.log(share)
    spread = 0.5 * math.log(n / (2 * math.pi * k * (n - k)))
    stirling = _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    return spread + stirling - _deviance(k, n * share) - _deviance(n - k, n * (1 - share))


def _stirling_error(n: int) -> float:
    """Return log(n!) - log(sqrt(2 pi n) (n/e)^n)."""
    if n < 32:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
    square = 1.0 / (n * n)
    return (1 / 12 - (1 / 360 - (1 / 1260 - square / 1680) * square) * square) / n


def _deviance(x: float, mean: float) -> float:
    """Return x log(x / mean) + mean - x without cancellation for x near the mean."""
    nearness = (x - mean) / mean
    return mean * _plus_log(nearness) if abs(nearness) < 0.1 else x * math.log(x / mean) + mean - x


def _plus_log(e: float) -> float:
    """Return (1 + e) log(1 + e) - e for a small e, by its series: sum of (-e)^j / (j (j - 1)) from j = 2."""
    return sum((-e) ** j / (j * (j - 1)) for j in range(2, 18))
