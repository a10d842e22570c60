"""Autocorrelation of calls, and the effective number of independent calls in a correlated sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from benchmarks.errors import SettingError

__all__ = ["autocorrelation", "effective_size", "effective_size_at"]

_Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
_Samples = Sequence[float] | np.ndarray[tuple[int], np.dtype[np.generic]]


def autocorrelation(samples: _Samples) -> _Floats:
    """Return the autocorrelation of a sequence at all its lags.

    The estimate at lag k is ``sum_i (x_i - mean) (x_{i+k} - mean) / sum_i (x_i - mean)^2``: positive definite, and
    smaller than the truth at long lags. It uses the FFT, so 100 000 calls take milliseconds.

    Parameters
    ----------
    samples : sequence of float, or ndarray of shape (n,)
        In the order measured; numbers or booleans.

    Returns
    -------
    ndarray of shape (n,)
        1 at lag 0. A constant sequence has 0 at all other lags.

    Raises
    ------
    SettingError
        No samples.
    """
    values = np.asarray(samples, np.float64)
    n = values.size
    if n == 0:
        raise SettingError("an autocorrelation wants at least one sample")
    correlations = np.zeros(n)
    if values.min() < values.max():
        length = 1 << (2 * n - 1).bit_length()  # padded so that the end does not wrap around
        power = np.abs(np.fft.rfft(values - values.mean(), length)) ** 2
        covariance = np.fft.irfft(power, length)[:n]
        correlations = covariance / covariance[0]
    correlations[0] = 1.0
    return correlations


def effective_size(samples: _Samples) -> float:
    """Return the number of independent samples whose mean would be as precise as the mean of these.

    It is n / tau with tau = 1 + 2 * (sum of the autocorrelations). Their sum is Geyer's initial monotone sequence: lags
    are taken in pairs while the sum of a pair is positive, and no pair counts more than the one before. As the mean is
    that of the samples themselves, each lag comes out too small by about tau / n; a second pass adds this, or short
    sequences would seem less correlated than they are. Alternating sequences, worth more than n, count as n.

    For a percentile, use `effective_size_at`: there only whether each sample exceeds it matters.

    Parameters
    ----------
    samples : sequence of float, or ndarray of shape (n,)
        In the order measured; numbers or booleans.

    Returns
    -------
    float
        Between 1 and n; n for a constant sequence.

    Raises
    ------
    SettingError
        No samples.

    References
    ----------
    C. J. Geyer, Practical Markov Chain Monte Carlo, Statistical Science 7 (1992), section 3.3. M. G. Kendall, Note on
    bias in the estimation of autocorrelation, Biometrika 41 (1954).
    """
    correlations = autocorrelation(samples)
    n = correlations.size
    if not correlations[1:].any():
        return float(n)
    first_pass = _correlation_time(correlations)
    second_pass = _correlation_time(correlations + first_pass * (1 - np.arange(n) / n) / n)
    return max(1.0, n / second_pass)


def effective_size_at(samples: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]], share: float) -> float:
    """Return the number of independent samples that would determine a percentile as well as these.

    A sample percentile is as uncertain as the share of values that do not exceed it: the effective size is that of the
    sequence ``x_i <= percentile``. A slow stretch matters for p99 only as far as it puts calls beyond p99.

    Parameters
    ----------
    samples : sequence of int, or ndarray of shape (n,)
        In the order measured.
    share : float
        In (0, 1): 0.99 for p99, by nearest rank.

    Raises
    ------
    SettingError
        No samples, or a share out of range.
    """
    if not 0 < share < 1:
        raise SettingError(f"a percentile is a share between 0 and 1, got {share}")
    if len(samples) == 0:
        raise SettingError("an effective size wants at least one sample")
    values = np.asarray(samples, np.int64)
    rank = math.ceil(round(share * values.size, 6))
    return effective_size(values <= np.partition(values, rank - 1)[rank - 1])


def _correlation_time(correlations: _Floats) -> float:
    """Return 1 + 2 * (sum of autocorrelations) by the initial monotone sequence, but not less than 1."""
    n_pairs = correlations.size // 2
    pairs = np.concatenate(([1.0], correlations[1 : 2 * n_pairs])).reshape(n_pairs, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: ends[0]] if ends.size else pairs)
    return max(1.0, 2 * float(kept.sum()) - 1)
