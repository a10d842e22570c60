"""What samples say, and what they cannot say. Pure functions of recorded numbers.

Percentiles of calls are descriptive; intervals use independent samples only (trials, or pairs of trials).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.errors import SettingError
from benchmarks.records import Interval, Measurement

__all__ = ["Summary", "median_interval", "percentile", "samples_needed", "summarise", "supports"]


def samples_needed(share: float) -> int:
    """Give the smallest sample in which at least one value is expected beyond the percentile.

    >>> samples_needed(0.5), samples_needed(0.9), samples_needed(0.99)
    (2, 10, 100)
    """
    if not 0 < share < 1:
        raise SettingError(f"a percentile is a share between 0 and 1, got {share}")
    return math.ceil(round(1 / (1 - share), 6))


def supports(n_samples: int, share: float) -> bool:
    """Tell whether a sample of this size can show the percentile at all."""
    return n_samples >= samples_needed(share)


def percentile(samples: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]], share: float) -> int:
    """Give a percentile by nearest rank, rounded up: the smallest sample that at least `share` of all do not exceed.

    The result is always one of the samples; nothing is interpolated. This is the convention of OpenVINO's benchmark_app
    (index ``ceil(n * share) - 1``).

    Parameters
    ----------
    samples : sequence of int, or ndarray of shape (n,)
        In any order.
    share : float
        In (0, 1): 0.99 for p99.

    Raises
    ------
    SettingError
        The sample is too small to show it: p99 wants 100 values.

    Examples
    --------
    >>> percentile([30, 10, 20, 40], 0.5)
    20
    """
    if not supports(len(samples), share):
        raise SettingError(f"p{100 * share:g} wants {samples_needed(share)} samples, got {len(samples)}")
    rank = math.ceil(round(len(samples) * share, 6))
    return int(np.partition(np.asarray(samples, np.int64), rank - 1)[rank - 1])


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Give the median of independent values with an exact, distribution-free interval.

    The interval is [x_(k), x_(n+1-k)] with the largest k whose two-sided error ``2 * sum_{i<k} C(n, i) / 2^n`` stays
    within ``1 - confidence``: the inverted sign test. It assumes nothing but independence. Six values are the fewest
    that give 95 % (by their minimum and maximum: 96.9 %); with fewer, minimum and maximum are given with the smaller
    confidence that they have, and `Interval.confidence` says so.

    Parameters
    ----------
    values : sequence of float
        At least two.
    confidence : float, default=0.95
        In (0, 1).

    Raises
    ------
    SettingError
        Fewer than two values: they have no interval.

    References
    ----------
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition (2003), section 7.1.
    """
    n = len(values)
    if n < 2:
        raise SettingError(f"an interval wants at least 2 independent values, got {n}")
    order, error = 1, 2 / 2**n
    while (wider := 2 * sum(math.comb(n, i) for i in range(order + 1)) / 2**n) <= 1 - confidence:
        order, error = order + 1, wider
    ordered = sorted(values)
    return Interval(value=median(ordered), low=ordered[order - 1], high=ordered[n - order], confidence=1 - error, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is told of a measurement; derived from its samples, never stored.

    Parameters
    ----------
    p50_ns : int
        Median over the calls of all trials, by nearest rank, in nanoseconds; a single call is its own.
    p90_ns, p99_ns : int or None
        Nearest-rank percentiles over the calls of all trials, in nanoseconds; None where there are fewer than 10 and
        100 calls.
    mean_ns : float
        Over the calls of all trials, in nanoseconds.
    throughput_per_s : float
        Examples per second of one caller that waits for each answer: batch / mean.
    trial_median_ns : Interval or None
        Median of the trials' own medians with its interval, in nanoseconds: how far processes differ. None for a single
        trial.
    load_ns, first_run_ns : int
        Medians over trials, in nanoseconds.
    peak_bytes : int
        Largest resident size of any trial, in bytes.
    model_bytes : int
        What the model added to the peak, in bytes: median over trials.
    n_calls, n_trials : int
        Timed calls, and the processes that made them.
    """

    p50_ns: int
    p90_ns: int | None
    p99_ns: int | None
    mean_ns: float
    throughput_per_s: float
    trial_median_ns: Interval | None
    load_ns: int
    first_run_ns: int
    peak_bytes: int
    model_bytes: int
    n_calls: int
    n_trials: int


def summarise(measurement: Measurement) -> Summary:
    """Derive the summary of a measurement that did not fail.

    Raises
    ------
    SettingError
        The measurement failed: there are no samples.
    """
    if measurement.failure is not None:
        raise SettingError(f"{measurement.subject.label} has no samples to summarise: {measurement.failure}")
    trials = measurement.trials
    calls = np.array([ns for trial in trials for ns in trial.calls_ns], np.int64)

    def supported(share: float) -> int | None:
        return percentile(calls, share) if supports(len(calls), share) else None

    mean_ns = float(calls.mean())
    medians = [median(trial.calls_ns) for trial in trials]
    return Summary(
        p50_ns=percentile(calls, 0.5) if len(calls) > 1 else int(calls[0]),
        p90_ns=supported(0.9),
        p99_ns=supported(0.99),
        mean_ns=mean_ns,
        throughput_per_s=1e9 * measurement.subject.batch / mean_ns,
        trial_median_ns=median_interval(medians) if len(medians) > 1 else None,
        load_ns=round(median(trial.load_ns for trial in trials)),
        first_run_ns=round(median(trial.first_run_ns for trial in trials)),
        peak_bytes=max(trial.memory.peak_bytes for trial in trials),
        model_bytes=round(median(trial.memory.model_bytes for trial in trials)),
        n_calls=len(calls),
        n_trials=len(trials),
    )
