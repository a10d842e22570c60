"""Percentiles, intervals and summaries say what their docstrings say."""

from __future__ import annotations

import math
from statistics import NormalDist, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.stats.summary import (
    can_tell,
    clustered_median_interval,
    median_interval,
    percentile,
    percentile_interval,
    relative_half_width,
    samples_needed,
    supports,
)

RUNS = 1000


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 500), (0.9, 900), (0.99, 990)])
def test_percentile_is_nearest_rank_rounded_up(share, wanted):
    samples = list(range(1000, 0, -1))
    assert percentile(samples, share) == wanted
    assert percentile([*samples, 1001], share) == math.ceil(1001 * share)


@given(st.lists(st.integers(1, 10**12), min_size=64, max_size=300), st.sampled_from([0.5, 0.75, 0.9]))
def test_percentile_is_the_smallest_sample_that_covers_its_share(samples, share):
    found = percentile(samples, share)
    assert found in samples
    assert sum(value <= found for value in samples) >= share * len(samples) - 1e-6
    assert sum(value < found for value in samples) < share * len(samples)


@pytest.mark.parametrize(("share", "needed"), [(0.1, 64), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_percentile_refuses_a_sample_that_cannot_show_it(share, needed):
    assert samples_needed(share) == needed
    assert supports(needed, share)
    assert not supports(needed - 1, share)
    assert percentile([1] * needed, share) == 1
    with pytest.raises(SettingError, match=f"p{100 * share:g} wants {needed} samples, got {needed - 1}"):
        percentile([1] * (needed - 1), share)


def test_any_sample_has_a_median():
    assert percentile([7], 0.5) == 7
    assert percentile([3, 1], 0.5) == 1
    with pytest.raises(SettingError, match="got 0"):
        percentile([], 0.5)


def test_what_is_no_share_is_refused():
    with pytest.raises(SettingError, match="between 0 and 1"):
        percentile([1] * 99, 1.0)


@pytest.mark.parametrize(
    ("n", "low", "high", "confidence"), [(5, 1, 5, 0.9375), (6, 1, 6, 0.96875), (20, 6, 15, 0.9586)]
)
def test_median_interval_uses_the_order_statistics_of_the_sign_test(n, low, high, confidence):
    interval = median_interval([float(value) for value in range(n, 0, -1)])
    assert (interval.low, interval.high, interval.n) == (low, high, n)
    assert interval.confidence == pytest.approx(confidence, abs=1e-4)


def test_one_value_has_no_interval():
    with pytest.raises(SettingError, match="at least 2"):
        median_interval([1.0])


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=2, max_size=40), st.floats(0.1, 10), finite)
def test_median_interval_moves_with_shift_and_scale(values, scale, shift):
    before, after = median_interval(values), median_interval([scale * value + shift for value in values])
    for name in ("value", "low", "high"):
        assert getattr(after, name) == pytest.approx(scale * getattr(before, name) + shift, abs=1e-3, rel=1e-6)
    assert before.value == median(values)


@pytest.mark.parametrize("n", [6, 11, 20])
def test_median_interval_covers_as_often_as_it_says(n):
    rng = np.random.default_rng(n)
    for draw in (rng.standard_normal, rng.standard_cauchy, lambda size: rng.exponential(size=size) - math.log(2)):
        intervals = [median_interval(draw(n).tolist()) for _ in range(1500)]
        covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
        # 1500 draws of a share of 0.96 spread by 0.005.
        assert covered == pytest.approx(intervals[0].confidence, abs=0.02)


# Percentiles of services whose truth is known


def autoregressive(rng, runs, n, rho):
    """Standard normal values of shape (runs, n), each correlated by rho with the one before."""
    values = rng.standard_normal((runs, n))
    for i in range(1, n):
        values[:, i] = rho * values[:, i - 1] + math.sqrt(1 - rho**2) * values[:, i]
    return values


def modes(rng, runs, n, stay):
    """Whether a call is in the slow mode: a share of 0.4; with the probability `stay` where the call before was."""
    slow = rng.random((runs, n)) < 0.4
    same = rng.random((runs, n)) < stay
    for i in range(1, n):
        slow[:, i] = np.where(same[:, i], slow[:, i - 1], slow[:, i])
    return slow


def log_normal(rng, runs, n, rho):
    return (1e6 * np.exp(0.2 * autoregressive(rng, runs, n, rho))).astype(np.int64)


def bimodal(rng, runs, n, stay):
    typical = np.where(modes(rng, runs, n, stay), 1.5e6, 1e6)
    return (typical * np.exp(0.02 * rng.standard_normal((runs, n)))).astype(np.int64)


NORMAL = NormalDist()
# The medians and p90 of 0.6 N(0, s) + 0.4 N(log 1.5, s) lie each in one mode, which the other does not reach.
BIMODAL = {
    0.5: 1e6 * math.exp(0.02 * NORMAL.inv_cdf(0.5 / 0.6)),
    0.9: 1.5e6 * math.exp(0.02 * NORMAL.inv_cdf(0.3 / 0.4)),
}


def log_normal_truth(share):
    return 1e6 * math.exp(0.2 * NORMAL.inv_cdf(share))


@pytest.mark.parametrize(
    ("service", "memory", "n", "share"),
    [
        (log_normal, 0.0, 100, 0.5),
        pytest.param(log_normal, 0.0, 500, 0.9, marks=pytest.mark.slow),
        (log_normal, 0.0, 1000, 0.99),
        (log_normal, 0.5, 500, 0.5),
        pytest.param(log_normal, 0.5, 500, 0.9, marks=pytest.mark.slow),
        pytest.param(log_normal, 0.5, 3000, 0.99, marks=pytest.mark.slow),
        (log_normal, 0.9, 600, 0.5),
        pytest.param(log_normal, 0.9, 1500, 0.9, marks=pytest.mark.slow),
        (bimodal, 0.0, 500, 0.5),
        pytest.param(bimodal, 0.0, 500, 0.9, marks=pytest.mark.slow),
        (bimodal, 0.8, 1000, 0.5),
        pytest.param(bimodal, 0.8, 1000, 0.9, marks=pytest.mark.slow),
    ],
)
def test_percentile_interval_covers_as_often_as_it_says(service, memory, n, share):
    truth = BIMODAL[share] if service is bimodal else log_normal_truth(share)
    draws = service(np.random.default_rng(n), RUNS, n, memory)
    told = intervals(draws, share)
    assert len(told) >= 0.9 * RUNS, "nearly all these samples can tell"
    covered = np.mean([interval.low <= truth <= interval.high for interval in told])
    stated = np.mean([interval.confidence for interval in told])
    assert stated >= 0.95
    assert covered >= stated - 0.02


def intervals(draws, share):
    """The intervals of all samples that are not refused."""
    told = []
    for draw in draws:
        try:
            told.append(percentile_interval(draw, share))
        except SettingError:
            continue
    return told


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_constant_service_is_known_exactly(share):
    interval = percentile_interval([2_000_000] * 700, share)
    assert (interval.low, interval.value, interval.high, interval.n) == (2_000_000, 2_000_000, 2_000_000, 700)
    assert relative_half_width(interval) == 0


def test_independent_calls_have_the_textbooks_interval():
    # The order statistics 40 and 61 of 100 for the median, from the numbers 1 to 100 well mixed.
    interval = percentile_interval([26 * i % 101 for i in range(1, 101)], 0.5)
    assert (interval.value, interval.low, interval.high, interval.n) == (50, 40, 61, 100)
    assert interval.confidence == pytest.approx(0.9648, abs=1e-4)


def test_correlation_widens_the_interval():
    rng = np.random.default_rng(8)
    calls = log_normal(rng, 1, 2000, 0.9)[0]
    shuffled = percentile_interval(rng.permutation(calls), 0.5)
    as_it_was = percentile_interval(calls, 0.5)
    assert as_it_was.value == shuffled.value
    assert relative_half_width(as_it_was) > 2.5 * relative_half_width(shuffled)
    assert as_it_was.n < shuffled.n / 8


def test_correlated_calls_are_refused_a_percentile_that_as_many_independent_ones_may_tell():
    rng = np.random.default_rng(9)
    calls = np.repeat(rng.integers(1_000_000, 2_000_000, 70), 10)
    assert percentile_interval(rng.permutation(calls), 0.9).n >= 64
    with pytest.raises(SettingError, match=r"p99 wants 662 independent samples, got 700, worth \d+ independent ones"):
        percentile_interval(calls, 0.99)


def test_an_interval_wants_enough_samples_and_a_confidence_that_they_can_have():
    with pytest.raises(SettingError, match=r"p50 wants 11 independent samples, got 10$"):
        percentile_interval(range(10), 0.5)
    with pytest.raises(SettingError, match="cannot tell p50 with a confidence"):
        percentile_interval([5] * 11, 0.5, confidence=0.9999)
    with pytest.raises(SettingError, match="between 0 and 1, got 95"):
        percentile_interval([5] * 11, 0.5, confidence=95)
    assert can_tell(661.9, 0.99) is False
    assert can_tell(662, 0.99) is True


# Medians of processes that have luck of their own


@pytest.mark.parametrize(("n_trials", "rho"), [(3, 0.0), (6, 0.9), (12, 0.5), (20, 0.9)])
def test_clustered_median_interval_covers_as_often_as_it_says(n_trials, rho):
    rng = np.random.default_rng(n_trials)
    calls = log_normal(rng, RUNS * n_trials, 40, rho).reshape(RUNS, n_trials, 40)
    luck = np.exp(0.05 * rng.standard_normal((RUNS, n_trials, 1)))
    told = [clustered_median_interval(list(run)) for run in (calls * luck).astype(np.int64)]
    covered = np.mean([interval.low <= 1e6 <= interval.high for interval in told])
    assert covered == pytest.approx(told[0].confidence, abs=0.02 + 0.01 * (n_trials == 3))
    assert told[0].n == n_trials
    assert told[0].confidence >= (0.95 if n_trials >= 6 else 0.75)


def test_calls_of_many_trials_end_to_end_do_not_hide_the_trials_luck():
    rng = np.random.default_rng(10)
    trials = (log_normal(rng, 8, 500, 0.0) * np.exp(0.3 * rng.standard_normal((8, 1)))).astype(np.int64)
    clustered = clustered_median_interval(list(trials))
    shuffled = percentile_interval(rng.permutation(trials.ravel()), 0.5)
    assert relative_half_width(clustered) > 5 * relative_half_width(shuffled)
    assert percentile_interval(trials.ravel(), 0.5).n < 40, "not 4000"


def test_a_single_trial_and_an_empty_one_are_refused():
    with pytest.raises(SettingError, match="at least 2"):
        clustered_median_interval([[1, 2, 3]])
    with pytest.raises(SettingError, match="1 of 2 trials have no calls"):
        clustered_median_interval([[1], []])


def test_relative_half_width_is_a_share_of_the_value():
    assert relative_half_width(median_interval([90.0, 100.0, 120.0])) == pytest.approx(0.15)
    with pytest.raises(SettingError, match="positive"):
        relative_half_width(median_interval([-1.0, 1.0]))
