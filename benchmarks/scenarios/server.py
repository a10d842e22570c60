"""Server scenario in the measured process: streams serve requests from a schedule; search for the highest rate.

There is no issuing thread and no queue between threads: a free stream takes the next arrival of the schedule and waits
for it if it is still in the future. This is the same discipline (in order of arrival, first free stream, no limit)
without the cost of a hand-over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scenarios.arrivals import Nanoseconds, poisson_arrivals
from benchmarks.scenarios.definitions import Server
from benchmarks.scenarios.offline import run_offline
from benchmarks.scenarios.search import Found, highest_rate
from benchmarks.scenarios.streams import Halt, run_streams
from benchmarks.scenarios.waiting import SPIN_NS, Clock, Sleep, wait_until
from benchmarks.stats.percentile_bounds import allowed_over_latency, holds_bound

__all__ = ["ServerSamples", "find_server_rate", "judge", "run_server"]

_PILOT_CALLS = 32
_START = 0.6  # of the rate of the streams without pause: usually below the answer rather than above


@dataclass(frozen=True, slots=True)
class ServerSamples:
    """The served requests of one probe, in the order of their arrival.

    Parameters
    ----------
    scheduled_ns, issued_ns, done_ns : ndarray of shape (n,)
        Nanoseconds from the common start.
    holds : bool
        Whether the percentile meets the bound by the early-stopping rule.
    """

    scheduled_ns: Nanoseconds
    issued_ns: Nanoseconds
    done_ns: Nanoseconds
    holds: bool


def judge(latencies_ns: Nanoseconds, planned: int, bound_ns: int, share: float) -> bool:
    """Return whether a probe holds: all planned requests were served, and few enough were over the bound.

    Parameters
    ----------
    latencies_ns : ndarray of shape (n,)
        Times from the scheduled arrival to the answer.
    planned : int
        Requests that were to be served.
    bound_ns : int
        Latency bound.
    share : float
        Share of requests that must meet it: 0.99 for p99.
    """
    n = len(latencies_ns)
    return n == planned and holds_bound(n, int((latencies_ns > bound_ns).sum()), share).holds


def run_server(
    calls: Sequence[Callable[[], None]],
    scheduled_ns: Nanoseconds,
    *,
    bound_ns: int,
    share: float,
    clock: Clock,
    sleep: Sleep,
    spin_ns: int = SPIN_NS,
) -> ServerSamples:
    """Serve a schedule; stop early once too many requests were over the bound for it to hold.

    Parameters
    ----------
    calls : sequence of callable
        One per stream; synchronous.
    scheduled_ns : ndarray of shape (n,)
        Arrival times from the start, ascending.
    bound_ns : int
        Latency bound.
    share : float
        Share of requests that must meet it.
    clock, sleep : callable
        See `benchmarks.scenarios.waiting`.
    spin_ns : int
        See `wait_until`.
    """
    planned = len(scheduled_ns)
    arrivals = scheduled_ns.tolist()
    allowed = allowed_over_latency(planned, share)
    most_over = -1 if allowed is None else allowed
    issued, done = (np.full(planned, -1, np.int64) for _ in range(2))
    numbers, halt = itertools.count(), Halt()
    over: list[int] = []

    def loop(stream: int, start_ns: int) -> None:
        call = calls[stream]
        while (index := next(numbers)) < planned and not halt.asked:
            due_ns = start_ns + arrivals[index]
            wait_until(due_ns, clock, sleep, spin_ns)
            before = clock()
            call()
            after = clock()
            issued[index], done[index] = before, after
            if after - due_ns > bound_ns:
                over.append(index)
                if len(over) > most_over:
                    halt.asked = True

    start_ns = run_streams(loop, len(calls), clock, halt)
    served = done >= 0
    scheduled, issued, done = scheduled_ns[served], issued[served] - start_ns, done[served] - start_ns
    return ServerSamples(scheduled, issued, done, judge(done - scheduled, planned, bound_ns, share))


def find_server_rate(
    calls: Sequence[Callable[[], None]], settings: Server, clock: Clock, sleep: Sleep
) -> Found[ServerSamples]:
    """Find the highest arrival rate that meets the bound, or test the one rate given in the settings.

    Parameters
    ----------
    calls : sequence of callable
        One per stream; synchronous.
    settings : Server
        Rate or bound, percentile and duration.
    clock, sleep : callable
        See `benchmarks.scenarios.waiting`.
    """
    queries = settings.probe_queries
    seeds = itertools.count(settings.seed)
    deadline_ns = clock() + settings.budget_ns

    def probe(rate_per_s: float) -> ServerSamples:
        return run_server(
            calls,
            poisson_arrivals(rate_per_s, queries, next(seeds) % 2**32),
            bound_ns=settings.bound_ns,
            share=settings.share,
            clock=clock,
            sleep=sleep,
            spin_ns=settings.spin_ns,
        )

    def affordable(rate_per_s: float) -> bool:
        return clock() + 1e9 * queries / rate_per_s <= deadline_ns

    if settings.rate_per_s is not None:
        return Found.of_one(settings.rate_per_s, probe(settings.rate_per_s))
    start_per_s = settings.start_per_s
    if start_per_s is None:
        n_calls = _PILOT_CALLS * len(calls)
        _, done_ns = run_offline(calls, n_calls, clock, sleep)
        start_per_s = _START * 1e9 * n_calls / max(1, int(done_ns.max()))
    return highest_rate(
        probe,
        start_per_s,
        resolution=settings.resolution,
        max_probes=settings.max_probes,
        affordable=affordable,
    )
