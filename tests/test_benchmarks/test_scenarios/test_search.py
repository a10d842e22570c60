"""The search for the highest rate: on thresholds, on noise, on a simulated queue."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest

from benchmarks.errors import SettingError
from benchmarks.scenarios.arrivals import poisson_arrivals
from benchmarks.scenarios.search import highest_rate
from benchmarks.scenarios.server import judge
from benchmarks.stats.percentile_bounds import queries_needed


@dataclass
class Outcome:
    holds: bool


def threshold(highest):
    return lambda rate: Outcome(rate <= highest)


@pytest.mark.parametrize("start", [0.3, 90.0, 100.0, 20_000.0])
@pytest.mark.parametrize("resolution", [0.01, 0.1])
def test_it_brackets_the_highest_rate_from_any_start(start, resolution):
    found = highest_rate(threshold(100.0), start, resolution=resolution, max_probes=40)
    assert found.ended == "resolved"
    assert found.held_per_s <= 100.0 < found.failed_per_s
    assert found.failed_per_s <= found.held_per_s * (1 + resolution)
    assert sum(rate == found.held_per_s for rate, _ in found.probes) == 2


@pytest.mark.parametrize(("highest", "held", "failed"), [(0.0, False, True), (1e30, True, False)])
def test_probes_run_out_where_nothing_or_everything_holds(highest, held, failed):
    found = highest_rate(threshold(highest), 10.0, max_probes=7)
    assert (found.ended, len(found.probes)) == ("probes", 7)
    assert (found.held_per_s is not None, found.failed_per_s is not None) == (held, failed)


def test_no_probe_is_begun_that_the_time_does_not_allow():
    asked = []
    found = highest_rate(threshold(100.0), 80.0, affordable=lambda rate: asked.append(rate) or len(asked) < 3)
    assert found.ended == "time"
    assert [rate for rate, _ in found.probes] == [80.0, *asked[:2]]


def test_a_rate_that_held_by_luck_is_not_the_answer():
    tried = []

    def probe(rate):
        tried.append(rate)
        return Outcome(rate <= 100.0 or (rate < 110.0 and tried.count(rate) == 1))

    found = highest_rate(probe, 80.0, resolution=0.02, max_probes=60)
    assert found.ended == "resolved"
    assert found.held_per_s <= 100.0 < found.failed_per_s


def test_a_rate_above_one_that_failed_never_counts_as_held():
    outcomes = {10.0: True, 15.0: True, 22.5: False}
    found = highest_rate(lambda rate: Outcome(outcomes.get(rate, False)), 10.0, resolution=0.02, max_probes=12)
    assert found.failed_per_s is not None
    assert found.held_per_s is None or found.held_per_s < found.failed_per_s


@pytest.mark.parametrize("arguments", [{"start_per_s": 0.0}, {"resolution": 0.0}, {"max_probes": 0}])
def test_a_search_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(SettingError):
        highest_rate(threshold(1.0), **{"start_per_s": 1.0, **arguments})


@pytest.mark.parametrize("utilisation", [0.5, 0.7, 0.85])
@pytest.mark.parametrize("seed", [0, 1000])
def test_the_rate_found_on_m_d_1_is_that_of_theory(simulate_server, utilisation, seed):
    service_ns, n = 1_000_000, queries_needed(0.99, 1000)
    # P(wait <= time) of M/D/1 is 0.99 at these times, in services; by `test_scenarios_queueing.md1_response`.
    wait = {0.5: 3.33626, 0.7: 6.48550, 0.85: 14.20861}[utilisation]
    bound_ns = round((1 + wait) * service_ns)
    seeds = count(seed)

    def probe(rate):
        arrivals = poisson_arrivals(rate, n, next(seeds))
        _, done = simulate_server(arrivals, np.full(n, service_ns))
        return Outcome(judge(done - arrivals, n, bound_ns, 0.99))

    found = highest_rate(probe, 600.0, resolution=0.02)
    assert found.ended == "resolved"
    assert found.held_per_s == pytest.approx(1000 * utilisation, rel=0.05)
