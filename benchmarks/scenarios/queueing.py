"""The queue of the Server scenario as a calculation: the discipline that the real streams follow, without time."""

from __future__ import annotations

import heapq

import numpy as np

from benchmarks.errors import SettingError
from benchmarks.scenarios.arrivals import Nanoseconds

__all__ = ["issue_delays", "simulate_server"]


def simulate_server(
    scheduled_ns: Nanoseconds, service_ns: Nanoseconds, streams: int = 1
) -> tuple[Nanoseconds, Nanoseconds]:
    """Serve requests in the order of their arrival, each by the stream that is free first; the queue has no limit.

    Parameters
    ----------
    scheduled_ns : ndarray of shape (n,)
        Arrivals, ascending.
    service_ns : ndarray of shape (n,)
        How long each request is served.
    streams : int, default=1
        That serve.

    Returns
    -------
    issued_ns, done_ns : ndarray of shape (n,)
        When each request began to be served, and when it was answered.

    Raises
    ------
    SettingError
        No stream, or not one service for each arrival.
    """
    if streams < 1:
        raise SettingError(f"streams must be at least 1, got {streams}")
    if len(scheduled_ns) != len(service_ns):
        raise SettingError(f"{len(scheduled_ns)} arrivals want as many services, got {len(service_ns)}")
    if streams == 1:
        # Lindley: done[i] = max(scheduled[i], done[i - 1]) + service[i], with the running sum of services taken out.
        total = np.cumsum(service_ns)
        done = np.maximum.accumulate(scheduled_ns - (total - service_ns)) + total
        return done - service_ns, done
    free = [0] * streams
    done = np.empty_like(scheduled_ns)
    for index, (arrival, service) in enumerate(zip(scheduled_ns.tolist(), service_ns.tolist(), strict=True)):
        end = max(arrival, free[0]) + service
        heapq.heapreplace(free, end)
        done[index] = end
    return done - service_ns, done


def issue_delays(
    scheduled_ns: Nanoseconds, issued_ns: Nanoseconds, done_ns: Nanoseconds, streams: int = 1
) -> Nanoseconds:
    """Give what the harness itself added: how long after it could a request began to be served.

    A request can be served once it has arrived and a stream is free. The rest is a wait that ended late, or a stream
    that did not come back at once.

    Parameters
    ----------
    scheduled_ns, issued_ns, done_ns : ndarray of shape (n,)
        As recorded, in the order of arrival.
    streams : int, default=1
        That served.

    Returns
    -------
    ndarray of shape (n,), dtype int64
        Nanoseconds, 0 or more.
    """
    free = [0] * streams
    delays = np.zeros_like(issued_ns)
    rows = zip(scheduled_ns.tolist(), issued_ns.tolist(), done_ns.tolist(), strict=True)
    for index, (arrival, issued, done) in enumerate(rows):
        delays[index] = max(0, issued - max(arrival, free[0]))
        heapq.heapreplace(free, done)
    return delays
