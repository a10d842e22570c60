"""Arrival times of requests: the schedule of LoadGen's Server scenario, reproduced from its seed.

The arrivals are a Poisson process. Gaps come from the 32-bit Mersenne twister through 53-bit uniforms and the inverse
of the exponential distribution, as in the C++ standard library of the published LoadGen wheels: the same seed gives the
same schedule in both, so that chance does not affect a comparison of the two.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from benchmarks.errors import SettingError

__all__ = ["Nanoseconds", "poisson_arrivals"]

Nanoseconds: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Array of shape (n,), int64."""


def poisson_arrivals(rate_per_s: float, n: int, seed: int) -> Nanoseconds:
    """Return the times of `n` arrivals, the first at 0.

    Parameters
    ----------
    rate_per_s : float
        Arrivals per second, on average.
    n : int
        At least 1.
    seed : int
        In [0, 2**32).

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Nanoseconds, ascending.

    Raises
    ------
    SettingError
        An argument is out of its range.

    References
    ----------
    MLCommons LoadGen, ``schedule_rng_seed`` and ``server_target_qps``.
    """
    if not 0 < rate_per_s < float("inf"):
        raise SettingError(f"a rate of arrivals must be positive, got {rate_per_s}")
    if n < 1:
        raise SettingError(f"at least 1 request must arrive, got {n}")
    if not 0 <= seed < 2**32:
        raise SettingError(f"the seed of arrivals lies in [0, 2**32), got {seed}")
    # The legacy generator on purpose: it seeds the twister as C++ does.
    words = np.random.RandomState(seed).randint(0, 2**32, 2 * (n - 1), np.uint32).astype(np.float64)
    uniforms = np.minimum((words[0::2] + words[1::2] * 2.0**32) / 2.0**64, np.nextafter(1.0, 0.0))
    gaps = (-np.log(1.0 - uniforms) / rate_per_s * 1e9).astype(np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps)])
