"""Percentiles, intervals and summaries say what their docstrings say."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.stats import median_interval, percentile, samples_needed


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 50), (0.9, 90), (0.99, 99)])
def test_percentile_is_nearest_rank_rounded_up(share, wanted):
    samples = list(range(100, 0, -1))
    assert percentile(samples, share) == wanted
    assert percentile([*samples, 101], share) == math.ceil(101 * share)


@given(st.lists(st.integers(1, 10**12), min_size=100, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentile_is_the_smallest_sample_that_covers_its_share(samples, share):
    found = percentile(samples, share)
    assert found in samples
    assert sum(value <= found for value in samples) >= share * len(samples) - 1e-6
    assert sum(value < found for value in samples) < share * len(samples)


def test_percentile_refuses_a_sample_that_cannot_show_it():
    assert samples_needed(0.99) == 100
    with pytest.raises(SettingError, match="p99 wants 100 samples, got 99"):
        percentile([1] * 99, 0.99)
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
