"""Queues against theory: what the Server scenario finds is what queueing theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.errors import SettingError
from benchmarks.scenarios.arrivals import poisson_arrivals

SERVICE_NS = 1_000_000
N = 4_000_000


def md1_waits_within(time, utilisation):
    """Give P(wait <= time) of M/D/1, time in services: Erlang (1909), Crommelin (1932)."""
    terms = []
    for k in range(math.floor(time) + 1):
        x = utilisation * (time - k)
        terms.append((-1) ** k * x**k / math.factorial(k) * math.exp(x))
    return (1 - utilisation) * math.fsum(terms)


def md1_response(utilisation, share):
    """Give the percentile of the response time of M/D/1 in services."""
    low, high = 0.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if md1_waits_within(middle, utilisation) < share else (low, middle)
    return 1 + high


def rate_per_s(utilisation):
    return utilisation * 1e9 / SERVICE_NS


@pytest.mark.parametrize("utilisation", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_p99_of_random_services_is_that_of_m_m_1(simulate_server, utilisation):
    arrivals = poisson_arrivals(rate_per_s(utilisation), N, seed=1)
    services = np.random.default_rng(2).exponential(SERVICE_NS, N).astype(np.int64)
    _, done = simulate_server(arrivals, services)
    mu_minus_lambda = (1 - utilisation) / SERVICE_NS
    assert np.quantile(done - arrivals, 0.99) == pytest.approx(-math.log(0.01) / mu_minus_lambda, rel=0.05)


@pytest.mark.parametrize("utilisation", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_p99_of_constant_services_is_that_of_m_d_1(simulate_server, utilisation):
    arrivals = poisson_arrivals(rate_per_s(utilisation), N, seed=3)
    _, done = simulate_server(arrivals, np.full(N, SERVICE_NS))
    theory = md1_response(utilisation, 0.99) * SERVICE_NS
    assert np.quantile(done - arrivals, 0.99) == pytest.approx(theory, rel=0.05)


def test_the_formula_of_m_d_1_has_the_mean_of_pollaczek_and_khinchine():
    utilisation = 0.7
    times = np.linspace(0, 25, 25_001)
    tail = [1 - md1_waits_within(time, utilisation) for time in times]
    assert np.trapezoid(tail, times) == pytest.approx(utilisation / (2 * (1 - utilisation)), rel=1e-3)


@pytest.mark.parametrize("utilisation", [0.5, 0.8])
def test_two_streams_are_m_m_2(simulate_server, utilisation):
    n = 500_000
    arrivals = poisson_arrivals(2 * rate_per_s(utilisation), n, seed=4)
    services = np.random.default_rng(5).exponential(SERVICE_NS, n).astype(np.int64)
    _, done = simulate_server(arrivals, services, streams=2)
    assert (done - arrivals).mean() == pytest.approx(SERVICE_NS / (1 - utilisation**2), rel=0.05)


def test_a_hand_made_queue(simulate_server):
    arrivals, services = np.array([0, 1, 2, 30]), np.array([10, 10, 3, 5])
    issued, done = simulate_server(arrivals, services)
    assert (issued.tolist(), done.tolist()) == ([0, 10, 20, 30], [10, 20, 23, 35])
    issued, done = simulate_server(arrivals, services, streams=2)
    assert (issued.tolist(), done.tolist()) == ([0, 1, 10, 30], [10, 11, 13, 35])


def test_arrivals_are_poisson_and_their_seed_decides():
    arrivals = poisson_arrivals(250.0, 100_001, seed=7)
    gaps = np.diff(arrivals)
    assert arrivals[0] == 0
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(4_000_000, rel=0.01)
    assert gaps.std() == pytest.approx(4_000_000, rel=0.02)
    assert np.quantile(gaps, 0.99) == pytest.approx(-math.log(0.01) * 4_000_000, rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.01
    assert np.array_equal(arrivals[:100], poisson_arrivals(250.0, 100, seed=7))
    assert not np.array_equal(arrivals[:100], poisson_arrivals(250.0, 100, seed=8))


def test_arrivals_scale_with_the_rate():
    slow, fast = poisson_arrivals(10.0, 1000, seed=3), poisson_arrivals(1000.0, 1000, seed=3)
    assert np.abs(slow - 100 * fast).max() <= 100 * 1000  # each gap is cut to whole nanoseconds


def test_the_first_gap_is_that_of_the_reference_twister():
    first, second = 3499211612, 581869302  # of the 32-bit twister with its default seed 5489
    uniform = (first + second * 2**32) / 2**64
    assert poisson_arrivals(1.0, 2, seed=5489)[1] == int(-math.log(1 - uniform) * 1e9)


@pytest.mark.parametrize("arguments", [(0.0, 5, 0), (math.inf, 5, 0), (1.0, 0, 0), (1.0, 5, -1), (1.0, 5, 2**32)])
def test_arrivals_that_make_no_sense_are_refused(arguments):
    with pytest.raises(SettingError):
        poisson_arrivals(*arguments)
