"""Warming up ends when calls are steady, not before, and in any case."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.errors import SettingError
from benchmarks.warmup import WarmUp, WarmUpLimits


def warm(durations, limits=None):
    """Feed durations until the warm-up ends; return it and the number of calls it took."""
    warm_up = WarmUp(limits or WarmUpLimits())
    for duration in durations:
        if warm_up.ended is not None:
            break
        warm_up.add(max(1, int(duration)))
    return warm_up


def noise(seed, n, spread):
    return np.exp(spread * np.random.default_rng(seed).standard_normal(n))


def test_constant_calls_are_steady_after_the_least_time():
    warm_up = warm([2e6] * 100_000)
    assert warm_up.ended == "steady"
    assert warm_up.n_calls == 150
    assert warm_up.latency_ns == 2e6


def test_slow_calls_are_steady_after_ten():
    assert warm([4e8] * 1000).n_calls == 10


def test_very_short_calls_do_not_go_on_for_ever():
    warm_up = warm([100] * 100_000)
    assert (warm_up.ended, warm_up.n_calls) == ("steady", 10_000)


@pytest.mark.parametrize(("decay_calls", "spread"), [(30, 0.05), (100, 0.05), (300, 0.0)])
def test_a_decay_is_waited_for(decay_calls, spread):
    calls = np.arange(20_000)
    for seed in range(20):
        warm_up = warm(2e6 * (1 + 2 * np.exp(-calls / decay_calls)) * noise(seed, calls.size, spread))
        assert warm_up.ended == "steady"
        assert warm_up.latency_ns < 1.05 * 2e6


def test_a_faster_kernel_that_arrives_late_is_not_averaged_away():
    # 150 calls of 2 ms are the least time; the change happens in the windows that are looked at then.
    warm_up = warm([2e6] * 135 + [1e6] * 10_000)
    assert warm_up.ended == "steady"
    assert warm_up.latency_ns == 1e6


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
def test_noise_alone_keeps_nobody_waiting(spread):
    ends = [warm(2e6 * noise(seed, 20_000, spread)) for seed in range(50)]
    assert all(warm_up.ended == "steady" for warm_up in ends)
    assert np.median([warm_up.n_calls for warm_up in ends]) < 400


def test_calls_that_never_settle_end_with_the_budget():
    limits = WarmUpLimits(max_ns=1_000_000_000)
    warm_up = warm(2e6 * 1.01 ** np.arange(10_000), limits)
    assert warm_up.ended == "budget"


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(SettingError, match="contradict"):
        WarmUpLimits(min_ns=2, max_ns=1)
