"""Correlated calls are worth as many independent ones as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.stats.autocorrelation import autocorrelation, effective_size, effective_size_at


def autoregressive(rng, rho, n):
    """Standard normal values, each correlated by rho with the one before."""
    steps = rng.standard_normal(n) * math.sqrt(1 - rho**2)
    values = np.empty(n)
    values[0] = rng.standard_normal()
    for i in range(1, n):
        values[i] = rho * values[i - 1] + steps[i]
    return values


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=60))
def test_the_autocorrelation_is_its_definition(samples):
    values = np.array(samples, float)
    values -= values.mean()
    found = autocorrelation(samples)
    assert found[0] == 1
    total = values @ values
    for lag in range(1, len(samples)):
        wanted = values[:-lag] @ values[lag:] / total if min(samples) < max(samples) else 0
        assert found[lag] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_an_autoregressive_sequence_is_worth_what_theory_says(rho):
    rng = np.random.default_rng(3)
    sizes = [effective_size(autoregressive(rng, rho, 5000)) for _ in range(60)]
    assert np.median(sizes) == pytest.approx(5000 * (1 - rho) / (1 + rho), rel=0.1)


@pytest.mark.parametrize(("n", "factor"), [(100, 1.5), (200, 1.3)])
def test_a_short_sequence_does_not_seem_independent(n, factor):
    rng = np.random.default_rng(n)
    sizes = [effective_size(autoregressive(rng, 0.9, n)) for _ in range(300)]
    assert np.median(sizes) < factor * n / 19


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_a_percentile_is_worth_what_its_indicator_is(rho):
    # The indicators of a Gaussian at its median are correlated by 2 / pi * asin(rho^k).
    rng = np.random.default_rng(4)
    tau = 1 + 2 * sum(2 / math.pi * math.asin(rho**k) for k in range(1, 500))
    values = [(1e6 * np.exp(0.3 * autoregressive(rng, rho, 4000))).astype(int) for _ in range(60)]
    assert np.median([effective_size_at(one, 0.5) for one in values]) == pytest.approx(4000 / tau, rel=0.1)
    assert np.median([effective_size_at(one, 0.99) for one in values]) > 1.3 * 4000 / tau, (
        "tails follow each other less"
    )


def test_a_slow_stretch_is_one_event():
    # The 100 slowest of 2000 calls, at once or anywhere: once they are one piece of evidence, once a hundred.
    at_once = np.arange(2000) % 90
    at_once[1000:1100] += 1000
    anywhere = np.random.default_rng(5).permutation(at_once)
    assert effective_size_at(at_once, 0.95) < 60
    assert effective_size_at(anywhere, 0.95) > 1500


def test_neither_more_than_all_nor_less_than_one():
    assert effective_size([7]) == 1
    assert effective_size([5] * 40) == 40
    assert effective_size([1, 2] * 500) == 1000
    assert 1 <= effective_size([1] * 50 + [2] * 50) < 3


def test_a_hundred_thousand_calls_take_no_time_worth_telling():
    values = np.random.default_rng(6).lognormal(size=100_000)
    assert effective_size(values) == pytest.approx(100_000, rel=0.05), "by the definition this would take minutes"


def test_no_samples_are_refused():
    with pytest.raises(SettingError, match="at least one"):
        effective_size([])
    with pytest.raises(SettingError, match="at least one"):
        effective_size_at([], 0.5)
    with pytest.raises(SettingError, match="between 0 and 1"):
        effective_size_at([1], 1.0)
