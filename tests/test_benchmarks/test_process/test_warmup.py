"""Warming up ends when calls are steady, not before, and in any case."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.errors import SettingError
from benchmarks.process.warmup import WarmUp, WarmUpLimits

CALLS = 20_000


def warm(durations, limits=None):
    """Feed durations until the warm-up ends; return it."""
    warm_up = WarmUp(limits or WarmUpLimits())
    for duration in durations:
        if warm_up.ended is not None:
            break
        warm_up.add(max(1, int(duration)))
    return warm_up


def milliseconds(durations, warm_up):
    return sum(durations[: warm_up.n_calls]) / 1e6


def log_normal(rng, n, spread=0.02):
    return np.exp(spread * rng.standard_normal(n))


def loud(rng, n):
    return log_normal(rng, n, 0.3)


def heavy_tailed(rng, n):
    """Every few calls one takes up to three times as long."""
    return 1 + 0.02 * np.abs(rng.standard_t(1.5, n)).clip(0, 100)


def bimodal(rng, n):
    return np.where(rng.random(n) < 0.4, 1.3, 1) * log_normal(rng, n, 0.01)


def autocorrelated(rng, n):
    """A spread of 5 %, each call correlated by 0.5 with the one before."""
    steps = 0.05 * math.sqrt(0.75) * rng.standard_normal(n)
    values = np.empty(n)
    values[0] = steps[0]
    for i in range(1, n):
        values[i] = 0.5 * values[i - 1] + steps[i]
    return np.exp(values)


def seeds(n_seeds):
    """A third or half of the seeds every day, all of them at night."""
    return pytest.mark.parametrize("n_seeds", [20, pytest.param(n_seeds, marks=pytest.mark.slow)])


def test_constant_calls_are_steady_after_the_least_time():
    warm_up = warm([5e6] * CALLS)
    assert warm_up.ended == "steady"
    assert warm_up.n_calls == 30, "150 ms"
    assert warm_up.latency_ns == 5e6


def test_slow_calls_are_steady_after_ten():
    assert warm([4e8] * 1000).n_calls == 10


def test_very_short_calls_do_not_go_on_for_ever():
    warm_up = warm([100] * 100_000)
    assert (warm_up.ended, warm_up.n_calls) == ("steady", 10_000)


@seeds(60)
@pytest.mark.parametrize("noise", [log_normal, loud, heavy_tailed, bimodal, autocorrelated])
@pytest.mark.parametrize("call_ns", [5e5, 5e6, 4e7])
def test_noise_alone_is_steady(noise, call_ns, n_seeds):
    n = int(1.5e10 / call_ns)
    ends = [warm(call_ns * noise(np.random.default_rng(seed), n)) for seed in range(n_seeds)]
    assert np.mean([warm_up.ended == "budget" for warm_up in ends]) <= 0.05


@seeds(60)
@pytest.mark.parametrize(("spread", "typical_ms", "most_ms"), [(0.003, 250, 400), (0.01, 300, 500), (0.3, 1300, 2500)])
def test_noise_alone_keeps_nobody_waiting_for_long(spread, typical_ms, most_ms, n_seeds):
    taken = []
    for seed in range(n_seeds):
        durations = 5e6 * log_normal(np.random.default_rng(seed), CALLS, spread)
        taken.append(milliseconds(durations, warm(durations)))
    assert np.median(taken) <= typical_ms
    assert np.quantile(taken, 0.9) <= most_ms


@seeds(40)
@pytest.mark.parametrize("noise", [None, log_normal, heavy_tailed, autocorrelated])
@pytest.mark.parametrize(("first", "decay_ns"), [(3.0, 5e7), (3.0, 2e8), (1.3, 1e8)])
def test_a_decay_is_waited_for(noise, first, decay_ns, n_seeds):
    level = 1 + (first - 1) * np.exp(-np.arange(CALLS) * 2e6 / decay_ns)
    ends = [
        warm(2e6 * level * (1 if noise is None else noise(np.random.default_rng(seed), CALLS)))
        for seed in range(n_seeds)
    ]
    assert np.mean([warm_up.ended == "budget" for warm_up in ends]) <= 0.05
    early = [level[warm_up.n_calls - 1] > 1.03 for warm_up in ends]
    assert np.mean(early) <= 0.05, "calls still got faster by more than 3 %"


@seeds(40)
@pytest.mark.parametrize("noise", [None, log_normal, heavy_tailed])
@pytest.mark.parametrize("slow_calls", [40, 50, 55])
def test_a_faster_kernel_that_arrives_late_is_waited_for(noise, slow_calls, n_seeds):
    # 75 calls of 2 ms are the least time; the change happens in the chunks that are looked at then.
    level = np.where(np.arange(CALLS) < slow_calls, 1.2, 1.0)
    ends = [
        warm(2e6 * level * (1 if noise is None else noise(np.random.default_rng(seed), CALLS)))
        for seed in range(n_seeds)
    ]
    assert all(warm_up.ended == "steady" for warm_up in ends)
    assert np.mean([warm_up.n_calls < 1.2 * slow_calls for warm_up in ends]) <= 0.05
    assert np.median([warm_up.latency_ns for warm_up in ends]) == pytest.approx(2e6, rel=0.05)


def test_a_slow_drift_is_seen_on_a_quiet_machine():
    # 10 % a second, which in the least time is 1 %.
    level = 1 + np.maximum(0, 0.2 - 0.1 * np.arange(CALLS) * 5e6 / 1e9)
    early = []
    for seed in range(40):
        warm_up = warm(5e6 * level * log_normal(np.random.default_rng(seed), CALLS, 0.002))
        early.append(level[warm_up.n_calls - 1] > 1.03)
    assert np.mean(early) <= 0.05


@seeds(40)
@pytest.mark.parametrize("noise", [log_normal, heavy_tailed])
def test_throttling_that_begins_while_warming_up_is_not_called_steady(noise, n_seeds):
    # Slower by 30 % after 0.12 s, in steps to which the clock falls for one more second.
    at_s = np.arange(CALLS) * 2e6 / 1e9
    level = 1 + 0.3 * np.clip(np.floor((at_s - 0.02) / 0.1) / 10, 0, 1)
    early = []
    for seed in range(n_seeds):
        warm_up = warm(2e6 * level * noise(np.random.default_rng(seed), CALLS))
        early.append(level[warm_up.n_calls - 1] < 1.27)
    assert np.mean(early) <= 0.1


def test_one_hiccup_delays_nothing():
    durations = [5e6] * CALLS
    durations[24] = 5e8
    warm_up = warm(durations)
    assert warm_up.ended == "steady"
    assert warm_up.n_calls <= 30


def test_calls_that_never_settle_end_with_the_budget():
    limits = WarmUpLimits(max_ns=1_000_000_000)
    warm_up = warm(2e6 * 1.01 ** np.arange(10_000), limits)
    assert warm_up.ended == "budget"


def test_a_longer_least_time_is_kept():
    durations = [2e6] * CALLS
    taken = [milliseconds(durations, warm(durations, WarmUpLimits(min_ns=ns))) for ns in (0, 10**8, 10**9)]
    assert all(shorter < longer for shorter, longer in pairwise(taken))
    assert taken[2] >= 1000


@pytest.mark.parametrize("limits", [{"min_ns": 2, "max_ns": 1}, {"chunk_ns": 0}, {"tolerance": 1.0}, {"margin": 0.0}])
def test_limits_that_contradict_each_other_are_refused(limits):
    with pytest.raises(SettingError, match="contradict"):
        WarmUpLimits(**limits)
