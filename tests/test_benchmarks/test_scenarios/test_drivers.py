"""The drivers inside the measured process: on simulated time they are exact, on threads they keep their promises."""

from __future__ import annotations

import gc
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from backends.errors import RunError
from benchmarks.scenarios.arrivals import poisson_arrivals
from benchmarks.scenarios.definitions import MultiStream, Server
from benchmarks.scenarios.multi import run_multi_stream
from benchmarks.scenarios.offline import offline_calls, run_offline
from benchmarks.scenarios.server import find_server_rate, judge, run_server
from benchmarks.scenarios.streams import LEAD_NS, Halt, run_streams
from benchmarks.scenarios.waiting import SPIN_NS, sharp_timers, spin_ns_for, wait_until

MS = 1_000_000


class SimulatedTime:
    """A clock that only calls and sleeps move."""

    def __init__(self, services_ns):
        self.now = 5_000
        self.services = iter(services_ns)
        self.sleeps = 0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.sleeps += 1
        self.now += round(seconds * 1e9)

    def call(self):
        self.now += int(next(self.services))


def served(simulated, scheduled, *, bound_ns=10**12, share=0.99):
    return run_server(
        [simulated.call],
        scheduled,
        bound_ns=bound_ns,
        share=share,
        clock=simulated.clock,
        sleep=simulated.sleep,
        spin_ns=0,
    )


@pytest.mark.parametrize("utilisation", [0.3, 0.9, 1.5])
def test_the_server_is_the_simulated_queue(simulate_server, utilisation):
    scheduled = poisson_arrivals(1000 * utilisation, 800, seed=1)
    services = np.random.default_rng(2).exponential(MS, 800).astype(np.int64)
    samples = served(SimulatedTime(services), scheduled)
    issued, done = simulate_server(scheduled, services)
    assert np.array_equal(samples.scheduled_ns, scheduled)
    assert np.array_equal(samples.issued_ns, issued)
    assert np.array_equal(samples.done_ns, done)


def test_a_service_slower_than_the_arrivals_shows_in_the_latency():
    scheduled = MS * np.arange(100)
    samples = served(SimulatedTime([2 * MS] * 100), scheduled)
    assert ((samples.done_ns - samples.issued_ns) == 2 * MS).all()  # what a loop around the call would report
    assert (samples.done_ns - samples.scheduled_ns).tolist() == [(2 + index) * MS for index in range(100)]


def test_real_threads_count_latency_from_the_schedule():
    scheduled = MS * np.arange(20)
    samples = run_server(
        [lambda: time.sleep(0.002)],
        scheduled,
        bound_ns=10**12,
        share=0.5,
        clock=time.perf_counter_ns,
        sleep=time.sleep,
        spin_ns=0,
    )
    latencies = samples.done_ns - samples.scheduled_ns
    assert all(latency >= (2 + index) * MS for index, latency in enumerate(latencies.tolist()))


@pytest.mark.parametrize("spin_ns", [0, SPIN_NS])
def test_no_request_is_served_before_it_arrives_and_each_once(spin_ns):
    scheduled = poisson_arrivals(2000.0, 300, seed=0)
    lock, busy = threading.Lock(), [0, 0]

    def call():
        with lock:
            busy[0] += 1
            busy[1] += 1
        with lock:
            busy[0] -= 1

    samples = run_server(
        [call, call, call],
        scheduled,
        bound_ns=10**12,
        share=0.99,
        clock=time.perf_counter_ns,
        sleep=time.sleep,
        spin_ns=spin_ns,
    )
    assert busy == [0, 300]
    assert np.array_equal(samples.scheduled_ns, scheduled)
    assert (samples.issued_ns >= samples.scheduled_ns).all()
    assert (samples.done_ns >= samples.issued_ns).all()


def test_a_probe_that_cannot_hold_any_more_is_ended():
    scheduled = MS * np.arange(2010)
    samples = served(SimulatedTime([2 * MS] * 2010), scheduled, bound_ns=50 * MS)
    latencies = samples.done_ns - samples.scheduled_ns
    assert not samples.holds
    assert int((latencies > 50 * MS).sum()) == 11  # p99 of 2010 allows 10
    assert len(latencies) == 60


@pytest.mark.parametrize(
    ("n", "n_over", "planned", "holds"),
    [(662, 1, 662, True), (662, 2, 662, False), (661, 1, 661, False), (459, 0, 459, True), (662, 1, 700, False)],
)
def test_a_probe_is_judged_by_early_stopping(n, n_over, planned, holds):
    latencies = np.array([11] * n_over + [10] * (n - n_over))
    assert judge(latencies, planned, 10, 0.99) is holds


def test_the_search_finds_where_the_bound_breaks():
    # The service is constant and the bound generous, so the highest rate is close to what the stream can do at all.
    simulated = SimulatedTime(MS for _ in iter(int, 1))
    settings = Server(bound_ns=40 * MS, share=0.9, queries=3000, budget_ns=10**15, spin_ns=0)
    found = find_server_rate([simulated.call], settings, simulated.clock, simulated.sleep)
    assert found.ended == "resolved"
    assert found.probes[0][0] == pytest.approx(600.0, rel=1e-3)
    assert 900 < found.held_per_s < 1000
    rates = {rate for rate, _ in found.probes}
    starts = [tuple(outcome.scheduled_ns[:5].tolist()) for _, outcome in found.probes]
    assert len(set(starts)) == len(starts) > len(rates), "every probe has arrivals of its own"


def test_the_search_keeps_its_budget():
    simulated = SimulatedTime(MS for _ in iter(int, 1))
    settings = Server(bound_ns=40 * MS, share=0.9, queries=3000, budget_ns=12_000_000_000, spin_ns=0)
    found = find_server_rate([simulated.call], settings, simulated.clock, simulated.sleep)
    assert found.ended == "time"
    assert simulated.now < 12_500_000_000


def test_a_given_rate_is_judged_and_nothing_else():
    simulated = SimulatedTime([MS] * 2010)
    settings = Server(bound_ns=40 * MS, rate_per_s=500.0, spin_ns=0)
    found = find_server_rate([simulated.call], settings, simulated.clock, simulated.sleep)
    assert found.ended == "one rate"
    assert found.held_per_s == 500.0
    assert np.array_equal(found.probes[0][1].scheduled_ns, poisson_arrivals(500.0, 2010, 0))


@pytest.mark.parametrize(("min_calls", "made"), [(10, 20), (50, 50)])
def test_multi_stream_times_each_call_and_meets_both_minima(min_calls, made):
    simulated = SimulatedTime([3 * MS] * 1000)
    settings = MultiStream(streams=1, min_calls=min_calls, min_duration_ns=60 * MS)
    (one,) = run_multi_stream([simulated.call], settings, simulated.clock, simulated.sleep)
    assert ((one.done_ns - one.issued_ns) == 3 * MS).all()
    assert len(one.done_ns) == made


def test_the_callers_are_there_at_once_and_each_keeps_its_call():
    all_there = threading.Barrier(3)
    threads = [set(), set(), set()]

    def call_of(stream):
        def call():
            if not threads[stream]:
                all_there.wait(30)  # breaks when the streams do not call at the same time
            threads[stream].add(threading.get_ident())

        return call

    callers = run_multi_stream(
        [call_of(stream) for stream in range(3)],
        MultiStream(streams=3, min_calls=90, min_duration_ns=0),
        time.perf_counter_ns,
        time.sleep,
    )
    assert [len(idents) for idents in threads] == [1, 1, 1]
    assert len(set.union(*threads)) == 3
    for one in callers:
        assert len(one.done_ns) >= 30
        assert (one.issued_ns >= 0).all()
        assert (one.done_ns >= one.issued_ns).all()
        assert all(done <= issued for done, issued in pairwise(np.ravel([one.issued_ns, one.done_ns], order="F")))


def test_a_caller_that_runs_out_of_room_stops_all():
    callers = run_multi_stream(
        [lambda: None, lambda: time.sleep(0.001)],
        MultiStream(streams=2, min_calls=10, min_duration_ns=3600 * 10**9, max_calls=40),
        time.perf_counter_ns,
        time.sleep,
    )
    assert len(callers[0].done_ns) == 40
    assert 1 <= len(callers[1].done_ns) <= 40


def test_offline_shares_the_calls_between_streams():
    numbers = []
    issued, done = run_offline([lambda: numbers.append(1)] * 3, 100, time.perf_counter_ns, time.sleep)
    assert len(numbers) == 100
    assert (issued >= 0).all()
    assert (done >= issued).all()


def test_offline_on_one_stream_leaves_no_pause():
    simulated = SimulatedTime([MS] * 50)
    issued, done = run_offline([simulated.call], 50, simulated.clock, simulated.sleep)
    assert issued.tolist() == [MS * index for index in range(50)]
    assert done.tolist() == [MS * (index + 1) for index in range(50)]


def test_offline_lasts_as_long_as_wanted_and_has_enough_calls():
    assert offline_calls(1e6, 2, 10_000 * MS) == 22_000
    assert offline_calls(1e9, 1, 10 * MS) == 662


@pytest.mark.parametrize("failing", [0, 1])
def test_the_error_of_one_stream_ends_all_and_is_raised(failing):
    made = []

    def broken():
        made.append(1)
        if len(made) == 3:
            raise RunError("the runtime failed")

    calls = [lambda: time.sleep(0.001)] * 2
    calls[failing] = broken
    settings = MultiStream(streams=2, min_calls=1, min_duration_ns=3600 * 10**9)
    with pytest.raises(RunError, match="the runtime failed"):
        run_multi_stream(calls, settings, time.perf_counter_ns, time.sleep)
    assert len(made) == 3


@pytest.mark.parametrize("streams", [1, 2])
def test_the_collector_rests_while_streams_run_and_is_switched_on_again(streams):
    seen = []
    run_streams(lambda stream, start: seen.append(gc.isenabled()), streams, time.perf_counter_ns, Halt())
    assert seen == [False] * streams
    assert gc.isenabled()


def test_streams_share_one_start_that_is_still_to_come():
    starts = []
    begun = time.perf_counter_ns()
    start = run_streams(lambda stream, start: starts.append(start), 4, time.perf_counter_ns, Halt())
    assert set(starts) == {start}
    assert start >= begun + LEAD_NS


@pytest.mark.parametrize("spin_ns", [0, 3 * MS])
def test_a_wait_never_ends_early(spin_ns):
    with sharp_timers():
        for _ in range(20):
            target = time.perf_counter_ns() + MS
            wait_until(target, time.perf_counter_ns, time.sleep, spin_ns)
            assert time.perf_counter_ns() >= target


def test_a_wait_sleeps_first_and_spins_at_the_end():
    ticks = iter(range(0, 10**9, 1000))
    slept = []
    wait_until(5 * MS, lambda: next(ticks) + sum(slept), lambda s: slept.append(round(s * 1e9)), SPIN_NS)
    assert sum(slept) == pytest.approx(5 * MS - SPIN_NS, abs=2000)
    assert len(slept) == 1
    assert next(ticks) > SPIN_NS - 5000


def test_nobody_spins_where_threads_are_more_than_cores():
    assert spin_ns_for(2, 2) == SPIN_NS
    assert spin_ns_for(3, 2) == 0
