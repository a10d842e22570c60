"""Summaries of samples: percentiles, confidence intervals and their limits. Pure functions of recorded numbers.

Percentiles of calls are descriptive. Their intervals use the effective number of correlated calls; differences between
processes are described by intervals over trials, or over pairs of trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.errors import SettingError
from benchmarks.records.measurement import Interval, Measurement
from benchmarks.stats.autocorrelation import effective_size, effective_size_at
from benchmarks.stats.binomial import lower_tail, most_within
from benchmarks.stats.percentile_bounds import queries_needed

__all__ = [
    "Summary",
    "can_tell",
    "clustered_median_interval",
    "median_interval",
    "percentile",
    "percentile_interval",
    "relative_half_width",
    "robust_deviation",
    "samples_needed",
    "summarise",
    "supports",
]

_Samples = Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]


def robust_deviation(values: Sequence[float]) -> float:
    """Return a robust standard deviation, 1.4826 x median absolute deviation: outliers have little influence.

    Parameters
    ----------
    values : sequence of float
        At least one.
    """
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def samples_needed(share: float) -> int:
    """Return the smallest sample size for which a percentile is reported.

    The median describes any sample. Other percentiles need as many samples as LoadGen's early stopping: enough that one
    value beyond the percentile is not luck (see `benchmarks.stats.percentile_bounds`).

    Raises
    ------
    SettingError
        Not a share between 0 and 1.

    Examples
    --------
    >>> [samples_needed(share) for share in (0.5, 0.9, 0.99, 0.999)]
    [1, 64, 662, 6636]
    """
    return 1 if share == 0.5 else _independent_needed(share)


def supports(n_samples: int, share: float) -> bool:
    """Return whether a percentile is reported for a sample of this size."""
    return n_samples >= samples_needed(share)


def can_tell(n_effective: float, share: float) -> bool:
    """Return whether this many independent calls determine a percentile of the service, not only of the sample.

    Parameters
    ----------
    n_effective : float
        See `benchmarks.stats.autocorrelation.effective_size_at`.
    share : float
        In (0, 1). The median needs 11, p90 64, p99 662, p99.9 6636.

    Raises
    ------
    SettingError
        Not a share between 0 and 1.
    """
    return n_effective >= _independent_needed(share)


def percentile(samples: _Samples, share: float) -> int:
    """Return a percentile by nearest rank: the smallest sample that at least `share` of all do not exceed.

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
        The sample is too small: p99 needs 662 values.

    Examples
    --------
    >>> percentile([30, 10, 20, 40], 0.5)
    20
    """
    n = len(samples)
    if not supports(n, share):
        raise SettingError(f"p{100 * share:g} wants {samples_needed(share)} samples, got {n}")
    rank = math.ceil(round(n * share, 6))
    return int(np.partition(np.asarray(samples, np.int64), rank - 1)[rank - 1])


def percentile_interval(samples: _Samples, share: float, confidence: float = 0.95) -> Interval:
    """Return a percentile of a service with a distribution-free interval that allows for correlated calls.

    For m independent calls, the interval [x_(j), x_(k)] misses with the probability that fewer than j, or at least k,
    of them lie at or below the percentile: binomial tails, each at most ``(1 - confidence) / 2``. Correlated calls
    count as m = effective size, and the order statistics are those of m clusters of n / m equal calls, which are as far
    apart as in a sample of m. For independent calls it is the textbook interval. As the percentile may lie at either
    end, the strongest correlation counts among those at the sample's own percentile and at both ends.

    The calls must be one sequence of one service. Calls of several trials laid end to end are correlated over whole
    trials if trials differ: the effective size is then small, and `clustered_median_interval` is the one to use.

    Parameters
    ----------
    samples : sequence of int, or ndarray of shape (n,)
        In the order in which they were measured.
    share : float
        In (0, 1): 0.99 for p99.
    confidence : float, default=0.95
        In (0, 1).

    Returns
    -------
    Interval
        The nearest-rank percentile with its ends; its confidence is the actual one for m independent calls,
        `confidence` or more, and n is m rounded down.

    Raises
    ------
    SettingError
        The effective size is too small for `can_tell`, or for this confidence.

    References
    ----------
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition (2003), section 7.1.
    """
    n = len(samples)
    if not 0 < confidence < 1:
        raise SettingError(f"a confidence lies between 0 and 1, got {confidence}")
    if not can_tell(n, share):
        raise _too_few(n, n, share)
    values = np.asarray(samples, np.int64)
    ordered = np.sort(values)
    m = math.floor(effective_size_at(values, share))
    while True:
        if not can_tell(m, share):
            raise _too_few(n, m, share)
        below, above = (most_within(m, chance, (1 - confidence) / 2) for chance in (share, 1 - share))
        if below is None or above is None:
            raise SettingError(
                f"{m} independent samples cannot tell p{100 * share:g} with a confidence of {confidence:g}"
            )
        low, high = ordered[math.floor(below * n / m)], ordered[n - 1 - math.floor(above * n / m)]
        fewer = math.floor(min(effective_size(values < low), effective_size(values <= high)))
        if fewer >= m:
            break
        m = fewer
    return Interval(
        value=percentile(ordered, share),
        low=int(low),
        high=int(high),
        confidence=1 - lower_tail(below, m, share) - lower_tail(above, m, 1 - share),
        n=m,
    )


def clustered_median_interval(trials: Sequence[_Samples], confidence: float = 0.95) -> Interval:
    """Return the median latency over processes, with a confidence interval over processes.

    Each trial counts as one value, its median, and the interval is `median_interval` of these. Calls of one trial are
    correlated and share its luck (memory layout, thread placement): a hundred more of them say nothing about the next
    process. The medians of trials are independent whatever happens inside a trial, and nothing more is assumed.

    Parameters
    ----------
    trials : sequence of sequences of int
        Calls of each trial; at least two trials of at least one call.
    confidence : float, default=0.95
        In (0, 1). Fewer than six trials give less than 95 %: `Interval.confidence` says how much.

    Raises
    ------
    SettingError
        Fewer than two trials, or one without calls.
    """
    if empty := sum(len(trial) == 0 for trial in trials):
        raise SettingError(f"{empty} of {len(trials)} trials have no calls")
    return median_interval([float(np.median(np.asarray(trial, np.int64))) for trial in trials], confidence)


def relative_half_width(interval: Interval) -> float:
    """Return half the width of an interval as a share of its value: 0.01 for 10 ms +- 0.1 ms.

    Raises
    ------
    SettingError
        The value is not positive.
    """
    if interval.value <= 0:
        raise SettingError(f"only the width of something positive is a share of it, got {interval.value:g}")
    return (interval.high - interval.low) / (2 * interval.value)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the median of independent values with an exact, distribution-free confidence interval.

    The interval is [x_(k), x_(n+1-k)] with the largest k whose two-sided error ``2 * sum_{i<k} C(n, i) / 2^n`` stays
    within ``1 - confidence``: the inverted sign test. It assumes only independence. At least six values are needed for
    95 % (their minimum and maximum give 96.9 %); with fewer, minimum and maximum are returned, and
    `Interval.confidence` holds their smaller confidence.

    Parameters
    ----------
    values : sequence of float
        At least two.
    confidence : float, default=0.95
        In (0, 1).

    Raises
    ------
    SettingError
        Fewer than two values.

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


def _too_few(n: int, n_effective: int, share: float) -> SettingError:
    worth = f", worth {n_effective} independent ones" if n_effective < n else ""
    wanted = f"an interval of p{100 * share:g} wants {_independent_needed(share)} independent samples"
    return SettingError(f"{wanted}, got {n}{worth}")


def _independent_needed(share: float) -> int:
    """Return how many independent values determine a percentile, high or low."""
    return max(queries_needed(share, 1), queries_needed(1 - share, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Summary of a measurement; derived from its samples, never stored.

    Parameters
    ----------
    p50_ns : int
        Median over the calls of all trials, by nearest rank, in nanoseconds.
    p90_ns, p99_ns, p999_ns : int or None
        Nearest-rank percentiles over the calls of all trials, in nanoseconds; None for fewer than 64, 662 and 6636
        calls.
    mean_ns : float
        Mean over the calls of all trials, in nanoseconds.
    throughput_per_s : float
        Examples per second of one caller that waits for each answer: batch / mean.
    trial_median_ns : Interval or None
        Median of the trial medians with its interval, in nanoseconds: how much processes differ. None for a single
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
    p999_ns: int | None
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
    """Return the summary of a measurement that did not fail.

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
    return Summary(
        p50_ns=percentile(calls, 0.5),
        p90_ns=supported(0.9),
        p99_ns=supported(0.99),
        p999_ns=supported(0.999),
        mean_ns=mean_ns,
        throughput_per_s=1e9 * measurement.subject.batch / mean_ns,
        trial_median_ns=clustered_median_interval([trial.calls_ns for trial in trials]) if len(trials) > 1 else None,
        load_ns=round(median(trial.load_ns for trial in trials)),
        first_run_ns=round(median(trial.first_run_ns for trial in trials)),
        peak_bytes=max(trial.memory.peak_bytes for trial in trials),
        model_bytes=round(median(trial.memory.model_bytes for trial in trials)),
        n_calls=len(calls),
        n_trials=len(trials),
    )
